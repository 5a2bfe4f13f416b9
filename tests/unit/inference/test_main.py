"""The module as its container starts it: what `build` takes from the environment."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client import CollectorRegistry

from edgekit import startup
from inference.frames.in_hand import InHand
from inference.settings import Environment
from tests.unit.inference.fixtures.doubles import frame


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`inference.__main__`, whose import would otherwise replace the signal handlers of the test run."""
    monkeypatch.setattr(startup, "begin", lambda module: None)
    found = importlib.import_module("inference.__main__")
    monkeypatch.setattr(found, "REGISTRY", CollectorRegistry())
    return found


def test_a_frame_in_hand_is_marked_in_the_data_folder(tmp_path: Path, program: ModuleType) -> None:
    """So the process after a kill -9 finds it, and counts it as lost_in_restart."""
    service = program.build(Environment.read({"DATA_FOLDER": str(tmp_path)}))
    service.path.receive(frame(7).to_message(), 0)
    marks = bytearray((tmp_path / "frames.in_hand").read_bytes())
    assert [seqs for _, seqs in InHand(marks, "00000000000000bb").lost()] == [[7]]
