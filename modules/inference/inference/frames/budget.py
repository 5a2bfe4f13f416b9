"""How much inference may send upstream in a day: a token bucket of the messages that IoT Hub counts.

IoT Hub counts a message once for every started block of 4 KB, on a free hub of 0.5 KB, and refuses messages
above its daily quota until midnight UTC (learn.microsoft.com/azure/iot-hub/iot-hub-devguide-pricing). The
bucket begins no window of 24 hours with more than `capacity` tokens, and it refills with `per_day - capacity`
a day: so no 24 hours take more than `per_day`. What matters less leaves more tokens in the bucket, so that
events (drift, a refused model) always find some. Pure: the caller passes sizes and the time.

>>> budget = Budget()
>>> budget.configure(per_day=8_000, block_bytes=512, now=0)
>>> budget.blocks(1_300)
3
>>> sum(budget.take(Use.ORDINARY, 1, now=0) for _ in range(1_000))  # half of it is for what matters more
0
>>> sum(budget.take(Use.CHANGE, 1, now=0) for _ in range(1_000))
83
>>> budget.latency_interval_s(10)
172.8
"""

from __future__ import annotations

import threading
from enum import Enum
from typing import Final, Generic, TypeVar

DAY_S: Final = 86_400
LEAST_PER_DAY: Final = 200  # with less, neither answers nor figures come through
LATENCY_BYTES: Final = 1_700  # of a latency message: body and properties
MAX_LATENCY_BYTES: Final = 4_096  # of one that is sent with a budget
LATENCY_SHARE: Final = 1 / 4  # of a day's messages: the interval of the latency message is stretched to it
HOLD_S: Final = 5.0  # how long a prediction waits for others that fill its block
OVERHEAD_BYTES: Final = 320  # of a predictions message: all but the records

_BURST_SHARE: Final = 1 / 24
_LEAST_BURST: Final = 32
_START_SHARE: Final = 1 / 2  # of the capacity, when a process starts


class Use(Enum):
    """What a message is for. The value is the share of the capacity that such a message leaves alone."""

    LATENCY = 1 / 8
    CHANGE = 1 / 4  # a prediction that differs from the last one, is uncertain, or is a heartbeat
    ORDINARY = 1 / 2  # any other prediction


class Budget:
    """The token bucket; without `configure` there is no limit. Any thread may call it."""

    def __init__(self) -> None:
        self.block_bytes = 4_096
        self._lock = threading.Lock()  # guards what follows
        self._per_day = 0
        self._tokens = 0.0
        self._at = 0  # when `_tokens` was right, CLOCK_MONOTONIC ns

    def configure(self, per_day: int, block_bytes: int, now: int) -> None:
        """Set messages a day, 0 for no limit, and bytes a message. The tokens that are left stay."""
        with self._lock:
            self._refill(now)
            began, self._per_day, self.block_bytes = self.limited, per_day, block_bytes
            self._tokens = min(self._tokens, self._capacity) if began else _START_SHARE * self._capacity

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self._per_day > 0

    def blocks(self, size: int) -> int:
        """Return as how many messages IoT Hub counts one of so many bytes."""
        return blocks(size, self.block_bytes)

    def affords(self, use: Use, count: int, now: int) -> bool:
        """Return whether `take` would succeed."""
        if not self.limited:
            return True
        with self._lock:
            self._refill(now)
            return self._tokens - count >= use.value * self._capacity

    def take(self, use: Use, count: int, now: int) -> bool:
        """Pay for so many blocks; False, and nothing is paid, if this use may not have them."""
        if not self.affords(use, count, now):
            return False
        self.charge(count, now)
        return True

    def charge(self, count: int, now: int) -> None:
        """Pay for blocks that are sent in any case."""
        with self._lock:
            self._refill(now)
            self._tokens -= count

    def latency_interval_s(self, wanted_s: float) -> float:
        """Return the interval of the latency message: `wanted_s`, or longer if the budget needs it."""
        if not self.limited:
            return wanted_s
        return max(wanted_s, DAY_S * self.blocks(LATENCY_BYTES) / (LATENCY_SHARE * self._per_day))

    @property
    def _capacity(self) -> float:
        return min(self._per_day / 2, max(self._per_day * _BURST_SHARE, _LEAST_BURST))

    def _refill(self, now: int) -> None:
        passed_s, self._at = max(0, now - self._at) / 1e9, max(now, self._at)
        grown = self._tokens + (self._per_day - self._capacity) * passed_s / DAY_S
        self._tokens = min(self._capacity, grown)


def blocks(size: int, block_bytes: int) -> int:
    """Return how many blocks a message of so many bytes starts; an empty one counts, too."""
    return max(1, -(-size // block_bytes))


Item = TypeVar("Item")


class Packer(Generic[Item]):
    """Gathers records until they fill the blocks that the first one paid for, or HOLD_S have passed.

    >>> budget = Budget(); budget.configure(per_day=8_000, block_bytes=4_096, now=0)
    >>> packer = Packer[str](budget)
    >>> [packer.offer(name, 1_500, Use.CHANGE, now=0) for name in "abc"]  # the third does not fit
    [[], [], ['a', 'b']]
    >>> packer.take(), packer.due
    (['c'], None)
    """

    def __init__(self, budget: Budget) -> None:
        self.due: int | None = None  # when `take` has to be called, CLOCK_MONOTONIC ns
        self._budget = budget
        self._items: list[Item] = []
        self._left = 0  # bytes

    def hopeless(self, use: Use, now: int) -> bool:
        """Return whether `offer` would refuse a record of any size."""
        return not self._items and not self._budget.affords(use, 1, now)

    def offer(self, item: Item, size: int, use: Use, now: int, alone: int = 0) -> list[Item] | None:
        """Let a record wait; return those that have to be sent now, or None if the budget refuses it.

        A record that fits into what is paid for already costs nothing, whatever its use. `alone`: bytes of a
        message with this record only, besides.
        """
        if self._items and size < self._left:
            self._items.append(item)
            self._left -= size + 1  # the comma
            return []
        count = self._budget.blocks(OVERHEAD_BYTES + size + alone)
        if not self._budget.take(use, count, now):
            return None
        full = self.take()
        self._items, self.due = [item], now + int(HOLD_S * 1e9)
        self._left = count * self._budget.block_bytes - OVERHEAD_BYTES - size
        return full

    def take(self) -> list[Item]:
        """Remove and return the records that wait."""
        items, self._items, self.due = self._items, [], None
        return items
