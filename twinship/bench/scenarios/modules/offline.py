"""As many frames as go through in batches, with all the pictures there already; the limit is `invoke`'s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import median, spread
from twinship.bench.rig.rig import RigSettings
from twinship.bench.scenarios.modules.frames import Phase, walk_frames
from twinship.bench.scenarios.modules.throughput import FREE, REPEATS

BATCH: Final = 224  # of 28 x 28 pixels with their headers: 242 KB, and a message holds 258
FRAMES: Final = 112 * BATCH
#: Three full batches under way: one that is answered, one that comes, one that is made.
CAMERA: Final = {**FREE, "batch": BATCH, "credit": 4 * BATCH, "encoding": "raw"}


def measure(bench: Bench) -> Mapping[str, Any]:
    """Frames in a second, from the first capture to the last PUBACK, one message outstanding."""
    phases = [Phase(f"batches of {BATCH}, {number}", FRAMES, CAMERA) for number in range(REPEATS)]
    walked = walk_frames(bench, phases, RigSettings(bench.folder / "rig", bench.pictures))
    rates = [walked[phase.name].per_s for phase in phases]
    return {"per_s": median(rates), "range_per_s": spread(rates), "batch": BATCH, "encoding": "raw"}
