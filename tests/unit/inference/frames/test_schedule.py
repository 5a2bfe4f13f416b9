"""Periodic actions are due one interval after their last execution."""

from inference.frames.schedule import Periodic, Schedule

S = 10**9


def test_due_once_in_each_interval() -> None:
    """It is due at the end of the interval, not before, and once."""
    periodic = Periodic(2, last=S)
    assert not periodic.take(3 * S - 1)
    assert periodic.take(3 * S)
    assert not periodic.take(4 * S)
    assert periodic.due == 5 * S


def test_a_changed_interval_applies_at_once() -> None:
    """A shorter interval from the twin makes an action due at once."""
    periodic = Periodic(3_600)
    periodic.interval_s = 1
    assert periodic.take(S)


def test_flow_counts_only_if_there_is_some() -> None:
    """The worker does not wake for flow if there is none to send."""
    schedule = Schedule(flow_s=0.5, counters_s=5, latency_s=10)
    schedule.start(100 * S)
    assert schedule.next_due(has_flow=False) == 105 * S
    assert schedule.next_due(has_flow=True) == 100 * S + S // 2
