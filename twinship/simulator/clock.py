"""Time as the simulator's core sees it: two readings and one alarm. The core reads no other clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Alarm(Protocol):
    """A callback that is still to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """What the core is given: the loop's clock in the process, one that a test turns by hand in the tests."""

    def wall(self) -> float:
        """Seconds since the epoch: for tokens, times to live, stamps."""

    def mono(self) -> float:
        """Seconds that only ever rise: for time-outs."""

    def later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """Call back once, after `delay_s`."""


class LoopClock:
    """The clock of a running event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.mono = time.monotonic
        self.wall = time.time

    def later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        return self._loop.call_later(delay_s, callback)
