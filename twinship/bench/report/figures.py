"""Figures from samples: percentiles, and how much a median varies within one measurement.

>>> latencies([1.0, 2.0, 3.0, 4.0, 9.0])["p90_ms"]
9.0
>>> rates([900.0, 1000.0, 950.0])
{'per_s': 950.0, 'range_per_s': [900.0, 1000.0]}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twinship.demo.report import percentile

BLOCKS: Final = 5  # of neighbouring samples: a short disturbance shows in the range of their medians


def latencies(samples_ms: Sequence[float]) -> dict[str, Any]:
    """p50, p90 and p99 by nearest rank, and the range of p50. At least one sample, in the order of time."""
    known = {f"p{each}_ms": round(percentile(samples_ms, each), 4) for each in (50, 90, 99)}
    return {**known, "p50_range_ms": median_range(samples_ms)}


def rates(per_s: Sequence[float]) -> dict[str, Any]:
    """The median of repeated rates, and their range."""
    return {"per_s": median(per_s), "range_per_s": spread(per_s)}


def median_range(samples: Sequence[float]) -> list[float]:
    """The lowest and the highest median of the blocks."""
    return spread([median(block) for block in blocks(samples)])


def blocks(samples: Sequence[float]) -> list[Sequence[float]]:
    """The samples in up to BLOCKS neighbouring parts, none of them empty."""
    size = -(-len(samples) // BLOCKS)
    return [samples[first : first + size] for first in range(0, len(samples), size)]


def spread(values: Sequence[float]) -> list[float]:
    """The lowest and the highest value."""
    return [round(min(values), 4), round(max(values), 4)]


def median(values: Sequence[float]) -> float:
    """The middle value by nearest rank: always one of the values."""
    return percentile(values, 50)


def number(value: float | None) -> str:
    """A figure for people."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
