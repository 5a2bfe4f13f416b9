"""Maximum rate with one frame in a message: one message outstanding, as at edgeHub, and sixteen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import rates
from twinship.bench.rig.rig import RigSettings
from twinship.bench.scenarios.modules.frames import Phase, measure_phases

FRAMES: Final = 2_500
REPEATS: Final = 3
WINDOW: Final = 16
#: The camera's section: no pause between frames, and no more frames under way than inference can queue.
UNLIMITED: Final = {"fps": 100_000, "credit": 192}


def measure(bench: Bench) -> Mapping[str, Any]:
    """Frames per second, from the first capture to the last PUBACK, for both delivery windows."""
    return {"strict": _per_s(bench, 1), f"window_{WINDOW}": _per_s(bench, WINDOW)}


def _per_s(bench: Bench, window: int) -> dict[str, Any]:
    phases = [Phase(f"window {window}, {number}", FRAMES, UNLIMITED) for number in range(REPEATS)]
    settings = RigSettings(bench.folder / f"rig-{window}", bench.pictures, delivery_window=window)
    results = measure_phases(bench, phases, settings)
    return rates([results[phase.name].per_s for phase in phases])
