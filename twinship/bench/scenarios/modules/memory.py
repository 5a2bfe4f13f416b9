"""What stays in memory: the inference module after many frames and its growth; the hub before any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.scenarios.modules.frames import DESIRED, Phase, check_all_answered, drive, ledgers
from twinship.bench.scenarios.modules.throughput import FREE

FRAMES: Final = 10_000


def measure(bench: Bench) -> Mapping[str, Any]:
    """Resident MB after FRAMES frames; growth is over the second half."""
    return after(bench, FRAMES)


def after(bench: Bench, frames: int) -> Mapping[str, Any]:
    """The same for any number of frames."""
    half = Phase(f"{frames // 2} frames", frames // 2, FREE)
    with Rig(RigSettings(bench.folder / "rig", bench.pictures, desired=DESIRED)) as rig:
        hub_mb = resident_mb("twinship.simulator.hub")
        rig.start()
        rig.publish(bench.models[0])
        drive(rig, [half], bench.progress)
        before_mb = resident_mb("inference")
        drive(rig, [replace(half, frames=frames)], bench.progress)  # of the run, which goes on
        after_mb = resident_mb("inference")
        rig.stop()
        check_all_answered(*ledgers(rig))
    return {
        "frames": frames,
        "inference_mb": round(after_mb, 1),
        "growth_mb": round(after_mb - before_mb, 1),
        "hub_idle_mb": round(hub_mb, 1),
    }


def resident_mb(module: str) -> float:
    """Of the child of this process that runs `python -m module`. Raises BenchFailed if there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            words = (process / "cmdline").read_bytes()
            if parent == os.getpid() and f"-m\0{module}\0".encode() in words:
                pages = int((process / "statm").read_text().split()[1])
                return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        except (OSError, ValueError, IndexError):
            continue  # it ended just now
    raise BenchFailed(f"no process runs {module}")
