"""Messages from `send` until the hub acknowledges them: in order, limited in number and bytes."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Lock

from edgekit.frame.message import MAX_BODY_BYTES, Message

# Body and encoded properties must stay under edgeHub's 262,144 bytes for a packet (ref 4.8), with room for
# the rest: a larger packet makes the SDK reconnect for ever (ref 2.8). The properties are in the topic, a
# string of at most 65,535 bytes in MQTT. Percent-encoding triples a byte at most.
MAX_BYTES = MAX_BODY_BYTES + 3_072
MAX_ENCODED_PROPERTIES = 60_000


def too_large(message: Message) -> str | None:
    """Why every hub would refuse the message, or None."""
    if len(message.body) > MAX_BODY_BYTES:
        return f"body of {len(message.body)} bytes, at most {MAX_BODY_BYTES}"
    properties = sum(len(f"{name}{value}".encode()) + 2 for name, value in message.properties.items())
    room = min(MAX_ENCODED_PROPERTIES, MAX_BYTES - len(message.body)) // 3
    if properties > room:
        return f"properties of {properties} bytes, at most {room}"
    return None


@dataclass(frozen=True)
class Outgoing:
    """A message on its way to an output."""

    output: str
    message: Message
    on_stored: Callable[[int], None] | None = field(default=None, repr=False)


class Outbox:
    """A queue for several sending threads. A message counts, in number and bytes, until `acknowledged`.

    Messages go on the wire one after the other: `take` returns the next one only after `on_wire` was called
    for the one before. Several may wait for their acknowledgement at once.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[Outgoing] = deque()
        self._not_on_wire: Outgoing | None = None  # taken, but not on the wire yet
        self._in_flight = 0
        lock = Lock()
        self._takeable = Condition(lock)  # a message can be taken, or the outbox is closed
        self._empty = Condition(lock)
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting) + self._in_flight

    def put(self, outgoing: Outgoing) -> bool:
        """Queue a message; False if the outbox is full or closed. An empty outbox accepts any size."""
        size = len(outgoing.message.body)
        with self._takeable:
            full = len(self) >= self._max_messages or (len(self) and self._bytes + size > self._max_bytes)
            if self._closed or full:
                return False
            self._waiting.append(outgoing)
            self._bytes += size
            self._notify()
            return True

    def take(self, timeout_s: float) -> Outgoing | None:
        """The oldest waiting message; None after `timeout_s` or once closed."""
        with self._takeable:
            self._takeable.wait_for(lambda: self._closed or self._can_take(), timeout_s)
            if self._closed or not self._can_take():
                return None
            self._in_flight += 1
            self._not_on_wire = self._waiting.popleft()
            return self._not_on_wire

    def on_wire(self, outgoing: Outgoing) -> None:
        """A taken message is on the wire or was given up. May be called more than once."""
        with self._takeable:
            if self._not_on_wire is outgoing:
                self._not_on_wire = None
                self._notify()

    def acknowledged(self, outgoing: Outgoing) -> None:
        """The hub acknowledged a taken message (PUBACK), or it was given up."""
        with self._takeable:
            self._in_flight -= 1
            self._bytes -= len(outgoing.message.body)
            if not len(self):
                self._empty.notify_all()

    def wait_empty(self, timeout_s: float) -> int:
        """Wait until the outbox is empty, at most `timeout_s`. Returns how many messages remain."""
        deadline = time.monotonic() + timeout_s
        with self._takeable:
            while len(self) and not self._closed and (left := deadline - time.monotonic()) > 0:
                self._empty.wait(left)
            return len(self)

    def close(self) -> None:
        """Refuse further `put` and `take` calls, and wake all waiting threads."""
        with self._takeable:
            self._closed = True
            self._takeable.notify_all()
            self._empty.notify_all()

    def _can_take(self) -> bool:
        return bool(self._waiting) and self._not_on_wire is None

    def _notify(self) -> None:
        if self._can_take():
            self._takeable.notify()
