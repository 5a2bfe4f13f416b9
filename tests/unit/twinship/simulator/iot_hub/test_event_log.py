"""The event log: order, commit, restart, positions, retention."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.unit.twinship.simulator.edge import NOW, ManualClock
from twinship.simulator.iot_hub import event_log
from twinship.simulator.iot_hub.event_log import Bounds, EventLog, offset_of, sequence_of
from twinship.simulator.store import Store

NOW_MS = int(NOW * 1000)


class Log:
    """An event log in a folder, with a manual clock."""

    def __init__(self, folder: Path, *, retention_s: float = 100.0) -> None:
        self.clock = ManualClock()
        self._path = folder / "hub.sqlite"
        self._retention_s = retention_s
        self.open()

    def open(self) -> None:
        """Open the file, as the next process does."""
        self.store = Store(self._path)
        self.log = EventLog(self.store, self.clock, retention_s=self._retention_s)

    def add(self, body: bytes, device: str = "d", at_ms: int = NOW_MS) -> None:
        """Append a message of a device."""
        system = {"connectionDeviceId": device}
        self.log.append(at_ms, json.dumps({"Properties": {"k": "v"}, "SystemProperties": system}), body)

    def bodies(self, after: int = -1, most: int = 100) -> list[bytes]:
        """What a reader of the partition of device d gets."""
        return [event.body for event in self.log.read(self.partition, after, most)]

    @property
    def partition(self) -> int:
        """The partition of device d."""
        return self.log.partition_of("d")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_devices_messages_are_in_one_partition_and_in_order(log: Log) -> None:
    """Sequence numbers begin at 0 and have no gaps; offsets are other numbers."""
    for number in range(5):
        log.add(b"%d" % number)
    events = log.log.read(log.partition, -1, 100)
    assert [(event.sequence, event.body) for event in events] == [(n, b"%d" % n) for n in range(5)]
    assert (events[0].enqueued_ms, events[0].properties) == (NOW_MS, {"k": "v"})
    assert log.bodies(after=2, most=1) == [b"3"]
    assert log.log.bounds(log.partition) == Bounds(0, 4)
    assert log.log.bounds(1 - log.partition) == Bounds(0, -1)
    assert [sequence_of(int(offset_of(n))) for n in (0, 1, 7)] == [0, 1, 7]
    assert offset_of(7) != "7"


def test_devices_are_spread_over_the_partitions(log: Log) -> None:
    """Each partition has devices, and a device always the same."""
    chosen = {name: log.log.partition_of(name) for name in map(str, range(50))}
    assert set(chosen.values()) == set(range(log.log.partitions))
    assert chosen == {name: log.log.partition_of(name) for name in chosen}


def test_readers_see_only_what_is_committed(log: Log) -> None:
    """Before the commit nothing, and then one call for all messages of the transaction."""
    calls: list[list[bytes]] = []

    async def two_messages() -> None:
        log.log.on_committed.append(lambda: calls.append(log.bodies()))
        log.add(b"a")
        log.add(b"b")
        assert log.bodies() == []
        log.store.commit()

    asyncio.run(two_messages())
    assert calls == [[b"a", b"b"]]


def test_sequence_numbers_go_on_after_a_restart(log: Log) -> None:
    """Also if the retention has removed everything before."""
    log.add(b"a")
    log.open()
    log.add(b"b")
    assert log.bodies() == [b"a", b"b"]
    log.log.start()
    log.clock.advance(200)
    assert log.log.bounds(log.partition) == Bounds(2, 1)
    log.open()
    log.add(b"c")
    assert [event.sequence for event in log.log.read(log.partition, -1, 9)] == [2]


def test_messages_end_after_the_retention(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first, in small steps; younger ones stay."""
    monkeypatch.setattr(event_log, "_REMOVE_AT_ONCE", 2)
    log.log.start()
    for number in range(7):
        log.add(b"%d" % number, at_ms=NOW_MS + (60_000 if number > 4 else 0))
    log.clock.advance(99)
    assert len(log.bodies()) == 7
    log.clock.advance(12)
    assert log.bodies() == [b"5", b"6"]
    assert log.log.bounds(log.partition) == Bounds(5, 6)


def test_the_store_does_not_grow_without_end(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit the oldest messages end before their time."""
    monkeypatch.setattr(event_log, "MAX_STORE_BYTES", 100_000)
    monkeypatch.setattr(event_log, "_REMOVE_AT_ONCE", 5)
    for number in range(40):
        log.add(b"%4d" % number + bytes(10_000))
    log.log.start()
    log.clock.advance(5)
    kept = log.bodies()
    assert 1 <= len(kept) < 12
    assert kept[-1].startswith(b"  39")
    assert log.store.used_bytes <= 100_000


@pytest.mark.parametrize(("at", "before"), [(-5, -1), (0, -1), (1, 0), (10, 0), (11, 2), (20, 2), (99, 3)])
def test_a_time_finds_its_position(log: Log, at: int, before: int) -> None:
    """The last message before a time, at the edges too."""
    for number, offset_ms in enumerate((0, 10, 10, 20)):
        log.add(b"%d" % number, at_ms=NOW_MS + offset_ms)
    assert log.log.before_time(log.partition, NOW_MS + at) == before
