"""Comparison of two reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twinship.bench import BenchFailed
from twinship.bench.report import report
from twinship.bench.report.compare import HISTORY, caveats, compare, find


def single(p50_ms: float, lowest: float, highest: float) -> dict[str, Any]:
    """A report with one latency."""
    return {"single": {"50": {"p50_ms": p50_ms, "p50_range_ms": [lowest, highest]}}}


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (single(2.0, 1.9, 2.1), "better"),
        (single(2.8, 2.6, 3.0), "same"),
        (single(4.0, 3.5, 4.5), "worse"),
    ],
)
def test_figures_with_overlapping_ranges_are_the_same(after: dict[str, Any], verdict: str) -> None:
    """A difference within the variation of one measurement is noise."""
    (row,) = compare(single(3.0, 2.8, 3.2), after)
    assert (row.name, row.verdict) == ("single.50.p50_ms", verdict)
    assert row.ratio == pytest.approx(after["single"]["50"]["p50_ms"] / 3.0, abs=1e-3)


@pytest.mark.parametrize(("after", "verdict"), [(900.0, "worse"), (1050.0, "same"), (1300.0, "better")])
def test_a_higher_rate_is_better(after: float, verdict: str) -> None:
    """For a figure without a range, 15 percent are noise."""
    (row,) = compare({"hub": {"per_s": 1100.0}}, {"hub": {"per_s": after}})
    assert row.verdict == verdict


def test_settings_and_facts_are_not_compared() -> None:
    """A batch size is neither better nor worse."""
    facts = {"schema": report.SCHEMA, "machine": {"cores": 2}, "offline": {"batch": 128, "per_s": 5.0}}
    assert [row.name for row in compare(facts, facts)] == ["offline.per_s"]


def test_reports_without_a_common_figure_cannot_be_compared() -> None:
    """An empty comparison would look like agreement."""
    with pytest.raises(BenchFailed, match="no figure in common"):
        compare({"startup_s": 1.0}, {"hub": {"per_s": 1.0}})


def test_a_different_machine_is_reported() -> None:
    """A caveat names it."""
    assert caveats({"machine": {"cores": 2}}, {"machine": {"cores": 4}}) == [
        "measured with different machines"
    ]
    assert caveats({"machine": {"cores": 2}}, {"machine": {"cores": 2}}) == []


def test_a_commit_is_found_by_its_beginning(tmp_path: Path) -> None:
    """Reports are stored by commit; the name of a file is also accepted."""
    stored = tmp_path / HISTORY / "abcdef012345.json"
    report.write(stored, {"commit": "abcdef012345"}, {"startup_s": 2.0})
    assert find("abcdef", tmp_path) == find(str(stored), tmp_path)
    assert find("abcdef", tmp_path)["startup_s"] == 2.0


def test_a_file_that_is_not_a_report_is_named(tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(BenchFailed, match="nowhere is not a report"):
        find("nowhere", tmp_path)
    (tmp_path / "other.json").write_text('{"schema": "another"}')
    with pytest.raises(BenchFailed, match="not a report of twinship bench"):
        find(str(tmp_path / "other.json"), tmp_path)


def test_an_ambiguous_commit_is_refused(tmp_path: Path) -> None:
    """The error names both candidates."""
    for commit in ("abc1", "abc2"):
        report.write(tmp_path / HISTORY / f"{commit}.json", {}, {})
    with pytest.raises(BenchFailed, match="abc1 or abc2"):
        find("abc", tmp_path)
