"""When a process counts as flat, and when it has grown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from twinship.bench import BenchFailed
from twinship.bench.rig.memory import Usage
from twinship.bench.scenarios.soak.flat import Sample, growth, worst

SETTLED_S = 600.0


def run(
    rss: Callable[[float], float], *, threads: Callable[[float], int] = lambda at_s: 9, pid: int = 1
) -> list[Sample]:
    """40 minutes, a sample every 10 s."""
    return [
        Sample(at_s, pid, Usage(rss(at_s), rss(at_s) / 2, threads(at_s)))
        for at_s in map(float, range(0, 2400, 10))
    ]


def test_growth_before_it_settles_does_not_count() -> None:
    """The first ten minutes fill caches."""
    found = growth(run(lambda at_s: min(at_s, SETTLED_S) / 10), SETTLED_S)
    assert (found.mb, found.threads, found.restarts) == (0.0, 0, 0)


def test_a_leak_is_growth() -> None:
    """0.1 MB a minute over half an hour, and a thread every ten minutes, without an end."""
    found = growth(run(lambda at_s: 80 + at_s / 600, threads=lambda at_s: 9 + int(at_s // 600)), SETTLED_S)
    assert found.mb == pytest.approx(2.7, abs=0.1)
    assert found.threads == 2


def test_growth_of_either_figure_counts() -> None:
    """Memory that another process shares no longer grows in PSS alone."""
    samples = [
        Sample(float(at_s), 1, Usage(80.0, 40.0 + (3.0 if at_s > 1800 else 0.0), 9))
        for at_s in range(0, 2400, 10)
    ]
    assert growth(samples, SETTLED_S).rss_mb == 0.0
    assert growth(samples, SETTLED_S).mb == 3.0


def test_one_large_sample_is_no_growth() -> None:
    """While a model is swapped two are loaded."""
    samples = run(lambda at_s: 95.0 if at_s % 600 == 0 else 80.0)
    samples.append(Sample(2400.0, 1, Usage(95.0, 47.0, 12)))
    assert (growth(samples, SETTLED_S).mb, growth(samples, SETTLED_S).threads) == (0.0, 0)


def test_a_process_that_was_replaced_is_named() -> None:
    """A smaller new process must not hide that the old one ended."""
    samples = run(lambda at_s: 80.0)
    replaced = [Sample(each.at_s, 2 if each.at_s > 1200 else 1, each.usage) for each in samples]
    assert growth(replaced, SETTLED_S).restarts == 1


@pytest.mark.parametrize(("last_s", "enough"), [(620, False), (640, True)])
def test_too_few_samples_are_no_figure(last_s: int, enough: bool) -> None:
    """Both ends need two samples of their own."""
    samples = [each for each in run(lambda at_s: 80.0) if each.at_s < last_s]
    if enough:
        assert growth(samples, SETTLED_S).mb == 0.0
    else:
        with pytest.raises(BenchFailed, match="measure longer"):
            growth(samples, SETTLED_S)


def test_the_worst_process_counts() -> None:
    """One figure for all processes, for the thresholds."""
    flat, leaking = run(lambda at_s: 80.0), run(lambda at_s: at_s / 100)
    found = worst({"hub": growth(flat, SETTLED_S), "inference": growth(leaking, SETTLED_S)})
    assert found["growth_mb"] == growth(leaking, SETTLED_S).mb > 2
    assert (found["thread_growth"], found["restarts"]) == (0, 0)
