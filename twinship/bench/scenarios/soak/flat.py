"""Whether a process keeps its size: memory and threads at the end of a run against those after it settled.

The median of a tenth of the samples counts at either end, so that one large sample is no growth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.report.figures import median
from twinship.bench.rig.memory import Usage

SHARE: Final = 10  # the first and the last tenth of the samples are compared
FEWEST: Final = 2


@dataclass(frozen=True)
class Sample:
    """One process at one time."""

    at_s: float  # since the start of the run
    pid: int
    usage: Usage


@dataclass(frozen=True)
class Growth:
    """What one process has more of at the end. `restarts`: another process took its place meanwhile."""

    rss_mb: float
    pss_mb: float
    threads: int
    restarts: int

    @property
    def mb(self) -> float:
        """The larger of the two growths of memory."""
        return max(self.rss_mb, self.pss_mb)

    def to_json(self) -> dict[str, Any]:
        """The entry in the report."""
        return dict(vars(self))


def growth(samples: Sequence[Sample], settled_s: float) -> Growth:
    """Compare the samples after `settled_s` seconds. Raises BenchFailed if there are too few."""
    settled = [sample for sample in samples if sample.at_s >= settled_s]
    if len(settled) < 2 * FEWEST:
        raise BenchFailed(f"{len(settled)} samples after {settled_s:g} s show no growth: measure longer")
    count = max(FEWEST, len(settled) // SHARE)
    first, last = ([each.usage for each in part] for part in (settled[:count], settled[-count:]))

    def grown(name: str) -> float:
        before, after = (median([float(getattr(each, name)) for each in part]) for part in (first, last))
        return round(after - before, 2)

    pids = [sample.pid for sample in settled]
    changes = sum(before != after for before, after in pairwise(pids))
    return Growth(grown("rss_mb"), grown("pss_mb"), int(grown("threads")), changes)


def worst(growths: Mapping[str, Growth]) -> dict[str, float]:
    """The largest growth of any process, for the thresholds."""
    return {
        "growth_mb": max(each.mb for each in growths.values()),
        "thread_growth": max(each.threads for each in growths.values()),
        "restarts": sum(each.restarts for each in growths.values()),
    }
