"""Callbacks and bytes that have to wait their turn: what a slow edge and a slow link are made of.

Order is always kept. Reads no clock but the one it is given, opens no socket.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from twinship.simulator.clock import Alarm, Clock

SLICE_BYTES: Final = 1460  # a link carries segments: a short packet need not wait for the end of a long read


class DelayQueue:
    """A line of callbacks, each due at its time and never before the one in front of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._line: deque[tuple[float, Callable[[], object]]] = deque()
        self._alarm: Alarm | None = None

    def __len__(self) -> int:
        return len(self._line)

    def hold(self, delay_s: float, callback: Callable[[], object]) -> None:
        """Call back after this long; at once when there is nothing to wait for. `inf`: at release()."""
        if not delay_s and not self._line:
            callback()
            return
        self._line.append((self._clock.mono() + delay_s, callback))
        self._watch()

    def release(self) -> None:
        """Call back everything now."""
        line, self._line = self._line, deque()
        self._silence()
        for _, callback in line:
            callback()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _watch(self) -> None:
        if self._alarm is not None or not self._line or math.isinf(self._line[0][0]):
            return
        wait_s = max(0.0, self._line[0][0] - self._clock.mono())
        self._alarm = self._clock.later(wait_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = self._clock.mono()
        while self._line and self._line[0][0] <= now:
            self._line.popleft()[1]()
        self._watch()


class LinkShaper:
    """One direction of a connection: bytes go in, and come out in order at a rate and after a delay.

    A token bucket without depth: a byte leaves when those before it have left. `black_hole`: nothing does.
    """

    def __init__(self, clock: Clock, out: Callable[[bytes], None]) -> None:
        self._clock = clock
        self._out = out
        self._waiting: deque[tuple[float, bytes]] = deque()  # when it comes out, what
        self._free_at = 0.0  # when the last byte so far has been carried
        self._alarm: Alarm | None = None
        self._rate, self._delay_s, self._black_hole = 0.0, 0.0, False
        self.waiting_bytes = 0
        self.taken_bytes = 0  # since the connection began

    def shape(self, rate: float, delay_s: float, *, black_hole: bool) -> None:
        """Bytes a second (0: no limit), seconds, and whether anything passes at all; from now on."""
        if (rate, delay_s, black_hole) == (self._rate, self._delay_s, self._black_hole):
            return
        self._rate, self._delay_s, self._black_hole = rate, delay_s, black_hole
        waiting, self._waiting = self._waiting, deque()
        self._free_at, self.waiting_bytes = self._clock.mono(), 0
        self._silence()
        taken_bytes = self.taken_bytes
        for _, data in waiting:
            self.put(data)
        self.taken_bytes = taken_bytes

    def put(self, data: bytes) -> None:
        """Carry bytes."""
        self.taken_bytes += len(data)
        if not self._waiting and not (self._rate or self._delay_s or self._black_hole):
            self._out(data)
            return
        for at in range(0, len(data), SLICE_BYTES):
            self._append(data[at : at + SLICE_BYTES])
        self._watch()

    def flush(self) -> None:
        """Let out what waits, at once."""
        waiting, self._waiting, self.waiting_bytes = self._waiting, deque(), 0
        self._silence()
        for _, data in waiting:
            self._out(data)

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self.waiting_bytes = 0
        self._silence()

    def _append(self, data: bytes) -> None:
        if self._black_hole:
            due = math.inf
        else:
            self._free_at = max(self._free_at, self._clock.mono())
            self._free_at += len(data) / self._rate if self._rate else 0.0
            due = self._free_at + self._delay_s
        self._waiting.append((due, data))
        self.waiting_bytes += len(data)

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _watch(self) -> None:
        if self._alarm is not None or not self._waiting or math.isinf(self._waiting[0][0]):
            return
        wait_s = max(0.0, self._waiting[0][0] - self._clock.mono())
        self._alarm = self._clock.later(wait_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = self._clock.mono()
        while self._waiting and self._waiting[0][0] <= now:
            _, data = self._waiting.popleft()
            self.waiting_bytes -= len(data)
            self._out(data)
        self._watch()
