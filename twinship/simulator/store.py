"""The hub's durable state in one SQLite file: JSON documents by kind and key, and queued messages.

The store commits once per turn of the event loop. The first write of a turn opens a transaction, the next
turn begins with its COMMIT, and the callbacks that waited for it (PUBACKs, answers) run right after. This
needs no thread and no timer; only delivered messages, for which nobody waits, are removed together a moment
later. Outside a running loop every write commits at once. WAL with synchronous=NORMAL survives `kill -9`;
durability "full" survives a power loss too.

A failed write ends the store, because memory and disk would differ: it refuses every later call, calls
`on_failure` once and never runs the waiting callbacks (ref 4.4: no PUBACK, so the senders send again).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from twinship.simulator.common.private_files import open_private

logger = logging.getLogger(__name__)

Durability: TypeAlias = Literal["normal", "full"]
DURABILITIES: Final[tuple[str, ...]] = get_args(Durability)
SCHEMA_VERSION: Final = 3
# A second connection, in a thread, copies the log back without blocking writers.
CHECKPOINT_BYTES: Final = 4 << 20
# Under constant load the thread never catches up, so above this size the writer itself copies the log back.
MAX_LOG_BYTES: Final = 64 << 20
ROW_BYTES: Final = 4096  # each write costs at least one page of the log
# A delivered message stays on disk for at most this time; a kill in between delivers it again. Removing each
# message at once costs as much as storing it. Usually the next message overwrites its row before: then one
# page changes, and none is freed or added.
DELIVERED_WITHIN_S: Final = 0.01

_DOCUMENTS: Final = """
CREATE TABLE documents (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
"""
_MESSAGES: Final = """
CREATE TABLE messages (slot INTEGER PRIMARY KEY, seq INTEGER NOT NULL, queue TEXT NOT NULL,
                       priority INTEGER NOT NULL, expires REAL, head TEXT NOT NULL, body BLOB NOT NULL);
"""
_FROM_1: Final = f"""
ALTER TABLE messages RENAME TO messages_1;
{_MESSAGES}
INSERT INTO messages SELECT seq, seq, queue, priority, expires, head, body FROM messages_1;
DROP TABLE messages_1;
"""
_EVENTS: Final = """
CREATE TABLE events (id INTEGER PRIMARY KEY, enqueued_ms INTEGER NOT NULL, head TEXT NOT NULL,
                     body BLOB NOT NULL);
"""
_TO_SCHEMA: Final = {
    0: _DOCUMENTS + _MESSAGES + _EVENTS,
    1: _FROM_1 + _EVENTS,
    2: _EVENTS,
}  # from the version that a file has
_JSON: Final = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False
)  # dumps() makes an encoder for each call
_EMPTY: Final = "DELETE FROM messages WHERE slot = ?"


class StoreUnusable(Exception):
    """The file cannot be used. The text names it and the cure."""


class StorageFailed(Exception):
    """A write did not reach the disk, so nothing that depends on it may be acknowledged."""


@dataclass(slots=True)  # not frozen: on the frame path, a frozen one takes five times as long to make
class StoredMessage:
    """A message in a queue. `expires`: seconds since the epoch (None: never). `head`: text of the caller."""

    slot: int  # its row, which a later message may reuse
    seq: int  # its position in the order of all stored messages
    queue: str
    priority: int
    expires: float | None
    head: str
    body: bytes = field(repr=False)


class Store:
    """Opening raises StoreUnusable; every method raises StorageFailed after a failed write."""

    def __init__(self, path: Path, durability: str = "normal") -> None:
        if durability not in DURABILITIES:
            raise StoreUnusable(f"durability {durability!r} is none of {', '.join(DURABILITIES)}")
        self.path = path
        self.on_failure: Callable[[StorageFailed], None] = lambda error: None
        self._failed: StorageFailed | None = None
        self._in_transaction = False
        self._waiting: list[Callable[[], None]] = []
        self._delivered: list[int] = []  # slots to reuse or to delete
        self._delivered_alarm: asyncio.TimerHandle | None = None
        self._unchecked_bytes = 0
        self._checkpoint: asyncio.Future[None] | None = None  # the running one, or the last
        self._db = _open(path, durability)
        self._writer = self._db.cursor()  # one cursor: execute() on the connection makes a new one each time
        lasts = "SELECT max(slot), max(seq), sum(length(head) + length(body)) FROM messages"
        last_slot, last_seq, message_bytes = self._db.execute(lasts).fetchone()
        self._last_slot: int = last_slot or 0
        self._last_seq: int = last_seq or 0
        self.message_bytes: int = message_bytes or 0  # heads and bodies of all queued messages
        self.committed_seq = self._last_seq  # every message up to this one is on disk

    def documents(self, kind: str) -> dict[str, Any]:
        """All documents of a kind by key."""
        rows = self._db.execute("SELECT key, value FROM documents WHERE kind = ?", (kind,))
        return {key: json.loads(value) for key, value in rows}

    def put(self, kind: str, key: str, value: Any) -> None:
        """Store a JSON value; raises TypeError or ValueError for other values."""
        text = _JSON.encode(value)
        self._write("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (kind, key, text), len(text))

    def delete(self, kind: str, key: str) -> None:
        """Delete a document, if it exists."""
        self._write("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key), 0)

    def add_message(
        self, queue: str, priority: int, expires: float | None, head: str, body: bytes
    ) -> StoredMessage:
        """Append to a queue. `seq` increases across all queues."""
        self._last_seq += 1
        row = (self._free_slot(), self._last_seq, queue, priority, expires, head, body)
        self._write("INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", row, len(body))
        self.message_bytes += len(head) + len(body)
        return StoredMessage(*row)

    def remove_message(self, slot: int, size: int = 0) -> None:
        """Remove a message of `size` bytes (head and body) from its queue."""
        self._write(_EMPTY, (slot,), 0)
        self.message_bytes -= size

    def delivered(self, slot: int, size: int) -> None:
        """Remove a delivered message like remove_message(), but from the disk a moment later."""
        self._delivered.append(slot)
        self.message_bytes -= size
        if self._delivered_alarm is None:
            self._remove_delivered_soon()

    def messages(self) -> Iterator[StoredMessage]:
        """All queued messages, oldest first; reads one body at a time."""
        for (slot,) in self._db.execute("SELECT slot FROM messages ORDER BY seq").fetchall():
            row = self._db.execute("SELECT * FROM messages WHERE slot = ?", (slot,)).fetchone()
            yield StoredMessage(*row)

    def body(self, slot: int) -> bytes:
        """The body of a queued message; raises KeyError if it is not queued."""
        row = self._db.execute("SELECT body FROM messages WHERE slot = ?", (slot,)).fetchone()
        if row is None:
            raise KeyError(slot)
        return bytes(row[0])

    def add_event(self, event_id: int, enqueued_ms: int, head: str, body: bytes) -> None:
        """Store a message of the event log; its caller chooses ids that increase."""
        self._write("INSERT INTO events VALUES (?, ?, ?, ?)", (event_id, enqueued_ms, head, body), len(body))

    def events(self, first_id: int, last_id: int) -> list[tuple[int, int, str, bytes]]:
        """Id, time, head and body of the events with these ids, in order."""
        rows = "SELECT id, enqueued_ms, head, body FROM events WHERE id BETWEEN ? AND ? ORDER BY id"
        return self._db.execute(rows, (first_id, last_id)).fetchall()

    def event_time(self, event_id: int) -> int | None:
        """When an event was enqueued, in milliseconds; None: it is not stored."""
        row = self._db.execute("SELECT enqueued_ms FROM events WHERE id = ?", (event_id,)).fetchone()
        return None if row is None else int(row[0])

    def event_ids(self, first_id: int, last_id: int) -> tuple[int, int] | None:
        """The lowest and the highest stored id in this range; None: there is none."""
        ends = "SELECT {}(id) FROM events WHERE id BETWEEN ? AND ?"  # one of each: SQLite then reads one row
        low, high = (
            self._db.execute(ends.format(end), (first_id, last_id)).fetchone()[0] for end in ("min", "max")
        )
        return None if low is None else (low, high)

    def remove_events(self, first_id: int, last_id: int) -> None:
        """Remove the events with these ids."""
        self._write("DELETE FROM events WHERE id BETWEEN ? AND ?", (first_id, last_id), 0)

    @property
    def used_bytes(self) -> int:
        """Bytes of the file that hold content."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run a callback when everything written so far is on disk; at once if it already is."""
        if self._failed is not None:
            raise self._failed
        if self._in_transaction:
            self._waiting.append(callback)
        else:
            callback()

    def commit(self) -> None:
        """End the turn's transaction and run the waiting callbacks. The event loop calls this."""
        if not self._in_transaction or self._failed is not None:
            return
        self._execute("COMMIT")
        self._in_transaction = False
        self.committed_seq = self._last_seq
        if self._unchecked_bytes >= CHECKPOINT_BYTES:
            self._start_checkpoint()  # before the callbacks, because they may open the next transaction
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            try:
                callback()
            except StorageFailed:  # on_failure has the error; the other callbacks must not run
                return
            except Exception:
                logger.exception("a callback after a commit failed")

    async def close(self) -> None:
        """Commit, wait for a running checkpoint, close the file. After a failed write there is no commit."""
        with contextlib.suppress(StorageFailed):
            self._remove_delivered()
            self.commit()
        if self._checkpoint is not None:
            await self._checkpoint
        self._db.close()

    def _free_slot(self) -> int:
        if self._delivered:
            return self._delivered.pop()
        self._last_slot += 1
        return self._last_slot

    def _write(self, sql: str, row: tuple[Any, ...], body_bytes: int) -> None:
        opened = not self._in_transaction
        if opened:
            self._execute("BEGIN")
            self._in_transaction = True
        self._execute(sql, row)
        self._unchecked_bytes += ROW_BYTES + body_bytes
        if opened:
            self._commit_soon()

    def _remove_delivered_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._remove_delivered()
        else:
            self._delivered_alarm = loop.call_later(DELIVERED_WITHIN_S, self._remove_delivered)

    def _remove_delivered(self) -> None:
        delivered, self._delivered, self._delivered_alarm = self._delivered, [], None
        for slot in delivered:
            self._write(_EMPTY, (slot,), 0)

    def _commit_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.commit()
        else:
            loop.call_soon(self.commit)

    def _execute(self, sql: str, row: tuple[Any, ...] = ()) -> None:
        if self._failed is not None:
            raise self._failed
        try:
            self._writer.execute(sql, row)
        except sqlite3.Error as error:
            self._failed = StorageFailed(f"{self.path}: {error}")
            self._waiting.clear()
            self.on_failure(self._failed)
            raise self._failed from error

    def _start_checkpoint(self) -> None:
        if self._checkpoint is not None and not self._checkpoint.done():
            return
        self._unchecked_bytes = 0
        if self._log_path.stat().st_size > MAX_LOG_BYTES:
            _copy_back(self._db)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _checkpoint(self.path)
        else:
            self._checkpoint = loop.run_in_executor(None, _checkpoint, self.path)

    @property
    def _log_path(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")


def _open(path: Path, durability: str) -> sqlite3.Connection:
    # The documents contain keys, so the mode is 0600; SQLite gives its log the same mode.
    try:
        os.close(open_private(path, os.O_RDWR))
        db = sqlite3.connect(path, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreUnusable(f"{path} cannot be opened: {error}") from error
    try:
        _prepare(db, path, durability)
    except sqlite3.DatabaseError as error:
        db.close()
        # the low byte is the class of the error; a full disk says nothing about the file
        on_disk = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        cure = "free some space" if on_disk else "move the file away to start with an empty store"
        raise StoreUnusable(f"{path}: {error}; {cure}") from error
    except StoreUnusable:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path, durability: str) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreUnusable(
            f"{path}: schema {version} was written by a newer Twinship (this version reads up to "
            f"{SCHEMA_VERSION}); upgrade, or move the file away to start with an empty store"
        )
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {durability.upper()}")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    if version != SCHEMA_VERSION:
        db.executescript(f"BEGIN; {_TO_SCHEMA[version]} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _checkpoint(path: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            _copy_back(db)
    except sqlite3.Error as error:
        logger.warning("the store's log could not be copied back: %s", error)


def _copy_back(db: sqlite3.Connection) -> None:
    try:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.Error as error:  # nothing is lost: the log stays longer until the next checkpoint
        logger.warning("the store's log could not be copied back: %s", error)
