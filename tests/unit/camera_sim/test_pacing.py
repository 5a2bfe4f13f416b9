"""When the next frame is due."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from camera_sim.pacing import Pacer

MS = 1_000_000


def test_the_rate_holds_if_each_frame_is_a_little_late() -> None:
    """Delays do not add up: 100 frames at 10 a second take 10 s."""
    pacer, now = Pacer(), 0
    for _ in range(101):
        now += pacer.wait_ns(now, fps=10) + 3 * MS
        pacer.taken(now, fps=10)
    assert 10_000 * MS <= now <= 10_010 * MS


def test_after_a_long_delay_there_is_no_burst() -> None:
    """After 5 s without a frame the next one is due at once, and the one after it a period later."""
    pacer = Pacer()
    pacer.taken(0, fps=10)
    assert pacer.wait_ns(5_000 * MS, fps=10) == 0
    pacer.taken(5_000 * MS, fps=10)
    assert pacer.wait_ns(5_000 * MS, fps=10) == 100 * MS


def test_a_new_rate_applies_to_the_next_frame() -> None:
    """The wait in progress is shortened too."""
    pacer = Pacer()
    pacer.taken(0, fps=0.1)
    assert pacer.wait_ns(20 * MS, fps=0.1) == 9_980 * MS
    assert pacer.wait_ns(20 * MS, fps=20) == 30 * MS


@given(st.lists(st.tuples(st.integers(0, 10**10), st.floats(0.1, 1000)), min_size=1, max_size=30))
def test_the_wait_is_never_negative_or_long(steps: list[tuple[int, float]]) -> None:
    """For all delays and rates the wait is between 0 and two periods."""
    pacer, now = Pacer(), 0
    for delay, fps in steps:
        now += delay
        wait = pacer.wait_ns(now, fps)
        assert wait >= 0
        now += wait
        pacer.taken(now, fps)
        assert pacer.wait_ns(now, fps) <= 2e9 / fps + 2


def test_poisson_keeps_the_rate_and_varies_the_intervals() -> None:
    """10,000 frames at 100 a second take 100 s; the standard deviation of the intervals equals their mean."""
    pacer, now, intervals = Pacer(), 0, []
    pacer.taken(now, 100, "poisson")
    for _ in range(10_000):
        wait = pacer.wait_ns(now, 100)
        intervals.append(wait / MS)
        now += wait
        pacer.taken(now, 100, "poisson")
    assert 97_000 * MS < now < 103_000 * MS
    assert 9.5 < statistics.pstdev(intervals) < 10.5


def test_a_burst_is_due_at_once_and_the_mean_rate_stays() -> None:
    """Three frames, then none for three intervals."""
    pacer, now = Pacer(), 0
    taken = []
    for _ in range(9):
        now += pacer.wait_ns(now, fps=10)
        pacer.taken(now, 10, burst=3)
        taken.append(now // 10**6)
    assert taken == [0, 0, 0, 300, 300, 300, 600, 600, 600]
