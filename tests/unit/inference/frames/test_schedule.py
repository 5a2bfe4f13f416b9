"""When something is due: by the interval, from when it was last done."""

from inference.frames.schedule import Every, Schedule

S = 10**9


def test_due_once_in_each_interval() -> None:
    """Taken when due, not before, and then only an interval later."""
    every = Every(2, last=S)
    assert not every.take(3 * S - 1)
    assert every.take(3 * S)
    assert not every.take(4 * S)
    assert every.due == 5 * S


def test_a_changed_interval_applies_at_once() -> None:
    """The twin may shorten an hour to a second."""
    every = Every(3_600)
    every.interval_s = 1
    assert every.take(S)


def test_flow_counts_only_when_there_is_some() -> None:
    """The worker sleeps until something is due that has something to say."""
    schedule = Schedule(flow_s=0.5, counters_s=5, latency_s=10)
    schedule.start(100 * S)
    assert schedule.next_due(has_flow=False) == 105 * S
    assert schedule.next_due(has_flow=True) == 100 * S + S // 2
