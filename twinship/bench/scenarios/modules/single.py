"""One frame at a time, at three rates, as a camera sends them; the floor beside it is `floor`'s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.modules.frames import Phase, walk_frames

#: Frames in a second → how many are measured.
RATES: Final[Mapping[int, int]] = {10: 150, 50: 600, 200: 1500}


def measure(bench: Bench) -> Mapping[str, Any]:
    """By rate: captured → PUBACK of the prediction."""
    phases = [Phase(str(rate), frames, {"fps": rate}) for rate, frames in RATES.items()]
    walked = walk_frames(bench, phases)
    return {str(rate): walked[str(rate)].latencies() for rate in RATES}
