"""When is a peer that accepts connections no longer answering? Takes the time, decides; opens no socket."""

import itertools
from dataclasses import dataclass, replace
from threading import Lock


@dataclass(frozen=True)
class Pending:
    """One request that has not been answered."""

    what: str
    since_s: float
    connects: bool  # part of connecting: counts without a connection too


class Watchdog:
    """What waits for an answer, and for how long. Safe to call from any thread.

    Requests other than those of connecting are silent only while there is a connection: without one the SDK
    holds them back for the next, and that is no sign of a peer which is stuck.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._lock = Lock()
        self._numbers = itertools.count()
        self._pending: dict[int, Pending] = {}

    def begin(self, what: str, now_s: float, *, connects: bool = False) -> int:
        """Note a request; `end` takes the number that this returns."""
        with self._lock:
            number = next(self._numbers)
            self._pending[number] = Pending(what, now_s, connects)
            return number

    def end(self, number: int) -> None:
        """The request was answered, whatever the answer."""
        with self._lock:
            self._pending.pop(number, None)

    def restart(self, now_s: float) -> None:
        """Count anew for all that is pending: the connection has changed, or the peer accepts none."""
        with self._lock:
            self._pending = {number: replace(each, since_s=now_s) for number, each in self._pending.items()}

    def overdue(self, now_s: float, *, connected: bool) -> Pending | None:
        """The request that has waited longest, if that is over the deadline."""
        with self._lock:
            counting = [each for each in self._pending.values() if connected or each.connects]
        longest = min(counting, key=lambda each: each.since_s, default=None)
        return longest if longest and now_s - longest.since_s > self._deadline_s else None
