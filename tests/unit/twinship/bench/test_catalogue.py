"""The catalogue of scenarios, and figures from samples."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from twinship.bench import BenchFailed
from twinship.bench.catalogue import SCENARIOS, chosen
from twinship.bench.report.figures import BLOCKS, blocks, latencies

README = Path(__file__).parents[4] / "README.md"


def test_without_names_the_everyday_scenarios_run() -> None:
    """The slow ones run by name only."""
    assert set(chosen(())) == {name for name, scenario in SCENARIOS.items() if scenario.everyday}
    assert "memory_long" not in chosen(())


def test_the_readme_names_those_that_run_by_name_only() -> None:
    """`make bench` leaves them out, so a reader finds them nowhere else."""
    (listed,) = re.findall(r"leaves these out: (.*?) \(an", README.read_text(), re.DOTALL)
    others = {name for name, scenario in SCENARIOS.items() if not scenario.everyday}
    assert set(re.findall(r"`(\w+)`", listed)) == others


def test_a_scenario_brings_its_floor() -> None:
    """The floor runs first: a ratio needs both figures from one run."""
    assert list(chosen(("single",))) == ["floor", "single"]
    assert list(chosen(("single", "throughput"))) == ["floor", "single", "sdk", "throughput"]


def test_an_unknown_name_is_refused() -> None:
    """The error lists the known names."""
    with pytest.raises(BenchFailed, match=r"no scenario 'singel': there are .*single"):
        chosen(("singel",))


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_each_scenario_can_be_imported(name: str) -> None:
    """The table names existing modules and functions."""
    scenario = SCENARIOS[name]
    module = importlib.import_module(f"twinship.bench.scenarios.{scenario.module}")
    assert callable(getattr(module, scenario.function))


def test_a_slow_part_of_the_samples_shows_in_the_range() -> None:
    """The median of all samples hides a slow fifth; the range of the blocks does not."""
    figures = latencies([1.0] * 80 + [9.0] * 20)
    assert (figures["p50_ms"], figures["p50_range_ms"]) == (1.0, [1.0, 9.0])


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 11, 100])
def test_blocks_hold_every_sample_once(count: int) -> None:
    """This holds for few samples too."""
    samples = [float(each) for each in range(count)]
    parts = blocks(samples)
    assert [each for part in parts for each in part] == samples
    assert len(parts) <= BLOCKS
    assert all(parts)
