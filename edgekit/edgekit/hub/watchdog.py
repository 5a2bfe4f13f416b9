"""Detects a peer that accepts connections but no longer answers. The caller passes the time in."""

import itertools
from dataclasses import dataclass, replace
from threading import Lock


@dataclass(frozen=True)
class Pending:
    """A request without an answer."""

    request: str
    since_s: float
    connecting: bool  # part of connecting: it counts while there is no connection, too


class Watchdog:
    """Pending requests and how long each has waited. Thread-safe.

    A request that is not part of connecting counts only while there is a connection: without one the SDK
    holds it back until the next connection, which does not mean that the peer is stuck.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._lock = Lock()
        self._numbers = itertools.count()
        self._pending: dict[int, Pending] = {}

    def begin(self, request: str, now_s: float, *, connecting: bool = False) -> int:
        """Record a request. Returns a number to pass to `end`."""
        with self._lock:
            number = next(self._numbers)
            self._pending[number] = Pending(request, now_s, connecting)
            return number

    def end(self, number: int) -> None:
        """The request was answered; an error is an answer."""
        with self._lock:
            self._pending.pop(number, None)

    def restart(self, now_s: float) -> None:
        """Restart the time of every pending request: the connection has changed, or the peer is away."""
        with self._lock:
            self._pending = {number: replace(each, since_s=now_s) for number, each in self._pending.items()}

    def overdue(self, now_s: float, *, connected: bool) -> Pending | None:
        """The request that has waited longest, if it has waited longer than the deadline."""
        with self._lock:
            counting = [each for each in self._pending.values() if connected or each.connecting]
        longest = min(counting, key=lambda each: each.since_s, default=None)
        return longest if longest and now_s - longest.since_s > self._deadline_s else None
