"""What the figures must be and should be: the bars of the bench in one table; how a report stands to them.

Pure. A ratio is given only for two figures of one run: a floor of another hour is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Bar:
    """`figure` and `beside` are paths in the report; with `beside` the ratio of the two is what counts."""

    name: str
    figure: str
    must: float
    goal: float | None
    unit: str
    beside: str = ""
    more_is_better: bool = False


BARS: Final = (
    Bar("single p50 at 50 frames/s", "single.50.p50_ms", 3.3, 2.2, "× floor", "floor.50.p50_ms"),
    Bar("single p50 at 10 frames/s", "single.10.p50_ms", 3.0, 2.0, "× floor", "floor.10.p50_ms"),
    Bar("throughput, one outstanding", "throughput.strict.per_s", 900, 1_300, "/s", more_is_better=True),
    Bar("throughput, window 16", "throughput.window_16.per_s", 1_400, 2_000, "/s", more_is_better=True),
    Bar(
        "offline, in batches", "offline.per_s", 0.5, 0.8, "× bare invoke", "invoke.litert.per_s",
        more_is_better=True,
    ),
    Bar("module beyond bare invoke, p50", "module.beyond_invoke_us", 100, 50, "µs"),
    Bar("start to first prediction", "startup_s", 4, 2, "s"),
    Bar("inference resident after 100,000 frames", "memory_long.inference_mb", 130, None, "MB"),
    Bar("its growth over the last 50,000", "memory_long.growth_mb", 2, None, "MB"),
    Bar("hub: one hop, p50", "hub.hop_p50_ms", 0.25, None, "ms"),
    Bar("hub: messages, one outstanding", "hub.per_s", 4_000, None, "/s", more_is_better=True),
    Bar("hub: start to first accepted connection", "hub.start_s", 1, None, "s"),
    Bar("hub: resident, idle", "hub.idle_mb", 60, None, "MB"),
    Bar("swaps: frames lost", "swap.lost", 0, None, ""),
    Bar("swaps: frames answered twice", "swap.doubled", 0, None, ""),
    Bar("swaps: p99 of total", "swap.p99_ratio", 2, None, "× steady"),
    Bar("rollback, p99", "swap.rollback_ms.p99", 1_000, None, "ms"),
    Bar("a formula's worst miss", "delay.worst_deviation", 0.15, None, "of measured"),
    Bar(
        "its miss with a second flow", "delay.crowded.deviation", 0.3, None, "of measured",
        more_is_better=True,
    ),
    Bar("ledger beyond the hub's stamp, p50", "ledger.difference_ms", 0.5, None, "ms"),
    Bar("p50 under five times too many frames", "overload.slower", 3, None, "× unloaded"),
    Bar("overload: frames in no count", "overload.frames.uncounted", 0, None, ""),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """Where a report stands to a bar. `verdict`: goal, met, missed or not measured."""

    name: str
    value: float | None
    unit: str
    must: float
    goal: float | None
    more_is_better: bool
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """As the report holds it."""
        return asdict(self)


def results(report: Mapping[str, Any]) -> list[Result]:
    """One for each bar."""
    return [_standing(bar, _value(bar, report)) for bar in BARS]


def figure(report: Mapping[str, Any], path: str) -> float | None:
    """The number at a path such as `single.50.p50_ms`; None where there is none."""
    value: Any = report
    for word in path.split("."):
        value = value.get(word) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _value(bar: Bar, report: Mapping[str, Any]) -> float | None:
    value = figure(report, bar.figure)
    if value is None or not bar.beside:
        return value
    beside = figure(report, bar.beside)
    if not beside or _run(bar.figure, report) != _run(bar.beside, report):
        return None
    return round(value / beside, 3)


def _run(path: str, report: Mapping[str, Any]) -> str | None:
    measured: Mapping[str, Mapping[str, Any]] = report.get("measured", {})
    return measured.get(path.partition(".")[0], {}).get("at")


def _standing(bar: Bar, value: float | None) -> Result:
    verdict = "not measured"
    if value is not None:
        verdict = "missed" if not _reaches(bar, value, bar.must) else "met"
        if bar.goal is not None and _reaches(bar, value, bar.goal):
            verdict = "goal"
    return Result(bar.name, value, bar.unit, bar.must, bar.goal, bar.more_is_better, verdict)


def _reaches(bar: Bar, value: float, bound: float) -> bool:
    return value >= bound if bar.more_is_better else value <= bound
