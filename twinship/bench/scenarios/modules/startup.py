"""Seconds from no process at all to the first prediction upstream, with the model on the device's disk.

Hub, inference and camera start as after a power failure: keys, twins and models are there, processes are not.
"""

from __future__ import annotations

import time
from typing import Final

from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import median
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.rig.waiting import until
from twinship.bench.scenarios.modules.frames import DESIRED

STARTS: Final = 3
FIRST_S: Final = 60.0
POLL_S: Final = 0.005
_CAMERA: Final = {"camera": {"paused": False, "fps": 50, "frames": 0}}


def measure(bench: Bench) -> float:
    """The median of STARTS starts."""
    folder = bench.folder / "rig"
    first = RigSettings(folder, bench.pictures, desired={**DESIRED, "camera_sim": _CAMERA})
    with Rig(first) as rig:
        rig.start()
        rig.publish(bench.models[0])
        _wait_prediction(rig, 0)
        rig.stop()
    return round(median([_start_s(RigSettings(folder, bench.pictures)) for _ in range(STARTS)]), 3)


def _start_s(settings: RigSettings) -> float:
    began = time.monotonic()
    with Rig(settings) as rig:
        size = rig.upstream.stat().st_size
        rig.start()
        _wait_prediction(rig, size)
        took = time.monotonic() - began
        rig.stop()
    return took


def _wait_prediction(rig: Rig, position: int) -> None:
    """Wait for a prediction upstream behind this position of the file."""

    def arrived() -> bool:
        if not rig.upstream.exists():
            return False
        with rig.upstream.open("rb") as file:
            file.seek(position)
            return b'"twinship.prediction.v1"' in file.read()

    until(arrived, FIRST_S, "the first prediction", every_s=POLL_S)
