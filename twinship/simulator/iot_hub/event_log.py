"""The stored messages of the built-in endpoint: partitions, sequence numbers, retention (ref 6).

A device's messages are in one partition, in their order. Sequence numbers of a partition have no gaps.
Readers see only what is committed. The row's id holds partition and sequence number, so a position is found
without an index.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from twinship.simulator.clock import Clock
from twinship.simulator.store import Store

logger = logging.getLogger(__name__)

PARTITIONS: Final = 2  # as a free hub has: azure-eventhub waits 0.2 s for each partition without news
RETENTION_S: Final = 86_400.0
MAX_STORE_BYTES: Final = 1 << 30  # above this the oldest messages end before their time
CHECK_EVERY_S: Final = 10.0
_REMOVE_AT_ONCE: Final = 500
_NEXT_CHUNK_S: Final = 0.02
_BITS: Final = 48
_OFFSET: Final = 1 << 10  # an offset is no sequence number: a client that confuses them must notice
DOCUMENTS: Final = "event_log"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One message. `system` has the names of storage; `enqueued_ms` is since the epoch."""

    sequence: int
    enqueued_ms: int
    properties: Mapping[str, str]
    system: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """The sequence numbers of a partition: of its oldest stored and its newest message (-1: none so far)."""

    first: int
    last: int

    @property
    def is_empty(self) -> bool:
        """Whether no message is stored."""
        return self.first > self.last


def offset_of(sequence: int) -> str:
    """The offset of a message."""
    return str(sequence * _OFFSET)


def sequence_of(offset: int) -> int:
    """The sequence number of the last message at or before an offset."""
    return offset // _OFFSET


class EventLog:
    """All partitions. `on_committed` is called after each commit with new messages."""

    def __init__(
        self, store: Store, clock: Clock, *, partitions: int = PARTITIONS, retention_s: float = RETENTION_S
    ) -> None:
        self.partitions = partitions
        self.on_committed: list[Callable[[], None]] = []
        self._store = store
        self._clock = clock
        self._retention_s = retention_s
        ended = store.documents(DOCUMENTS)  # partition → its last sequence number, if none is left
        self._first: list[int] = []
        self._last: list[int] = []
        for partition in range(partitions):
            ids = store.event_ids(_id(partition, 0), _id(partition + 1, 0) - 1)
            after = int(ended.get(str(partition), -1))
            self._first.append(after + 1 if ids is None else _sequence(ids[0]))
            self._last.append(after if ids is None else _sequence(ids[1]))
        self._visible = list(self._last)
        self._waits_for_commit = False

    def start(self) -> None:
        """Begin to remove what is older than the retention."""
        self._expire()

    def append(self, enqueued_ms: int, head: str, body: bytes) -> None:
        """Store a message in the present transaction; `head` as upstream.stored_head() writes it."""
        partition = self.partition_of(json.loads(head)["SystemProperties"].get("connectionDeviceId", ""))
        self._last[partition] += 1
        self._store.add_event(_id(partition, self._last[partition]), enqueued_ms, head, body)
        if not self._waits_for_commit:
            self._waits_for_commit = True
            self._store.after_commit(self._committed)

    def partition_of(self, device: str) -> int:
        """The partition of a device's messages."""
        return zlib.crc32(device.encode()) % self.partitions

    def bounds(self, partition: int) -> Bounds:
        """The committed messages of a partition."""
        return Bounds(self._first[partition], self._visible[partition])

    def read(self, partition: int, after: int, most: int) -> list[StoredEvent]:
        """Up to `most` committed messages after a sequence number."""
        last = min(self._visible[partition], after + most)
        if after >= last:
            return []
        rows = self._store.events(_id(partition, after + 1), _id(partition, last))
        return [_event(*row) for row in rows]

    def enqueued_ms(self, partition: int, sequence: int) -> int:
        """When a stored message was enqueued; 0 if it is not stored."""
        return self._store.event_time(_id(partition, sequence)) or 0

    def before_time(self, partition: int, enqueued_ms: float) -> int:
        """The sequence number of the last message enqueued before a time; one below the first if none was."""
        low, high = self._first[partition], self._visible[partition] + 1
        while low < high:
            middle = (low + high) // 2
            if self.enqueued_ms(partition, middle) < enqueued_ms:
                low = middle + 1
            else:
                high = middle
        return low - 1

    def _committed(self) -> None:
        self._waits_for_commit = False
        self._visible[:] = self._last
        for notify in self.on_committed:
            notify()

    def _expire(self) -> None:
        oldest_ms = (self._clock.wall() - self._retention_s) * 1000
        more = [self._expire_some(partition, oldest_ms) for partition in range(self.partitions)]
        self._clock.later(_NEXT_CHUNK_S if any(more) else CHECK_EVERY_S, self._expire)

    def _expire_some(self, partition: int, oldest_ms: float) -> bool:
        """Remove a bounded number of messages, so that no client waits; True: more may be due."""
        first = self._first[partition]
        due = self.before_time(partition, oldest_ms) + 1
        if self._store.used_bytes > MAX_STORE_BYTES:
            due = max(due, min(first + _REMOVE_AT_ONCE, self._visible[partition] + 1))
        end = min(due, first + _REMOVE_AT_ONCE)
        if end <= first:
            return False
        self._store.remove_events(_id(partition, first), _id(partition, end - 1))
        self._store.put(DOCUMENTS, str(partition), end - 1)
        self._first[partition] = end
        return end < due or self._store.used_bytes > MAX_STORE_BYTES


def _id(partition: int, sequence: int) -> int:
    return partition << _BITS | sequence


def _sequence(row_id: int) -> int:
    return row_id & ((1 << _BITS) - 1)


def _event(row_id: int, enqueued_ms: int, head: str, body: bytes) -> StoredEvent:
    stored = json.loads(head)
    return StoredEvent(
        _sequence(row_id), enqueued_ms, stored["Properties"], stored["SystemProperties"], bytes(body)
    )
