"""Fixtures: the images, and a simulator on this machine whose modules run in containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import BUILD_S, ROOT, docker, missing
from tests.e2e.conftest import Edge, edge, models
from twinship.bench.report import report

__all__ = ["edge", "models"]

REPORT = ROOT / "build" / "bench" / "report.json"
MODULES = ("inference", "camera_sim")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip every test of this folder by name where no engine answers."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if here and (why := missing()):
        for item in here:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def images() -> None:
    """All modules' images and the workbench's, built as `docker compose up` builds them."""
    for service in ("inference", "camera_sim", "dashboard", "edge"):
        docker("compose", "build", service, timeout_s=BUILD_S)


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, Any]]:
    """Figures of the images, which go to build/bench/report.json → images."""
    found: dict[str, Any] = {}
    yield found
    if found:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        known = report.read(REPORT).get("images", {})
        report.write(REPORT, {}, {"images": {**known, **found}})


@pytest.fixture
def containers(images: None, edge: Edge) -> Iterator[Edge]:
    """A simulator that starts neither module; their containers are removed at the end."""
    yield edge
    docker("rm", "--force", "--volumes", *MODULES, check=False)
