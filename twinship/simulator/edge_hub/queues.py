"""The queue of one destination: messages by priority, with a time to live, in memory and in the store.

Within a priority the order stays. The most urgent priority is served first; after each batch of ten messages
the queue chooses again (ref 4.5). Only committed messages leave the queue.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from twinship.simulator.store import Store, StoredMessage

BATCH: Final = 10
DROPPED: Final = "dropped"  # kind of document: how many messages were dropped, by reason
EXPIRED: Final = "ttl_expiry"
# Bodies of one queue that stay in memory; the queue reads the others from the store when they are due.
MAX_BODY_BYTES_IN_MEMORY: Final = 16 << 20


@dataclass(slots=True)
class QueuedMessage:
    """One message of a queue. `body` is None when only the store has it."""

    slot: int
    seq: int
    priority: int
    expires: float | None
    head: str
    body: bytes | None = field(repr=False)
    ready_at: float  # Clock.mono: deliver it at this time or later
    size: int  # bytes in the store


class MessageQueue:
    """The messages of one destination. Counts those whose time to live ends in `dropped` and in the store."""

    def __init__(self, name: str, store: Store, dropped: Counter[str]) -> None:
        self.name = name
        self._store = store
        self._dropped = dropped
        self._by_priority: dict[int, deque[QueuedMessage]] = {}
        self._bytes_in_memory = 0
        self._batch: deque[QueuedMessage] = deque()  # the priority that is being served
        self._batch_left = 0

    def __len__(self) -> int:
        return sum(map(len, self._by_priority.values()))

    def lengths(self) -> dict[int, int]:
        """The number of waiting messages by priority."""
        return {priority: len(waiting) for priority, waiting in self._by_priority.items()}

    def add(
        self, head: str, body: bytes, *, priority: int, expires: float | None, ready_at: float, wall: float
    ) -> None:
        """Store a message and append it; drops expired messages in front of it."""
        stored = self._store.add_message(self.name, priority, expires, head, body)
        waiting = self._append(stored, ready_at)
        self._drop_expired(self._by_priority[waiting.priority], wall)

    def restore(self, stored: StoredMessage) -> None:
        """Append a message that an earlier process stored; call in order of `seq`."""
        self._append(stored, 0.0)

    def peek(self, wall: float) -> QueuedMessage | None:
        """The next message, which stays in the queue. None: no committed message waits."""
        if self._batch_left == 0 or not self._batch:
            self._choose_batch(wall)
        self._drop_expired(self._batch, wall)
        if not self._batch:
            self._choose_batch(wall)
        if not self._batch or self._batch[0].seq > self._store.committed_seq:
            return None
        return self._batch[0]

    def begin_batch(self) -> None:
        """Choose the priority again before the next message."""
        self._batch_left = 0

    def take(self) -> QueuedMessage:
        """Take out the message that peek() returned; its stored copy stays until remove() or delivered()."""
        waiting = self._batch.popleft()
        self._batch_left -= 1
        if waiting.body is None:
            waiting.body = self._store.body(waiting.slot)
        else:
            self._bytes_in_memory -= len(waiting.body)
        return waiting

    def put_back(self, waiting: QueuedMessage) -> None:
        """Put a message that was taken and not delivered back to the front of its priority."""
        self._keep_body(waiting)
        self._by_priority.setdefault(waiting.priority, deque()).appendleft(waiting)

    def remove(self, waiting: QueuedMessage) -> None:
        """Remove a message from the store, in the same transaction as the other present writes."""
        self._store.remove_message(waiting.slot, waiting.size)

    def delivered(self, waiting: QueuedMessage) -> None:
        """Remove a delivered message from the store soon: after a crash before that it is delivered twice."""
        self._store.delivered(waiting.slot, waiting.size)

    def sweep(self, wall: float) -> None:
        """Drop the expired messages of every priority."""
        for waiting in self._by_priority.values():
            self._drop_expired(waiting, wall)

    def _append(self, stored: StoredMessage, ready_at: float) -> QueuedMessage:
        size = len(stored.head) + len(stored.body)
        waiting = QueuedMessage(
            stored.slot,
            stored.seq,
            stored.priority,
            stored.expires,
            stored.head,
            stored.body,
            ready_at,
            size,
        )
        self._keep_body(waiting)
        self._by_priority.setdefault(stored.priority, deque()).append(waiting)
        return waiting

    def _keep_body(self, waiting: QueuedMessage) -> None:
        if waiting.body is None:
            return
        if self._bytes_in_memory + len(waiting.body) > MAX_BODY_BYTES_IN_MEMORY:
            waiting.body = None
        else:
            self._bytes_in_memory += len(waiting.body)

    def _choose_batch(self, wall: float) -> None:
        for priority in sorted(self._by_priority):
            batch = self._by_priority[priority]
            self._drop_expired(batch, wall)
            if batch and batch[0].seq <= self._store.committed_seq:
                self._batch, self._batch_left = batch, BATCH
                return
        self._batch, self._batch_left = deque(), 0

    def _drop_expired(self, waiting: deque[QueuedMessage], wall: float) -> None:
        # Only from the front: one priority nearly always has one route, so its oldest message expires first.
        while waiting and (expires := waiting[0].expires) is not None and expires <= wall:
            if waiting[0].seq > self._store.committed_seq:
                return
            expired = waiting.popleft()
            if expired.body is not None:
                self._bytes_in_memory -= len(expired.body)
            self._store.remove_message(expired.slot, expired.size)
            self._dropped[EXPIRED] += 1
            # In the transaction that removes the message: it was acknowledged, so no kill may lose the count.
            self._store.put(DROPPED, EXPIRED, self._dropped[EXPIRED])
