"""Which scenarios are run for which words, and figures from samples."""

from __future__ import annotations

import importlib

import pytest

from twinship.bench import BenchFailed
from twinship.bench.catalogue import SCENARIOS, chosen
from twinship.bench.report.figures import BLOCKS, Latencies, blocks


def test_none_named_means_those_of_every_day() -> None:
    """The slow ones are run by name."""
    assert set(chosen(())) == {name for name, scenario in SCENARIOS.items() if scenario.everyday}
    assert "memory_long" not in chosen(())


def test_a_floor_comes_along_and_before() -> None:
    """A ratio needs both figures from one run."""
    assert list(chosen(("single",))) == ["floor", "single"]
    assert list(chosen(("single", "throughput"))) == ["floor", "single", "sdk", "throughput"]


def test_an_unknown_name_is_answered_with_the_known() -> None:
    """A typing mistake measures nothing."""
    with pytest.raises(BenchFailed, match=r"no scenario 'singel': there are .*single"):
        chosen(("singel",))


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_each_scenario_is_there(name: str) -> None:
    """The table names files that exist and can measure."""
    assert callable(importlib.import_module(f"twinship.bench.scenarios.{SCENARIOS[name].module}").measure)


def test_a_busy_minute_shows_in_the_range() -> None:
    """The median of the whole hides a fifth that was slow; its range does not."""
    figures = Latencies([1.0] * 80 + [9.0] * 20).figures()
    assert (figures["p50_ms"], figures["p50_range_ms"]) == (1.0, [1.0, 9.0])


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 11, 100])
def test_blocks_hold_every_sample_once(count: int) -> None:
    """However few there are."""
    samples = [float(each) for each in range(count)]
    parts = blocks(samples)
    assert [each for part in parts for each in part] == samples
    assert len(parts) <= BLOCKS
    assert all(parts)
