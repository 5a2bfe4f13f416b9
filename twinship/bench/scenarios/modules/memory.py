"""Resident memory of the inference module after many frames, its growth, and the idle hub's memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.rig.memory import child_pid, resident_mb
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.scenarios.modules.frames import DESIRED, Phase, check_all_answered, drive
from twinship.bench.scenarios.modules.throughput import UNLIMITED

FRAMES: Final = 10_000
LONG_FRAMES: Final = 100_000  # two hours of a camera at 14 frames/s, in ten minutes


def measure(bench: Bench) -> Mapping[str, Any]:
    """MiB after FRAMES frames; growth is over the second half of them."""
    return memory_after(bench, FRAMES)


def measure_long(bench: Bench) -> Mapping[str, Any]:
    """The same after LONG_FRAMES frames."""
    return memory_after(bench, LONG_FRAMES)


def memory_after(bench: Bench, frames: int) -> Mapping[str, Any]:
    """The same after any number of frames."""
    half = Phase(f"{frames // 2} frames", frames // 2, UNLIMITED)
    with Rig(RigSettings(bench.folder / "rig", bench.pictures, desired=DESIRED)) as rig:
        hub_mb = resident_mb(child_pid("twinship.simulator.hub"))
        rig.start()
        rig.publish(bench.models[0])
        drive(rig, [half], bench.progress)
        before_mb = resident_mb(child_pid("inference"))
        drive(rig, [replace(half, frames=frames)], bench.progress)  # the twin counts frames of the whole run
        after_mb = resident_mb(child_pid("inference"))
        rig.stop()
        check_all_answered(*rig.records())
    return {
        "frames": frames,
        "inference_mb": round(after_mb, 1),
        "growth_mb": round(after_mb - before_mb, 1),
        "hub_idle_mb": round(hub_mb, 1),
    }
