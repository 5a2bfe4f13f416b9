"""Prometheus collectors for stage times, frame outcomes and the serving model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from inference.frames.ledger import STAGES, StageTimes
from inference.models.installer import Running

#: Milliseconds: from a small model on a fast machine to a hub that was unreachable.
BUCKETS_MS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000)
BUCKETS: Final = tuple(ms / 1_000 for ms in BUCKETS_MS)  # seconds, as Prometheus recommends
MAX_UNSORTED: Final = 256  # frames that wait to be sorted into buckets: 80 KB


class StageHistograms(Collector):
    """`inference_stage_seconds{stage}` of finished frames.

    The Histogram of prometheus_client takes 13 µs for the seven stages of a frame; a small model takes 10 µs.
    This collector only appends the values, and sorts them into buckets at each scrape or after 256 frames.
    """

    def __init__(self) -> None:
        self._unsorted: deque[tuple[int | None, ...]] = deque()
        self._lock = threading.Lock()  # guards the two below
        self._counts = np.zeros((len(STAGES), len(BUCKETS) + 1), np.int64)
        self._sums = np.zeros(len(STAGES))

    def observe(self, times: StageTimes, publish_ns: int | None) -> None:
        """Add a frame, from any thread; publish_ns is None for a suppressed prediction."""
        self._unsorted.append((*times.stages, publish_ns))
        if len(self._unsorted) >= MAX_UNSORTED:
            self._sort()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics; prometheus_client calls this at each scrape."""
        self._sort()
        family = HistogramMetricFamily(
            "inference_stage_seconds", "Time of a frame in each stage.", labels=["stage"]
        )
        names = [*(str(bound) for bound in BUCKETS), "+Inf"]
        for stage, counts, total in zip(STAGES, self._counts.cumsum(axis=1), self._sums, strict=True):
            buckets = [(name, int(count)) for name, count in zip(names, counts, strict=True)]
            family.add_metric([stage], buckets, float(total))
        yield family

    def _sort(self) -> None:
        with self._lock:
            frames = [self._unsorted.popleft() for _ in range(len(self._unsorted))]
            observed = np.array(frames, np.float64).reshape(-1, len(STAGES))  # None becomes nan
            for stage, values in enumerate(observed.T):
                seconds = values[values >= 0] / 1e9  # neither nan nor UNKNOWN
                buckets = np.searchsorted(BUCKETS, seconds)  # the first bound that is not less
                self._counts[stage] += np.bincount(buckets, minlength=len(BUCKETS) + 1)
                self._sums[stage] += seconds.sum()


class FrameCounters(Collector):
    """`inference_frames_total{outcome}` and `inference_suppressed_frames_total{reason}`, frames waiting."""

    def __init__(self, counters: Callable[[], dict[str, Any]], waiting: Callable[[], int]) -> None:
        """`counters` is FramePath.counters, `waiting` is FramePath.waiting."""
        self._counters = counters
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        """Return the metrics; prometheus_client calls this at each scrape."""
        frames = CounterMetricFamily("inference_frames", "Frames by outcome.", labels=["outcome"])
        counters = self._counters()
        bad_clock, suppressed_by = counters.pop("bad_clock"), counters.pop("suppressedBy")
        for outcome, count in (counters | counters.pop("dropped")).items():
            frames.add_metric([outcome], count)
        yield frames
        suppressed = CounterMetricFamily(
            "inference_suppressed_frames",
            "Frames whose predictions are not sent, by reason.",
            labels=["reason"],
        )
        for reason, count in suppressed_by.items():
            suppressed.add_metric([reason], count)
        yield suppressed
        yield CounterMetricFamily(
            "inference_bad_clock_frames", "Frames with timestamps that are not plausible.", value=bad_clock
        )
        yield GaugeMetricFamily("inference_waiting_frames", "Frames in the queue.", value=self._waiting())


class ModelInfo(Collector):
    """`inference_model_info{model,version,runtime,delegate}`: 1 for the serving model; absent without one."""

    def __init__(self, current: Callable[[], Running | None]) -> None:
        """`current` returns the serving model."""
        self._current = current

    def collect(self) -> Iterable[Metric]:
        """Return the metrics; prometheus_client calls this at each scrape."""
        info = GaugeMetricFamily(
            "inference_model_info",
            "The serving model; delegate is empty if the CPU runs it.",
            labels=["model", "version", "runtime", "delegate"],
        )
        if (running := self._current()) is not None:
            engine = running.engine
            info.add_metric([running.ref.name, running.ref.version, engine.runtime, engine.delegate], 1)
        yield info


class DriftRatios(Collector):
    """`inference_drift_ratio{camera,measure}`: from 1 on there is drift; absent without a reference."""

    def __init__(self, ratios: Callable[[], dict[tuple[str, str], float]]) -> None:
        """`ratios` is Drift.ratios."""
        self._ratios = ratios

    def collect(self) -> Iterable[Metric]:
        """Return the metrics; prometheus_client calls this at each scrape."""
        family = GaugeMetricFamily(
            "inference_drift_ratio",
            "The largest sum of a measure's charts, in thresholds.",
            labels=["camera", "measure"],
        )
        for labels, ratio in self._ratios().items():
            family.add_metric(labels, ratio)
        yield family
