"""How a report stands to the bars."""

from __future__ import annotations

from typing import Any

import pytest

from twinship.bench.report.thresholds import BARS, Result, figure, results

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
    """The one that is meant."""
    return next(each for each in found if each.name == name)


@pytest.mark.parametrize(
    ("single_ms", "verdict"), [(2.2, "goal"), (2.3, "met"), (3.3, "met"), (3.4, "missed")]
)
def test_a_ratio_to_the_floor_is_judged(single_ms: float, verdict: str) -> None:
    """The goal, the must, and neither; a bound itself still counts."""
    standing = of("single p50 at 50 frames/s", results(report(single_ms, 1.0)))
    assert (standing.value, standing.verdict) == (single_ms, verdict)


def test_a_floor_of_another_run_gives_no_ratio() -> None:
    """The machine was another one by then."""
    old = report(2.0, 1.0, measured={"single": RUN, "floor": OTHER})
    assert of("single p50 at 50 frames/s", results(old)).verdict == "not measured"


def test_more_is_better_where_frames_are_counted() -> None:
    """A throughput below its bar misses it."""
    slow = results(report(1, 1, throughput={"strict": {"per_s": 899.0}, "window_16": {"per_s": 2_000.0}}))
    assert of("throughput, one outstanding", slow).verdict == "missed"
    assert of("throughput, window 16", slow).verdict == "goal"


def test_what_was_not_measured_is_said() -> None:
    """An absent figure passes for nothing, also where its floor is absent."""
    assert {each.verdict for each in results({})} == {"not measured"}
    absent = report(1, 1, floor={"absent": "mosquitto is not installed"})
    assert of("single p50 at 50 frames/s", results(absent)).verdict == "not measured"


def test_a_bare_figure_has_a_bar_too() -> None:
    """startup_s is a number and not a table."""
    assert of("start to first prediction", results({"startup_s": 1.9})).verdict == "goal"
    assert figure({"startup_s": 1.9}, "startup_s.p50") is None


def test_each_bar_has_a_name_of_its_own() -> None:
    """They are looked up by it."""
    assert len({bar.name for bar in BARS}) == len(BARS)
