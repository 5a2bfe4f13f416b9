"""Fixtures: the images, and a simulator on this machine whose modules run in containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import BASE, BUILD_S, DEFAULT_BASE, ROOT, TAG, docker, missing
from tests.containers.registry import running_registry
from tests.containers.solution import Solution
from tests.e2e.conftest import Edge, edge, models
from twinship.bench.report import report
from twinship.fleet import keys

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
def train_image() -> Iterator[str]:
    """The image with TensorFlow. It is removed afterwards, for it is large; the builder keeps its layers."""
    name = f"twinship-train:{TAG.removesuffix('-amd64')}"
    docker("compose", "build", "train", timeout_s=BUILD_S)
    yield name
    docker("rmi", name, check=False)


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


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on loopback, as HOST:PORT."""
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def solution(registry: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Solution:
    """This project with a registry, its credentials, a signing key and pictures."""
    folder = tmp_path_factory.mktemp("solution")
    keys.new(folder / "keys")
    variables = {
        "CONTAINER_REGISTRY_SERVER": registry,
        "CONTAINER_REGISTRY_USERNAME": "someone",
        "CONTAINER_REGISTRY_PASSWORD": "anything",  # this registry asks for none
        "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(folder / "keys"),
        "CAMERA_FOLDER": str(models / "1.0.0" / "frames"),
    }
    return Solution(folder, variables)


@pytest.fixture(scope="session")
def pushed(solution: Solution) -> Iterator[Solution]:
    """The same after `iotedgedev build` and `iotedgedev push`, with the default base of the Dockerfiles."""
    lent = not docker("images", "--quiet", DEFAULT_BASE).strip()
    if lent:  # module.json has no build argument for another base
        docker("tag", BASE, DEFAULT_BASE)
    before = steps_of_builds()
    try:
        solution.iotedgedev("build", "--platform", "amd64", timeout_s=BUILD_S)
        solution.iotedgedev("push", "--no-build", "--platform", "amd64", timeout_s=BUILD_S)
        yield solution
    finally:
        made = [f"{solution.registry}/{module}:{TAG}" for module in MODULES]
        docker("rmi", *made, *([DEFAULT_BASE] if lent else []), check=False)
        docker("rm", *(steps_of_builds() - before), check=False)  # iotedgedev leaves them


def steps_of_builds() -> set[str]:
    """The ended containers of older builders' steps: their image is an id without a name."""
    listed = docker(
        "ps", "--all", "--no-trunc", "--filter", "status=exited", "--format", "{{.Image}} {{.ID}}"
    )
    return {line.split()[1] for line in listed.splitlines() if line.startswith("sha256:")}
