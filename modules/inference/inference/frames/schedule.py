"""When something is due that happens every so often; does none of it and reads no clock."""

from __future__ import annotations


class Every:
    """Something that is done once in `interval_s`, counted from when it was last done."""

    def __init__(self, interval_s: float, last: int = 0) -> None:
        self.interval_s = interval_s  # may be changed at any time
        self.last = last

    @property
    def due(self) -> int:
        """When it is next to be done, ns."""
        return self.last + int(self.interval_s * 1e9)

    def take(self, now: int) -> bool:
        """Whether it is to be done now; if so, it counts as done."""
        if now < self.due:
            return False
        self.last = now
        return True


class Schedule:
    """The module's three: flow to the cameras, the latency message, the counters in the twin."""

    def __init__(self, *, flow_s: float, counters_s: float, latency_s: float = 10) -> None:
        self.flow = Every(flow_s)
        self.latency = Every(latency_s)
        self.counters = Every(counters_s)

    def start(self, now: int) -> None:
        """Everything was just done."""
        for each in (self.flow, self.latency, self.counters):
            each.last = now

    def next_due(self, has_flow: bool) -> int:
        """When to look again: flow only matters when there is some."""
        return min(self.latency.due, self.counters.due, self.flow.due if has_flow else self.latency.due)
