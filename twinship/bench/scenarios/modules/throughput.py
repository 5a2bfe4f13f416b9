"""As many frames as go through, one in a message: one message outstanding as at edgeHub, and with sixteen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import median, spread
from twinship.bench.rig.rig import RigSettings
from twinship.bench.scenarios.modules.frames import Phase, walk_frames

FRAMES: Final = 2_500
REPEATS: Final = 3
WINDOW: Final = 16
FREE: Final = {"fps": 100_000, "credit": 192}  # as fast as it can, within what inference can queue


def measure(bench: Bench) -> Mapping[str, Any]:
    """Frames in a second, from the first capture to the last PUBACK, for both delivery windows."""
    return {"strict": _per_s(bench, 1), f"window_{WINDOW}": _per_s(bench, WINDOW)}


def _per_s(bench: Bench, window: int) -> dict[str, Any]:
    phases = [Phase(f"window {window}, {number}", FRAMES, FREE) for number in range(REPEATS)]
    settings = RigSettings(bench.folder / f"rig-{window}", bench.pictures, delivery_window=window)
    walked = walk_frames(bench, phases, settings)
    rates = [walked[phase.name].per_s for phase in phases]
    return {"per_s": median(rates), "range_per_s": spread(rates)}
