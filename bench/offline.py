"""As many frames as go through in batches, with all the pictures there already; the limit is `invoke`'s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bench.figures import median, spread
from bench.frames import Phase, walk_frames
from bench.rig import RigSettings
from bench.scenarios import Bench
from bench.throughput import FREE, REPEATS

BATCH: Final = 128
FRAMES: Final = 25_600
#: Three full batches under way: one that is answered, one that comes, one that is made.
CAMERA: Final = {**FREE, "batch": BATCH, "credit": 4 * BATCH, "encoding": "raw"}


def measure(bench: Bench) -> Mapping[str, Any]:
    """Frames in a second, from the first capture to the last PUBACK, one message outstanding."""
    phases = [Phase(f"batches of {BATCH}, {number}", FRAMES, CAMERA) for number in range(REPEATS)]
    walked = walk_frames(bench, phases, RigSettings(bench.folder / "rig", bench.pictures))
    rates = [walked[phase.name].per_s for phase in phases]
    return {"per_s": median(rates), "range_per_s": spread(rates), "batch": BATCH, "encoding": "raw"}
