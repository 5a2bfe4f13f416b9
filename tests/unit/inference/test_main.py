"""The module as its container starts it: what `build` takes from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from inference import __main__ as program
from inference.frames.in_hand import InHand
from inference.settings import Environment
from tests.unit.inference.fixtures.doubles import frame


def test_a_frame_in_hand_is_marked_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the process after a kill -9 finds it, and counts it as lost_in_restart."""
    monkeypatch.setattr(program, "REGISTRY", CollectorRegistry())
    service = program.build(Environment.read({"DATA_FOLDER": str(tmp_path)}))
    service.path.receive(frame(7).to_message(), 0)
    marks = bytearray((tmp_path / "frames.in_hand").read_bytes())
    assert [seqs for _, seqs in InHand(marks, "00000000000000bb").lost()] == [[7]]
