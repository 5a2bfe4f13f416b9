"""The clock that the simulator's core uses: wall time, monotonic time and one alarm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Alarm(Protocol):
    """A scheduled callback."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The event loop's clock in the hub process; a manual one in tests."""

    def wall(self) -> float:
        """Seconds since the epoch: for tokens, times to live and timestamps."""

    def mono(self) -> float:
        """Monotonic seconds: for time-outs."""

    def later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """Call back once after `delay_s`."""


class LoopClock:
    """The clock of a running event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.mono = time.monotonic
        self.wall = time.time

    def later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        return self._loop.call_later(delay_s, callback)
