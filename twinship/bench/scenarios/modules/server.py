"""Frames at random times, as people come to a gate: Poisson arrivals, and the queue that they cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.modules.frames import Phase, measure_phases

RATE: Final = 100  # frames per second on average
FRAMES: Final = 1_000


def measure(bench: Bench) -> Mapping[str, Any]:
    """Capture → PUBACK of the prediction."""
    camera = {"fps": RATE, "pacing": "poisson", "credit": 256}
    phase = Phase(f"{RATE} frames/s at random times", FRAMES, camera)
    return {"rate": RATE, **measure_phases(bench, [phase])[phase.name].latencies()}
