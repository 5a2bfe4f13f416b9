"""The thresholds of the bench in one table, and how the figures of a report compare with them.

A ratio is given only for two figures of the same run.

>>> [each.verdict for each in results({"startup_s": 1.9}) if each.value]
['goal']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Threshold:
    """What a figure must be and should be.

    `figure` and `beside` are paths in the report. With `beside`, the ratio of the two figures counts.
    """

    name: str
    figure: str
    must: float
    goal: float | None
    unit: str
    beside: str = ""
    more_is_better: bool = False


THRESHOLDS: Final = (
    Threshold("single p50 at 50 frames/s", "single.50.p50_ms", 3.3, 2.2, "× floor", "floor.50.p50_ms"),
    Threshold("single p50 at 10 frames/s", "single.10.p50_ms", 3.0, 2.0, "× floor", "floor.10.p50_ms"),
    Threshold(
        "throughput, one outstanding", "throughput.strict.per_s", 900, 1_300, "/s", more_is_better=True,
    ),
    Threshold(
        "throughput, window 16", "throughput.window_16.per_s", 1_400, 2_000, "/s", more_is_better=True,
    ),
    Threshold(
        "offline, in batches", "offline.per_s", 0.5, 0.8, "× bare invoke", "invoke.litert.per_s",
        more_is_better=True,
    ),
    Threshold(
        "photographs: p50 at 10 frames/s", "real.10.p50_ms", 1.6, 1.2, "× floor", "real.floor.10.p50_ms",
    ),
    Threshold(
        "photographs: throughput, window 16", "real.window_16.per_s", 0.75, 1.0, "× bare", "real.bare.per_s",
        more_is_better=True,
    ),
    Threshold(
        "photographs: throughput, batches of 4", "real.batches_4.per_s", 0.85, 1.2, "× bare",
        "real.bare.per_s", more_is_better=True,
    ),
    Threshold("photographs: memory of inference", "real.inference_mb", 150, 110, "MB"),
    Threshold("module beyond bare invoke, p50", "module.beyond_invoke_us", 100, 50, "µs"),
    Threshold("start to first prediction", "startup_s", 4, 2, "s"),
    Threshold("inference: resident after 100,000 frames", "memory_long.inference_mb", 130, None, "MB"),
    Threshold("inference: growth over the last 50,000 frames", "memory_long.growth_mb", 2, None, "MB"),
    Threshold("hub: one hop, p50", "hub.hop_p50_ms", 0.25, None, "ms"),
    Threshold("hub: messages, one outstanding", "hub.per_s", 4_000, None, "/s", more_is_better=True),
    Threshold("hub: start to first accepted connection", "hub.start_s", 1, None, "s"),
    Threshold("hub: resident, idle", "hub.idle_mb", 60, None, "MB"),
    Threshold("endpoint: lag of a live reader, p99", "endpoint.live.lag_p99_ms", 1_000, None, "ms"),
    Threshold(
        "endpoint: hop with a live reader, p50", "endpoint.live.hop_p50_ms", 1.5, None, "× without",
        "endpoint.floor.hop_p50_ms",
    ),
    Threshold(
        "endpoint: messages of a backlog", "endpoint.backlog.per_s", 2_000, None, "/s", more_is_better=True,
    ),
    Threshold("endpoint: hop during a backlog, p99", "endpoint.backlog.hop_p99_ms", 10, None, "ms"),
    Threshold("endpoint: hub, resident, idle", "endpoint.idle_mb", 70, None, "MB"),
    Threshold("swaps: frames lost", "swap.lost", 0, None, ""),
    Threshold("swaps: frames answered twice", "swap.doubled", 0, None, ""),
    Threshold("swaps: p99 of total", "swap.p99_ratio", 2, 1.5, "× steady"),
    Threshold("rollback, p99", "swap.rollback_ms.p99", 1_000, None, "ms"),
    Threshold("delay formulas: worst deviation", "delay.worst_deviation", 0.15, None, "of measured"),
    Threshold(
        "delay formulas: deviation with a second flow", "delay.crowded.deviation", 0.3, None, "of measured",
        more_is_better=True,
    ),
    Threshold("stage times beyond the hub's stamp, p50", "ledger.difference_ms", 0.5, None, "ms"),
    Threshold("p50 at five times too many frames", "overload.slower", 3, None, "× unloaded"),
    Threshold("overload: frames in no count", "overload.frames.lost", 0, None, ""),
    Threshold("overload: frames counted twice", "overload.frames.counted_twice", 0, None, ""),
    Threshold("dashboard with a page open at 10 frames/s", "page.open", 0.05, None, "of a core"),
    Threshold("dashboard without a page at 10 frames/s", "page.closed", 0.01, None, "of a core"),
    Threshold("beside a costly frame a second, p99", "costly.one_a_second.p99_ms", 1_000.0, None, "ms"),
    Threshold("soak: growth of a process after ten minutes", "soak.growth_mb", 2, None, "MB"),
    Threshold("soak: threads more than after ten minutes", "soak.thread_growth", 0, None, ""),
    Threshold("soak: processes that ended without a kill", "soak.restarts", 0, None, ""),
    Threshold("soak: frames in no count", "soak.frames.lost", 0, None, ""),
    Threshold("soak: frames counted twice", "soak.frames.counted_twice", 0, None, ""),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A figure against its threshold. `verdict`: goal, met, missed or not measured."""

    threshold: Threshold
    value: float | None
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """The entry in the report."""
        threshold = asdict(self.threshold)
        shown = {name: threshold[name] for name in ("name", "unit", "must", "goal", "more_is_better")}
        return {**shown, "value": self.value, "verdict": self.verdict}


def results(report: Mapping[str, Any]) -> list[Result]:
    """One for each threshold, in the order of the table."""
    return [_result(threshold, _value(threshold, report)) for threshold in THRESHOLDS]


def figure(report: Mapping[str, Any], path: str) -> float | None:
    """The number at a path such as `single.50.p50_ms`; None if there is none."""
    value: Any = report
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _value(threshold: Threshold, report: Mapping[str, Any]) -> float | None:
    value = figure(report, threshold.figure)
    if value is None or not threshold.beside:
        return value
    beside = figure(report, threshold.beside)
    if not beside or _run(threshold.figure, report) != _run(threshold.beside, report):
        return None
    return round(value / beside, 3)


def _run(path: str, report: Mapping[str, Any]) -> str | None:
    """When the scenario of this figure ran."""
    measured: Mapping[str, Mapping[str, Any]] = report.get("measured", {})
    return measured.get(path.partition(".")[0], {}).get("at")


def _result(threshold: Threshold, value: float | None) -> Result:
    verdict = "not measured"
    if value is not None:
        verdict = "met" if _reaches(threshold, value, threshold.must) else "missed"
        if threshold.goal is not None and _reaches(threshold, value, threshold.goal):
            verdict = "goal"
    return Result(threshold, value, verdict)


def _reaches(threshold: Threshold, value: float, bound: float) -> bool:
    return value >= bound if threshold.more_is_better else value <= bound
