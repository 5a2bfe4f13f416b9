"""Stage times of frames from a camera whose clocks differ from those of the inference process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Edge
from tests.e2e.models.test_swap import answers, patch, ship
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e

HOUR_NS = 3_600 * 10**9
HOUR_BEHIND = f"clock.wall_ns = lambda: time.time_ns() - {HOUR_NS}"
HALF_BEHIND = f"clock.wall_ns = lambda: time.time_ns() - {HOUR_NS // 2}"
ANOTHER_BOOT = "clock.boot_id = lambda: '00000000-0000-0000-0000-000000000000'"


@contextmanager
def camera(edge: Edge, shifted: str) -> Iterator[None]:
    """The real camera in its own process, with a clock or boot id that this code replaces."""
    program = (
        f"import time; from edgekit import clock; {shifted}; from camera_sim.__main__ import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **edge.simulator.module_environment("camera_sim")},
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.kill()


def answers_to(edge: Edge, shifted: str) -> list[dict[str, Any]]:
    """The predictions for at least ten frames of such a camera."""
    before = {answer["frame"]["run"] for answer in answers(edge)}

    def new() -> list[dict[str, Any]]:
        return [answer for answer in answers(edge) if answer["frame"]["run"] not in before]

    with camera(edge, shifted):
        wait_until(lambda: len(new()) >= 10, "answers to frames of the shifted camera")
    return new()


@pytest.mark.parametrize("edge", [("camera_sim",)], indirect=True)
def test_stage_times_use_the_clock_that_both_processes_share(edge: Edge, models: Path) -> None:
    """With one boot id it is the monotonic clock, with two the wall clock if it is plausible."""
    patch(edge, "inference", {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}})
    edge.simulator.start_modules()
    assert ship(edge, models / "1.0.0" / "model.tflite").ok
    for answer in answers_to(edge, HOUR_BEHIND):
        assert answer["clock"] == "monotonic"
        assert 0 <= answer["stages_ms"]["transit"] < HOUR_NS / 1e6 / 2
    for answer in answers_to(edge, ANOTHER_BOOT):
        assert answer["clock"] == "wall"
        assert answer["stages_ms"]["transit"] < HOUR_NS / 1e6 / 2
    for answer in answers_to(edge, f"{HALF_BEHIND}; {ANOTHER_BOOT}"):
        assert answer["clock"] == "wall"
        assert HOUR_NS / 1e6 / 2 < answer["stages_ms"]["transit"] < HOUR_NS / 1e6
    for answer in answers_to(edge, f"{HOUR_BEHIND}; {ANOTHER_BOOT}"):
        assert answer["clock"] == "bad"
        assert "transit" not in answer["stages_ms"]
