"""The soak without a run: its lengths, its limits, and how it reads the messages upstream."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from twinship.bench import BenchFailed
from twinship.bench.report.thresholds import results
from twinship.bench.rig.memory import usage
from twinship.bench.rig.watching import Answers
from twinship.bench.scenarios.soak.scenario import SCALE, Extent, scale, shortcomings

FLAT = {"rss_mb": 0.5, "pss_mb": -1.0, "threads": 0, "restarts": 0}
GOOD: dict[str, Any] = {
    "growth_mb": 0.5,
    "thread_growth": 0,
    "restarts": 0,
    "growth": {"hub": FLAT},
    "frames": {"lost": 0, "counted_twice": 0},
    "failed_swaps": [],
}


def test_an_hour_is_the_default() -> None:
    """A scale of 1 changes nothing; a smaller one shortens the phases."""
    assert Extent().scaled(scale({})) == Extent()
    assert Extent().steady_s + Extent().kills_s == 3600
    short = Extent().scaled(scale({SCALE: "0.02"}))
    assert (short.steady_s, short.kills_s) == (48, 24)
    assert short.swap_every_s == 6.0


@pytest.mark.parametrize("text", ["", "0", "-1", "1.1", "nan", "inf", "fast"])
def test_an_unusable_scale_is_named(text: str) -> None:
    """Nothing is started."""
    with pytest.raises(BenchFailed, match=f"{SCALE}='{text}' is not a number"):
        scale({SCALE: text})


def test_a_flat_run_with_a_whole_account_misses_nothing() -> None:
    """The thresholds of the report say the same."""
    assert shortcomings(GOOD) == []
    assert verdicts(GOOD) == {"met"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"growth": {"hub": {**FLAT, "pss_mb": 2.5}}, "growth_mb": 2.5}, "hub grew by 2.5 MB"),
        ({"growth": {"hub": {**FLAT, "threads": 1}}, "thread_growth": 1}, "hub has 1 more threads"),
        ({"growth": {"hub": {**FLAT, "restarts": 1}}, "restarts": 1}, "started again 1 times without a kill"),
        ({"frames": {"lost": 3, "counted_twice": 0}}, "3 frames are in no count"),
        ({"frames": {"lost": 0, "counted_twice": 3}}, "3 frames are counted twice"),
    ],
)
def test_each_limit_is_named_when_it_is_missed(change: dict[str, Any], named: str) -> None:
    """One line, and one missed threshold."""
    (line,) = shortcomings({**GOOD, **change})
    assert named in line
    assert verdicts({**GOOD, **change}) == {"met", "missed"}


def test_a_failed_swap_is_named() -> None:
    """It has no threshold: the device may be right to refuse a model that was loaded when it was killed."""
    (line,) = shortcomings({**GOOD, "failed_swaps": ["the module did not accept digits:1.1.0: refused"]})
    assert "1 swaps failed: the module did not accept digits:1.1.0" in line


def verdicts(figures: dict[str, Any]) -> set[str]:
    """The verdicts of the soak's thresholds."""
    return {each.verdict for each in results({"soak": figures}) if each.threshold.name.startswith("soak: ")}


def test_answers_are_counted_as_they_arrive(tmp_path: Path) -> None:
    """A line that is being written counts when it is whole; the newest capture counts, not the last."""
    upstream = tmp_path / "upstream.jsonl"
    answers = Answers(upstream)
    assert answers.update().count == 0
    with upstream.open("w") as file:
        file.write('{"Body": {"captured": 7}}\n{"Body": {"captured":5}}\n{"Body": {"capt')
    assert (answers.update().count, answers.newest_ns) == (2, 7)
    with upstream.open("a") as file:
        file.write('ured": 9}}\n{"Body": {"schema": "twinship.latency.v1"}}\n')
    assert (answers.update().count, answers.newest_ns) == (3, 9)


def test_a_process_has_memory_and_threads_until_it_ends() -> None:
    """The shared pages of this process make its PSS smaller than its RSS."""
    used = usage(os.getpid())
    assert used is not None
    assert 0 < used.pss_mb <= used.rss_mb
    assert used.threads >= 1
    assert usage(2**22 + 1) is None  # above the largest pid
