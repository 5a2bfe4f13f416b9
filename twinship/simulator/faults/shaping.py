"""Delay queue for callbacks; link shaper for bytes. Both keep the order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from twinship.simulator.clock import Alarm, Clock

SLICE_BYTES: Final = 1460  # one TCP segment: a short packet need not wait for the end of a long read

T = TypeVar("T")


class _TimedQueue(Generic[T]):
    """Hands each item to `out` when it is due, and never before the items in front of it."""

    def __init__(self, clock: Clock, out: Callable[[T], object]) -> None:
        self._clock = clock
        self._out = out
        self._items: deque[tuple[float, T]] = deque()  # due time (inf: never), item
        self._alarm: Alarm | None = None

    def __len__(self) -> int:
        return len(self._items)

    def append(self, due: float, item: T) -> None:
        self._items.append((due, item))
        self._schedule()

    def take_all(self) -> list[T]:
        """Empty the queue; returns its items in order."""
        items, self._items = self._items, deque()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        return [item for _, item in items]

    def _schedule(self) -> None:
        if self._alarm is not None or not self._items or math.isinf(self._items[0][0]):
            return
        wait_s = max(0.0, self._items[0][0] - self._clock.mono())
        self._alarm = self._clock.later(wait_s, self._hand_out)

    def _hand_out(self) -> None:
        self._alarm = None
        now = self._clock.mono()
        while self._items and self._items[0][0] <= now:
            self._out(self._items.popleft()[1])
        self._schedule()


class DelayQueue:
    """Callbacks that run later, in the order in which they were added."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue = _TimedQueue[Callable[[], object]](clock, lambda callback: callback())

    def hold(self, delay_s: float, callback: Callable[[], object]) -> None:
        """Call back after `delay_s`, or at release(). Without a delay and a queue, call back at once."""
        if not delay_s and not self._queue:
            callback()
        else:
            self._queue.append(self._clock.mono() + delay_s, callback)

    def release(self) -> None:
        """Run all callbacks now."""
        for callback in self._queue.take_all():
            callback()


class LinkShaper:
    """One direction of a connection: bytes leave in order, at a rate and after a delay.

    A token bucket of depth 0: a byte leaves after the bytes before it. With `black_hole` no byte leaves.
    """

    def __init__(self, clock: Clock, out: Callable[[bytes], None]) -> None:
        self._clock = clock
        self._out = out
        self._queue = _TimedQueue[bytes](clock, self._leave)
        self._free_at = 0.0  # when the link has carried all bytes so far
        self._rate, self._delay_s, self._black_hole = 0.0, 0.0, False
        self.waiting_bytes = 0
        self.taken_bytes = 0  # since the connection began

    def shape(self, rate: float, delay_s: float, *, black_hole: bool) -> None:
        """Set the rate (bytes a second, 0: no limit), the delay and the black hole; waiting bytes adapt."""
        if (rate, delay_s, black_hole) == (self._rate, self._delay_s, self._black_hole):
            return
        self._rate, self._delay_s, self._black_hole = rate, delay_s, black_hole
        self._free_at, self.waiting_bytes = self._clock.mono(), 0
        taken_bytes = self.taken_bytes
        for data in self._queue.take_all():
            self.put(data)
        self.taken_bytes = taken_bytes

    def put(self, data: bytes) -> None:
        """Carry bytes."""
        self.taken_bytes += len(data)
        if not self._queue and not (self._rate or self._delay_s or self._black_hole):
            self._out(data)
            return
        for at in range(0, len(data), SLICE_BYTES):
            self._wait(data[at : at + SLICE_BYTES])

    def flush(self) -> None:
        """Let all waiting bytes leave at once."""
        self.waiting_bytes = 0
        for data in self._queue.take_all():
            self._out(data)

    def clear(self) -> None:
        """Discard all waiting bytes."""
        self._queue.take_all()
        self.waiting_bytes = 0

    def close(self) -> None:
        """Carry no more bytes, and let go of `out`."""
        self.clear()
        self._out = _discard

    def _wait(self, data: bytes) -> None:
        if self._black_hole:
            due = math.inf
        else:
            self._free_at = max(self._free_at, self._clock.mono())
            self._free_at += len(data) / self._rate if self._rate else 0.0
            due = self._free_at + self._delay_s
        self.waiting_bytes += len(data)
        self._queue.append(due, data)

    def _leave(self, data: bytes) -> None:
        self.waiting_bytes -= len(data)
        self._out(data)


def _discard(_data: bytes) -> None:
    """Where a closed link leads."""
