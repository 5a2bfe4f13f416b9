"""What waits for one destination: by priority, with a time to live, kept in the store. Sends nothing.

Order is kept within a priority. The most urgent priority goes first, looked at again after each batch of ten
(ref 4.5). A message counts as waiting only once it is committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from twinship.simulator.store import Store, StoredMessage

BATCH: Final = 10
# What a queue holds in memory of the bodies it keeps; the rest is read from the store when its turn comes.
MAX_BODY_BYTES_IN_MEMORY: Final = 16 << 20


@dataclass(slots=True)
class Waiting:
    """One message of a queue. `body` is None where only the store has it."""

    slot: int
    seq: int
    priority: int
    expires: float | None
    head: str
    body: bytes | None = field(repr=False)
    ready_at: float  # Clock.mono: not to be delivered before
    size: int  # what it takes in the store


class MessageQueue:
    """One destination's messages. `expired` is called for each whose time to live ran out."""

    def __init__(self, name: str, store: Store, expired: Callable[[], None]) -> None:
        self.name = name
        self._store = store
        self._expired = expired
        self._by_priority: dict[int, deque[Waiting]] = {}
        self._bytes_in_memory = 0
        self._batch: deque[Waiting] = deque()  # the priority that is being served
        self._batch_left = 0

    def __len__(self) -> int:
        return sum(map(len, self._by_priority.values()))

    def lengths(self) -> dict[int, int]:
        """How many wait, by priority."""
        return {priority: len(waiting) for priority, waiting in self._by_priority.items()}

    def add(
        self, head: str, body: bytes, *, priority: int, expires: float | None, ready_at: float, wall: float
    ) -> None:
        """Store a message and let it wait; what has expired before it goes."""
        stored = self._store.add_message(self.name, priority, expires, head, body)
        waiting = self._enter(stored, ready_at)
        self._drop_expired(self._by_priority[waiting.priority], wall)

    def restore(self, stored: StoredMessage) -> None:
        """Let a message wait that an earlier process stored; in order of `seq`."""
        self._enter(stored, 0.0)

    def head(self, wall: float) -> Waiting | None:
        """The message whose turn it is; it stays. None: nothing committed waits."""
        if self._batch_left == 0 or not self._batch:
            self._choose_batch(wall)
        self._drop_expired(self._batch, wall)
        if not self._batch:
            self._choose_batch(wall)
        if not self._batch or self._batch[0].seq > self._store.committed_seq:
            return None
        return self._batch[0]

    def begin_batch(self) -> None:
        """Look at the priorities again before the next message."""
        self._batch_left = 0

    def take(self) -> Waiting:
        """Take out what head() showed; its stored copy stays until done()."""
        waiting = self._batch.popleft()
        self._batch_left -= 1
        if waiting.body is None:
            waiting.body = self._store.body(waiting.slot)
        else:
            self._bytes_in_memory -= len(waiting.body)
        return waiting

    def give_back(self, waiting: Waiting) -> None:
        """Put what was taken and not delivered back in front of its priority."""
        self._hold(waiting)
        self._by_priority.setdefault(waiting.priority, deque()).appendleft(waiting)

    def done(self, waiting: Waiting) -> None:
        """Forget a message for good, in the same transaction as what else is written now."""
        self._store.remove_message(waiting.slot, waiting.size)

    def delivered(self, waiting: Waiting) -> None:
        """Forget a message for good, soon: who received it has it, and may be given it twice."""
        self._store.delivered(waiting.slot, waiting.size)

    def sweep(self, wall: float) -> None:
        """Drop what has expired, in every priority."""
        for waiting in self._by_priority.values():
            self._drop_expired(waiting, wall)

    def _enter(self, stored: StoredMessage, ready_at: float) -> Waiting:
        size = len(stored.head) + len(stored.body)
        waiting = Waiting(
            stored.slot,
            stored.seq,
            stored.priority,
            stored.expires,
            stored.head,
            stored.body,
            ready_at,
            size,
        )
        self._hold(waiting)
        self._by_priority.setdefault(stored.priority, deque()).append(waiting)
        return waiting

    def _hold(self, waiting: Waiting) -> None:
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

    def _drop_expired(self, waiting: deque[Waiting], wall: float) -> None:
        # Front only: messages of one priority nearly always come from one route, so the oldest goes first.
        while waiting and (expires := waiting[0].expires) is not None and expires <= wall:
            if waiting[0].seq > self._store.committed_seq:
                return
            gone = waiting.popleft()
            if gone.body is not None:
                self._bytes_in_memory -= len(gone.body)
            self._store.remove_message(gone.slot, gone.size)
            self._expired()
