"""Figures from samples: percentiles, and how much a median varies within one measurement. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twinship.demo.report import percentile

BLOCKS: Final = 5  # neighbouring samples; what a busy minute does to one of them shows in the range


@dataclass(frozen=True)
class Latencies:
    """At least one sample in ms, in the order of time."""

    samples_ms: Sequence[float]

    def figures(self) -> dict[str, object]:
        """p50, p90 and p99 by nearest rank, and the lowest and highest p50 of five neighbouring blocks."""
        known = {f"p{each}_ms": round(percentile(self.samples_ms, each), 4) for each in (50, 90, 99)}
        return {**known, "p50_range_ms": spread([percentile(each, 50) for each in blocks(self.samples_ms)])}


def blocks(samples: Sequence[float]) -> list[Sequence[float]]:
    """The samples in up to BLOCKS neighbouring parts, none of them empty."""
    size = -(-len(samples) // BLOCKS)
    return [samples[first : first + size] for first in range(0, len(samples), size)]


def spread(values: Sequence[float]) -> list[float]:
    """The lowest and the highest."""
    return [round(min(values), 4), round(max(values), 4)]


def median(values: Sequence[float]) -> float:
    """The one in the middle, always one that was measured."""
    return percentile(values, 50)
