"""Figures of a report against their thresholds."""

from __future__ import annotations

from typing import Any

import pytest

from twinship.bench.report.thresholds import THRESHOLDS, Result, figure, results

RUN = {"at": "2026-01-01T00:00:00+00:00", "commit": "c"}
OTHER = {"at": "2026-01-02T00:00:00+00:00", "commit": "c"}


def report(single_ms: float, floor_ms: float, **more: Any) -> dict[str, Any]:
    """A report with one ratio in it."""
    return {
        "measured": {"single": RUN, "floor": RUN},
        "single": {"50": {"p50_ms": single_ms}},
        "floor": {"50": {"p50_ms": floor_ms}},
        **more,
    }


def of(name: str, found: list[Result]) -> Result:
    """The result with this name."""
    return next(each for each in found if each.threshold.name == name)


@pytest.mark.parametrize(
    ("single_ms", "verdict"), [(2.2, "goal"), (2.3, "met"), (3.3, "met"), (3.4, "missed")]
)
def test_a_ratio_to_the_floor_has_a_verdict(single_ms: float, verdict: str) -> None:
    """Goal, met or missed; the limit itself still counts."""
    result = of("single p50 at 50 frames/s", results(report(single_ms, 1.0)))
    assert (result.value, result.verdict) == (single_ms, verdict)


def test_a_floor_of_another_run_gives_no_ratio() -> None:
    """The machine may have been under another load."""
    old = report(2.0, 1.0, measured={"single": RUN, "floor": OTHER})
    assert of("single p50 at 50 frames/s", results(old)).verdict == "not measured"


def test_more_is_better_for_rates() -> None:
    """A throughput below its threshold misses it."""
    slow = results(report(1, 1, throughput={"strict": {"per_s": 899.0}, "window_16": {"per_s": 2_000.0}}))
    assert of("throughput, one outstanding", slow).verdict == "missed"
    assert of("throughput, window 16", slow).verdict == "goal"


def test_an_absent_figure_is_not_measured() -> None:
    """It never counts as met, and neither does a ratio whose floor is absent."""
    assert {each.verdict for each in results({})} == {"not measured"}
    absent = report(1, 1, floor={"absent": "mosquitto is not installed"})
    assert of("single p50 at 50 frames/s", results(absent)).verdict == "not measured"


def test_a_figure_that_is_a_bare_number_has_a_threshold() -> None:
    """`startup_s` is a number and not a table."""
    assert of("start to first prediction", results({"startup_s": 1.9})).verdict == "goal"
    assert figure({"startup_s": 1.9}, "startup_s.p50") is None


def test_names_of_thresholds_are_unique() -> None:
    """Results are looked up by name."""
    assert len({each.name for each in THRESHOLDS}) == len(THRESHOLDS)
