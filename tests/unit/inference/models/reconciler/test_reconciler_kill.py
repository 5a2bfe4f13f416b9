"""SIGKILL at every step of a start and of a change of models: a verified model serves after it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import LABELS, ROOT
from tests.unit.inference.fixtures.device import Device, Publisher

OURS = Publisher()
NEW = "2.0.0"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device that stores the maximum of models: the next one replaces the oldest."""
    folder = tmp_path_factory.mktemp("kill") / "base"
    with Device(folder) as device:
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            device.install(OURS.section(version))
    return folder


def killed(change: str, base: Path, scratch: Path) -> list[str]:
    """The steps at which a process was killed; its folders are scratch/1, scratch/2, …"""
    section = scratch / "section.json"
    section.write_text(json.dumps(OURS.section(NEW)))
    program = [sys.executable, "-m", "tests.unit.inference.models.reconciler.kill_points", change]
    words = [*program, str(base), str(scratch), str(section)]
    ended = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=240)
    steps: str = ended.stdout
    return steps.splitlines()


@pytest.mark.parametrize(
    ("change", "before", "after", "kinds"),
    [
        ("install", "1.2.0", NEW, {"mkdir", "open", "sync", "replace", "remove"}),
        pytest.param("start", "1.2.0", "1.1.0", {"mkdir", "open", "sync", "replace"}, marks=pytest.mark.long),
        pytest.param(
            "rollback", "1.2.0", "1.1.0", {"mkdir", "open", "sync", "replace"}, marks=pytest.mark.long
        ),
    ],
)
def test_a_kill_at_any_step_leaves_a_verified_model(
    tmp_path: Path, base: Path, change: str, before: str, after: str, kinds: set[str]
) -> None:
    """The model before or after the change serves; then the same section can be installed."""
    steps = killed(change, base, tmp_path)
    assert {step.partition(" ")[0] for step in steps} == kinds
    for number, step in enumerate(steps, start=1):
        folder = tmp_path / str(number)
        with Device(folder) as device:
            assert device.active() in (before, after), step
            assert device.classify(2) == LABELS[2], step
            kept = list((folder / "models").iterdir())
            assert {path.stem for path in kept} == {
                hashlib.sha256(path.read_bytes()).hexdigest() for path in kept
            }, step
            assert len(kept) <= 3, step
            if change == "install" and device.active() != NEW:
                device.install(OURS.section(NEW))
                assert device.active() == NEW, step
