"""Messages that wait to be sent, or for the word that they are stored: bounded, in order; sends nothing."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Lock

from edgekit.frame.message import MAX_BODY_BYTES, Message

# With the body at its limit the whole packet must stay under edgeHub's 262,144 bytes (ref 4.8): a larger one
# sends the SDK into an endless reconnect (ref 2.8). Percent-encoding makes up to three bytes of one.
MAX_PROPERTY_BYTES = 3_072


def too_large(message: Message) -> str | None:
    """Why no hub would take the message, or None."""
    if len(message.body) > MAX_BODY_BYTES:
        return f"body of {len(message.body)} bytes, at most {MAX_BODY_BYTES}"
    properties = sum(len(f"{name}{value}".encode()) + 2 for name, value in message.properties.items())
    if 3 * properties > MAX_PROPERTY_BYTES:
        return f"properties of {properties} bytes, at most {MAX_PROPERTY_BYTES // 3}"
    return None


@dataclass(frozen=True)
class Outgoing:
    """A message on its way to an output."""

    output: str
    message: Message
    on_stored: Callable[[int], None] | None = field(default=None, repr=False)


class Outbox:
    """A queue. What was taken still counts, in number and bytes, until it is `settled`.

    One message after the other is put on the wire: the next is given out once the one before has `begun`,
    whichever threads take them. Several may be under way.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[Outgoing] = deque()
        self._beginning: Outgoing | None = None  # taken, and not on the wire
        self._under_way = 0
        lock = Lock()
        self._changed = Condition(lock)  # something may be taken, or closed
        self._empty = Condition(lock)
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting) + self._under_way

    def put(self, outgoing: Outgoing) -> bool:
        """Queue it; False if the outbox is full or closed. One message alone is never over the bound."""
        size = len(outgoing.message.body)
        with self._changed:
            full = len(self) >= self._max_messages or (len(self) and self._bytes + size > self._max_bytes)
            if self._closed or full:
                return False
            self._waiting.append(outgoing)
            self._bytes += size
            self._wake()
            return True

    def take(self, timeout_s: float) -> Outgoing | None:
        """The oldest message that nobody has taken; None after `timeout_s` or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._next_may_begin(), timeout_s)
            if self._closed or not self._next_may_begin():
                return None
            self._under_way += 1
            self._beginning = self._waiting.popleft()
            return self._beginning

    def begun(self, outgoing: Outgoing) -> None:
        """What was taken is on the wire, or will never be: the next one may begin. May be said again."""
        with self._changed:
            if self._beginning is outgoing:
                self._beginning = None
                self._wake()

    def settled(self, outgoing: Outgoing) -> None:
        """What was taken is stored at the hub, or refused for good."""
        with self._changed:
            self._under_way -= 1
            self._bytes -= len(outgoing.message.body)
            if not len(self):
                self._empty.notify_all()

    def wait_empty(self, timeout_s: float) -> int:
        """Wait until nothing is left, at most `timeout_s`; how many are left."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while len(self) and not self._closed and (left := deadline - time.monotonic()) > 0:
                self._empty.wait(left)
            return len(self)

    def close(self) -> None:
        """Nothing comes in and nothing goes out any more; wakes whoever waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._empty.notify_all()

    def _next_may_begin(self) -> bool:
        return bool(self._waiting) and self._beginning is None

    def _wake(self) -> None:
        if self._next_may_begin():
            self._changed.notify()
