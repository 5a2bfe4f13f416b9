"""Frames as people come to a gate: Poisson arrivals at a mean rate, and the queue that they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.modules.frames import Phase, walk_frames

RATE: Final = 100
FRAMES: Final = 1_000


def measure(bench: Bench) -> Mapping[str, Any]:
    """Captured → PUBACK of the prediction, as `single` has it for a steady rate."""
    phase = Phase(f"{RATE} frames/s by chance", FRAMES, {"fps": RATE, "pacing": "poisson", "credit": 256})
    return {"rate": RATE, **walk_frames(bench, [phase])[phase.name].latencies()}
