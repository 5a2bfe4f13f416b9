"""The store: commits, callbacks after a commit, and files that it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
from pathlib import Path

import pytest

from tests.unit.twinship.simulator.edge import crash_image, largest_file
from twinship.simulator import store as store_module
from twinship.simulator.store import DELIVERED_WITHIN_S, StorageFailed, Store, StoreUnusable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the store."""
    (folder := tmp_path / "folder").mkdir()
    return folder / "hub.sqlite"


def test_documents_are_stored_by_kind_and_key(path: Path) -> None:
    """The last put() counts, also after reopening."""
    store = Store(path)
    store.put("twin", "a", {"x": [1, None, "ü"]})
    store.put("twin", "b", 1)
    store.put("twin", "b", 2)
    store.put("other", "a", 3)
    store.delete("twin", "never there")
    store.delete("other", "a")
    assert Store(path).documents("twin") == {"a": {"x": [1, None, "ü"]}, "b": 2}
    assert store.documents("other") == {}


def test_messages_stay_in_order_until_they_are_removed(path: Path) -> None:
    """`seq` continues to increase after reopening."""
    store = Store(path)
    first = store.add_message("q", 0, None, "one", b"\0")
    second = store.add_message("p", 9, 1.5, "two", b"")
    store.remove_message(first.slot)
    again = Store(path)
    third = again.add_message("q", 0, None, "three", b"3")
    assert list(again.messages()) == [second, third]
    assert third.seq > second.seq
    assert again.body(third.slot) == b"3"
    with pytest.raises(KeyError):
        again.body(99)


def test_callbacks_run_after_the_commit(path: Path) -> None:
    """All writes of a turn are one commit; callbacks run when another connection can read them."""

    async def turn() -> list[object]:
        seen: list[object] = []
        store = Store(path)
        store.put("k", "1", 1)
        store.put("k", "2", 2)
        store.after_commit(lambda: seen.append(_rows(path)))
        seen.append(_rows(path))
        assert store.committed_seq == 0
        store.add_message("q", 0, None, "", b"")
        assert store.committed_seq == 0
        await asyncio.sleep(0)
        assert store.committed_seq == 1
        store.after_commit(lambda: seen.append("at once"))
        await store.close()
        return seen

    assert asyncio.run(turn()) == [0, 2, "at once"]


def test_delivered_messages_leave_the_disk_together_a_moment_later(path: Path) -> None:
    """They are not removed one by one; they no longer count, and leave the disk soon."""

    async def turns() -> list[int]:
        store = Store(path)
        for message in [store.add_message("q", 0, None, "", b"1") for _ in range(3)]:
            store.delivered(message.slot, 1)
        await asyncio.sleep(0)
        seen = [_queued(path), store.message_bytes]
        removed = asyncio.Event()
        asyncio.get_running_loop().call_later(2 * DELIVERED_WITHIN_S, lambda: store.after_commit(removed.set))
        await removed.wait()
        seen.append(_queued(path))
        await store.close()
        return seen

    assert asyncio.run(turns()) == [3, 0, 0]


def test_delivered_messages_are_gone_after_close(path: Path) -> None:
    """close() commits their removal; outside a loop the removal commits at once."""

    async def turns() -> None:
        store = Store(path)
        store.delivered(store.add_message("q", 0, None, "", b"1").slot, 1)
        await store.close()

    asyncio.run(turns())
    assert _queued(path) == 0
    store = Store(path)
    store.delivered(store.add_message("q", 0, None, "", b"1").slot, 1)
    assert _queued(path) == 0


def test_a_message_reuses_the_row_of_a_delivered_one_and_stays_in_order(path: Path) -> None:
    """One commit does it: a kill leaves either the old message or the new one, last in its queue."""

    async def turns() -> list[list[str]]:
        store = Store(path)
        one, _ = (store.add_message("q", 0, None, head, b"") for head in ("one", "two"))
        await asyncio.sleep(0)
        store.delivered(one.slot, 3)
        assert store.add_message("q", 0, None, "three", b"").slot == one.slot
        images = [crash_image(path.parent, path.parent.with_name("before"))]
        await asyncio.sleep(0)
        images.append(crash_image(path.parent, path.parent.with_name("after")))
        return [[stored.head for stored in Store(image / path.name).messages()] for image in images]

    assert asyncio.run(turns()) == [["one", "two"], ["two", "three"]]


def test_a_file_of_the_first_schema_is_migrated(path: Path) -> None:
    """Documents and messages stay in order, and the next message comes last."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(
            """CREATE TABLE documents (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key))
               WITHOUT ROWID;
               CREATE TABLE messages (seq INTEGER PRIMARY KEY, queue TEXT NOT NULL, priority INTEGER NOT NULL,
                                      expires REAL, head TEXT NOT NULL, body BLOB NOT NULL);
               INSERT INTO documents VALUES ('k', '1', '"kept"');
               INSERT INTO messages VALUES (7, 'q', 0, NULL, 'seven', x'00'), (9, 'q', 9, 1.5, 'nine', x'');
               PRAGMA user_version = 1;"""
        )
    Store(path).add_message("q", 0, None, "ten", b"")
    store = Store(path)
    assert store.documents("k") == {"1": "kept"}
    kept = [(stored.seq, stored.priority, stored.expires, stored.head) for stored in store.messages()]
    assert kept == [(7, 0, None, "seven"), (9, 9, 1.5, "nine"), (10, 0, None, "ten")]


def test_a_callback_that_fails_does_not_stop_the_others(path: Path) -> None:
    """An error for one client does not affect another."""

    async def turn() -> list[int]:
        ran: list[int] = []
        store = Store(path)
        store.put("k", "1", 1)
        store.after_commit(lambda: 1 / 0)  # type: ignore[arg-type]
        store.after_commit(lambda: ran.append(2))
        await store.close()
        return ran

    assert asyncio.run(turn()) == [2]


def test_uncommitted_writes_are_gone_after_a_kill(path: Path) -> None:
    """A turn is stored completely or not at all."""

    async def killed() -> Path:
        store = Store(path)
        store.put("k", "1", 1)
        store.commit()
        store.put("k", "2", 2)
        return crash_image(path.parent, path.parent.with_name("image"))

    assert Store(asyncio.run(killed()) / path.name).documents("k") == {"1": 1}


def test_the_store_ends_after_a_failed_write(path: Path) -> None:
    """on_failure runs once; waiting callbacks never run; later calls raise StorageFailed."""

    async def turn() -> None:
        failures: list[StorageFailed] = []
        store = Store(path)
        store.on_failure = failures.append
        store.put("k", "1", 1)
        store.after_commit(lambda: pytest.fail("acknowledged"))
        store._db.execute("DROP TABLE messages")
        with pytest.raises(StorageFailed, match=r"hub\.sqlite"):
            store.add_message("q", 0, None, "", b"")
        with pytest.raises(StorageFailed):
            store.put("k", "2", 2)
        with pytest.raises(StorageFailed):
            store.after_commit(lambda: pytest.fail("acknowledged"))
        await store.close()
        assert len(failures) == 1

    asyncio.run(turn())


def test_a_newer_schema_is_refused_by_name(path: Path) -> None:
    """The file is unchanged, and the error names the cure."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnusable, match=r"schema 99 .* newer .* upgrade"):
        Store(path)


def test_a_file_that_is_not_a_database_is_refused_by_name(path: Path) -> None:
    """The error is one line with the file and the cure."""
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnusable, match=r"hub\.sqlite.*move the file away"):
        Store(path)


def test_a_store_on_a_full_disk_ends_without_a_traceback(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No callback runs after the failure, and close() raises nothing: the hub has logged its one line."""

    async def turns() -> list[str]:
        store, seen = Store(path), []
        store.on_failure = lambda error: seen.append(str(error))
        store.put("k", "1", "kept")
        store.commit()
        store._db.execute(f"PRAGMA max_page_count = {_pages(store)}")

        def fill() -> None:
            store.put("k", "2", "x" * 100_000)

        store.put("k", "1", "again")
        store.after_commit(fill)
        store.after_commit(lambda: pytest.fail("a callback after the failure"))
        store.commit()
        store.delivered(1, 0)
        await store.close()
        return seen

    assert asyncio.run(turns()) == [f"{path}: database or disk is full"]
    assert caplog.records == []
    assert Store(path).documents("k") == {"1": "again"}


def test_a_full_disk_is_no_reason_to_move_the_store_away(path: Path) -> None:
    """The cure for a disk is another one than the cure for a damaged file."""
    with largest_file(0), pytest.raises(StoreUnusable, match=r"hub\.sqlite: .*; free some space"):
        Store(path)


def _pages(store: Store) -> int:
    return int(store._db.execute("PRAGMA page_count").fetchone()[0])


def test_an_unknown_durability_is_refused(path: Path) -> None:
    """The store never uses a weaker durability than requested."""
    with pytest.raises(StoreUnusable, match="durability"):
        Store(path, "none")


@pytest.mark.parametrize(("durability", "synchronous"), [("normal", 1), ("full", 2)])
def test_durability_is_sqlites_synchronous(path: Path, durability: str, synchronous: int) -> None:
    """NORMAL survives a kill, FULL a power loss too; both use WAL."""
    store = Store(path, durability)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_only_the_owner_reads_the_file(path: Path) -> None:
    """The file contains keys, so its mode is 0600."""
    Store(path).put("k", "1", 1)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}


def test_the_log_is_copied_back_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers are not blocked, and the log does not grow with every message."""
    monkeypatch.setattr(store_module, "CHECKPOINT_BYTES", 100_000)

    async def busy() -> int:
        store = Store(path)
        for _ in range(200):
            store.remove_message(store.add_message("q", 0, None, "", bytes(10_000)).slot)
            await asyncio.sleep(0)
            if store._checkpoint is not None:
                await store._checkpoint
        length = store._log_path.stat().st_size
        await store.close()
        return length

    assert asyncio.run(busy()) < 1_000_000


def test_the_log_restarts_under_constant_load(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if a callback writes after every commit and the thread never catches up."""
    monkeypatch.setattr(store_module, "CHECKPOINT_BYTES", 100_000)
    monkeypatch.setattr(store_module, "MAX_LOG_BYTES", 300_000)
    monkeypatch.setattr(store_module, "_checkpoint", lambda path: None)

    async def busy() -> int:
        store = Store(path)
        store.add_message("q", 0, None, "", bytes(10_000))
        for _ in range(200):
            _pass_one(store)
            store.after_commit(lambda: _pass_one(store))
            await asyncio.sleep(0)
            if store._checkpoint is not None:
                await store._checkpoint
        length = store._log_path.stat().st_size
        await store.close()
        return length

    assert asyncio.run(busy()) < 1_000_000
    assert caplog.records == []


def _pass_one(store: Store) -> None:
    store.remove_message(store.add_message("q", 0, None, "", bytes(10_000)).slot)


def _rows(path: Path) -> int:
    return _count(path, "documents")


def _queued(path: Path) -> int:
    return _count(path, "messages")


def _count(path: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
