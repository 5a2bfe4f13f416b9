"""When the next frame is due."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from camera_sim.pacing import Pacer

MS = 1_000_000


def test_the_rate_holds_although_each_frame_is_a_little_late() -> None:
    """Lateness does not add up: 100 frames at 10 a second take 10 s."""
    pacer, now = Pacer(), 0
    for _ in range(101):
        now += pacer.wait_ns(now, fps=10) + 3 * MS
        pacer.took(now, fps=10)
    assert 10_000 * MS <= now <= 10_010 * MS


def test_a_camera_that_was_held_up_does_not_catch_up() -> None:
    """After a pause of 5 s the next frame comes at once, and the one after it a period later."""
    pacer = Pacer()
    pacer.took(0, fps=10)
    assert pacer.wait_ns(5_000 * MS, fps=10) == 0
    pacer.took(5_000 * MS, fps=10)
    assert pacer.wait_ns(5_000 * MS, fps=10) == 100 * MS


def test_a_new_rate_applies_to_the_frame_that_is_waited_for() -> None:
    """Nobody waits ten seconds for a rate of one in ten seconds that is no longer asked for."""
    pacer = Pacer()
    pacer.took(0, fps=0.1)
    assert pacer.wait_ns(20 * MS, fps=0.1) == 9_980 * MS
    assert pacer.wait_ns(20 * MS, fps=20) == 30 * MS


@given(st.lists(st.tuples(st.integers(0, 10**10), st.floats(0.1, 1000)), min_size=1, max_size=30))
def test_a_frame_is_never_due_before_its_time(steps: list[tuple[int, float]]) -> None:
    """Over any delays and rates a wait is at least 0, and at most two periods."""
    pacer, now = Pacer(), 0
    for delay, fps in steps:
        now += delay
        wait = pacer.wait_ns(now, fps)
        assert wait >= 0
        now += wait
        pacer.took(now, fps)
        assert pacer.wait_ns(now, fps) <= 2e9 / fps + 2


def test_poisson_keeps_the_rate_and_varies_the_distance() -> None:
    """10,000 arrivals at 100 a second take 100 s; the distances' deviation is as large as their mean."""
    pacer, now, distances = Pacer(), 0, []
    pacer.took(now, 100, "poisson")
    for _ in range(10_000):
        wait = pacer.wait_ns(now, 100)
        distances.append(wait / MS)
        now += wait
        pacer.took(now, 100, "poisson")
    assert 97_000 * MS < now < 103_000 * MS
    assert 9.5 < statistics.pstdev(distances) < 10.5
