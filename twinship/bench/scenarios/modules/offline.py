"""Maximum rate with frames in batches, when all pictures are there already. `invoke` is the upper limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import rates
from twinship.bench.scenarios.modules.frames import Phase, measure_phases
from twinship.bench.scenarios.modules.throughput import REPEATS, UNLIMITED

BATCH: Final = 224  # frames of 28 x 28 pixels with their headers: 242 KB, and a message holds 258 KB
FRAMES: Final = 112 * BATCH
#: Credit for a batch in inference, one under way, one in the making, and one more.
CAMERA: Final = {**UNLIMITED, "batch": BATCH, "credit": 4 * BATCH, "encoding": "raw"}


def measure(bench: Bench) -> Mapping[str, Any]:
    """Frames per second, from the first capture to the last PUBACK, one message outstanding."""
    phases = [Phase(f"batches of {BATCH}, {number}", FRAMES, CAMERA) for number in range(REPEATS)]
    results = measure_phases(bench, phases)
    return {
        **rates([results[phase.name].per_s for phase in phases]),
        "batch": BATCH,
        "encoding": "raw",
    }
