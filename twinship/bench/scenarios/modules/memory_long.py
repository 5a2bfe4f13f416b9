"""As `memory`, after as many frames as two hours of a camera at 14 frames/s: ten minutes of measuring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.modules import memory

FRAMES: Final = 100_000


def measure(bench: Bench) -> Mapping[str, Any]:
    """Resident MB after 100,000 frames; growth is over the last 50,000."""
    return memory.after(bench, FRAMES)
