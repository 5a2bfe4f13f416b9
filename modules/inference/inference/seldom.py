"""Says when a thing that may happen a thousand times a second is worth a log line; logs nothing itself."""

from __future__ import annotations


class Seldom:
    """At most one line for each kind in `interval_s`. Kinds are words of ours, never what a sender chose."""

    def __init__(self, interval_s: float = 10) -> None:
        self._interval_ns = int(interval_s * 1e9)
        self._said: dict[str, int] = {}
        self._unsaid: dict[str, int] = {}

    def worth(self, kind: str, now: int) -> int | None:
        """How many times it went unsaid since the last line, if a line is due at `now` (ns); else None."""
        if kind in self._said and now - self._said[kind] < self._interval_ns:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return None
        self._said[kind] = now
        return self._unsaid.pop(kind, 0)
