"""From nothing running to the first prediction upstream, in s, with the model on the device's disk.

Hub, inference and camera start as after a power cut: keys, twins and models are there, processes are not.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import median
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.scenarios.modules.frames import DESIRED

STARTS: Final = 3
FIRST_S: Final = 60.0
LOOK_S: Final = 0.005
_CAMERA: Final = {"camera": {"paused": False, "fps": 50, "frames": 0}}


def measure(bench: Bench) -> float:
    """The median of three starts."""
    folder = bench.folder / "rig"
    first = RigSettings(folder, bench.pictures, desired={**DESIRED, "camera_sim": _CAMERA})
    with Rig(first) as rig:
        rig.start()
        rig.publish(bench.models[0])
        _wait_prediction(rig.upstream, 0)
        rig.stop()
    return round(median([_start_s(RigSettings(folder, bench.pictures)) for _ in range(STARTS)]), 3)


def _start_s(settings: RigSettings) -> float:
    began = time.monotonic()
    with Rig(settings) as rig:
        there = rig.upstream.stat().st_size
        rig.start()
        _wait_prediction(rig.upstream, there)
        took = time.monotonic() - began
        rig.stop()
    return took


def _wait_prediction(upstream: Path, there: int) -> None:
    deadline = time.monotonic() + FIRST_S
    while time.monotonic() < deadline:
        if upstream.exists():
            with upstream.open("rb") as file:
                file.seek(there)
                if b'"twinship.prediction.v1"' in file.read():
                    return
        time.sleep(LOOK_S)
    raise BenchFailed(f"no prediction within {FIRST_S:.0f} s of the start")
