"""Decides when the periodic reports are due: flow, the latency message, the counters in the twin.

Pure: the caller passes the time, CLOCK_MONOTONIC ns, and performs the work.

>>> schedule = Schedule(flow_s=0.5, counters_s=5, latency_s=10)
>>> schedule.start(now=0)
>>> schedule.next_due(has_flow=False)
5000000000
>>> schedule.counters.take(now=5_000_000_000)
True
>>> schedule.counters.take(now=6_000_000_000)
False
"""

from __future__ import annotations


class Periodic:
    """An action that is due `interval_s` seconds after its last execution."""

    def __init__(self, interval_s: float, last: int = 0) -> None:
        self.interval_s = interval_s  # may change at any time
        self.last = last

    @property
    def due(self) -> int:
        """The time of the next execution, ns."""
        return self.last + int(self.interval_s * 1e9)

    def take(self, now: int) -> bool:
        """Return whether the action is due; if it is, the next interval starts now."""
        if now < self.due:
            return False
        self.last = now
        return True


class Schedule:
    """The three periodic reports of the module."""

    def __init__(self, *, flow_s: float, counters_s: float, latency_s: float = 10) -> None:
        self.flow = Periodic(flow_s)
        self.latency = Periodic(latency_s)
        self.counters = Periodic(counters_s)

    def start(self, now: int) -> None:
        """Start all three intervals now."""
        for each in (self.flow, self.latency, self.counters):
            each.last = now

    def next_due(self, has_flow: bool) -> int:
        """Return the time of the next report, ns; flow counts only when there is some to send."""
        return min(self.latency.due, self.counters.due, self.flow.due if has_flow else self.latency.due)
