"""One frame at a time, at three steady rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.modules.frames import Phase, measure_phases

#: Frames per second → measured frames.
RATES: Final[Mapping[int, int]] = {10: 150, 50: 600, 200: 1500}


def measure(bench: Bench) -> Mapping[str, Any]:
    """For each rate: capture → PUBACK of the prediction."""
    phases = [Phase(str(rate), frames, {"fps": rate}) for rate, frames in RATES.items()]
    return {name: result.latencies() for name, result in measure_phases(bench, phases).items()}
