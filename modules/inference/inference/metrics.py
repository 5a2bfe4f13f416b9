"""The module's Prometheus figures, read from `frame_path` and `delivery`; serving them is edgekit's."""

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

#: Milliseconds: from a small model on a quick machine to a hub that was away.
BUCKETS_MS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000)
BUCKETS: Final = tuple(ms / 1_000 for ms in BUCKETS_MS)  # Prometheus counts in seconds
MAX_UNSORTED: Final = 4_096  # frames kept until they are put into buckets


class StageHistograms(Collector):
    """`inference_stage_seconds{stage}` of the frames that are done.

    prometheus_client's own Histogram takes 13 µs for the seven stages of a frame, beside a model that takes
    10. This one keeps the figures as they come, and puts them into buckets when asked or when they are many.
    """

    def __init__(self) -> None:
        self._unsorted: deque[tuple[int | None, ...]] = deque()
        self._lock = threading.Lock()  # guards the two below
        self._counts = np.zeros((len(STAGES), len(BUCKETS) + 1), np.int64)
        self._sums = np.zeros(len(STAGES))

    def observe(self, done: StageTimes, publish_ns: int | None) -> None:
        """Count a frame in, from any thread; publish_ns is None when its answer was suppressed."""
        self._unsorted.append((*done.stages, publish_ns))
        if len(self._unsorted) >= MAX_UNSORTED:
            self._sort()

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client for each scrape."""
        self._sort()
        family = HistogramMetricFamily(
            "inference_stage_seconds", "Where a frame's time went, by stage of the ledger.", labels=["stage"]
        )
        names = [*(str(bound) for bound in BUCKETS), "+Inf"]
        for stage, counts, total in zip(STAGES, self._counts.cumsum(axis=1), self._sums, strict=True):
            buckets = [(name, int(count)) for name, count in zip(names, counts, strict=True)]
            family.add_metric([stage], buckets, float(total))
        yield family

    def _sort(self) -> None:
        with self._lock:
            frames = [self._unsorted.popleft() for _ in range(len(self._unsorted))]
            told = np.array(frames, np.float64).reshape(-1, len(STAGES))  # None becomes nan
            for place, values in enumerate(told.T):
                # Two wall clocks may make transit negative, and a histogram's sum must not fall.
                seconds = np.maximum(values[~np.isnan(values)], 0.0) / 1e9
                into = np.searchsorted(BUCKETS, seconds)  # the first bound that is not less
                self._counts[place] += np.bincount(into, minlength=len(BUCKETS) + 1)
                self._sums[place] += seconds.sum()


class FrameCounters(Collector):
    """`inference_frames_total{outcome}` and `inference_waiting_frames`, read when they are asked for."""

    def __init__(self, counters: Callable[[], dict[str, Any]], waiting: Callable[[], int]) -> None:
        """`counters` as FramePath.counters, `waiting` as FramePath.waiting."""
        self._counters = counters
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client for each scrape."""
        frames = CounterMetricFamily("inference_frames", "What became of each frame.", labels=["outcome"])
        counters = self._counters()
        for outcome, count in (counters | counters.pop("dropped")).items():
            frames.add_metric([outcome], count)
        yield frames
        yield GaugeMetricFamily("inference_waiting_frames", "Frames in the queue.", value=self._waiting())


class ModelInfo(Collector):
    """`inference_model_info{model,version,runtime,delegate}`: 1 for what answers; nothing while none does."""

    def __init__(self, current: Callable[[], Running | None]) -> None:
        """`current` as Delivery.current."""
        self._current = current

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client for each scrape."""
        info = GaugeMetricFamily(
            "inference_model_info",
            "The model that answers; delegate is empty where the CPU computes.",
            labels=["model", "version", "runtime", "delegate"],
        )
        if (running := self._current()) is not None:
            engine = running.engine
            info.add_metric([running.ref.name, running.ref.version, engine.runtime, engine.delegate], 1)
        yield info
