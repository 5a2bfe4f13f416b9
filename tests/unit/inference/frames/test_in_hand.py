"""The frames in hand and the counters of a killed process, as the next one finds them."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.clock import mono_ns
from edgekit.events import Events
from inference.frames import in_hand
from inference.frames.frame_path import FramePath
from inference.frames.in_hand import RUNS, SIZE, WINDOW, InHand, Stream, open_file
from inference.frames.outcomes import COUNTERS, Outcome, Outcomes
from inference.frames.publisher import Publisher
from inference.frames.reports import Reports
from inference.frames.settings import Settings, TelemetrySection
from tests.unit.inference.fixtures.doubles import (
    RUN,
    FakeEngine,
    FakeHub,
    FakeReconciler,
    frame,
    running,
)

DOOR: Stream = ("door", RUN)
FIRST, SECOND, THIRD = (f"{number:016x}" for number in (1, 2, 3))


class Process:
    """The frame path and the reports of one inference process on the memory that its predecessor left."""

    def __init__(
        self, memory: bytearray | InHand, instance: str = FIRST, *, predictions: str = "all"
    ) -> None:
        self.hub = FakeHub()
        self.reconciler = FakeReconciler(current=running(FakeEngine()))
        self.marks = memory if isinstance(memory, InHand) else InHand(memory, instance)
        publisher = Publisher(self.hub.send, instance=instance, finish=self.marks.finish)
        self.path = FramePath(self.reconciler.as_reconciler(), publisher, in_hand=self.marks)
        self.path.apply(Settings(telemetry=TelemetrySection.model_validate({"predictions": predictions})))
        self.reports = Reports(
            self.hub.as_hub(), self.path, publisher, instance, self.marks, Events(self.hub.send)
        )

    def receive(self, *seqs: int) -> None:
        for seq in seqs:
            self.path.receive(frame(seq).to_message(), mono_ns())

    def work(self, messages: int = 1_000) -> None:
        while messages and (arrival := self.path.next(until=0)) is not None:
            self.path.answer(arrival)
            messages -= 1

    def start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Start; the frames that are not delivered again are lost at the next report."""
        monkeypatch.setattr("inference.frames.reports.LOST_AFTER_S", 0)
        self.reports.start()


def lost(memory: bytearray) -> list[tuple[Stream, list[int]]]:
    return InHand(memory, THIRD).lost()


def test_frames_without_an_answer_are_lost_in_restart_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answered, waiting and delivered again: each frame is in one count of one of the two processes."""
    memory = bytearray(SIZE)
    killed = Process(memory)
    killed.receive(0, 1, 2, 3, 4, 5)
    killed.work(2)
    after = Process(memory, SECOND)
    after.start(monkeypatch)
    after.receive(4)  # the hub had not seen the acknowledgement
    after.work()
    after.reports.send_due()
    after.reports.publish_latency(mono_ns(), closing=False)
    first, second = after.hub.of("latency")
    assert (first["instance"], first["closing"], first["answered"]) == (FIRST, True, 2)
    assert (second["instance"], second["answered"]) == (SECOND, 1)
    assert second["dropped"]["lost_in_restart"] == 3
    assert second["lost_frames"] == [
        {"camera": "camera", "run": RUN, "first": 2, "last": 3},
        {"camera": "camera", "run": RUN, "first": 5, "last": 5},
    ]
    assert after.path.in_hand() == 0
    assert lost(memory) == []


def test_a_process_that_ended_in_order_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its closing message is stored; the next process has nothing to add."""
    memory = bytearray(SIZE)
    ended = Process(memory)
    ended.receive(0, 1)
    ended.work()
    ended.reports.publish_latency(mono_ns(), closing=True)
    after = Process(memory, SECOND)
    after.start(monkeypatch)
    after.reports.send_due()
    assert after.hub.of("latency") == []


def test_an_answer_counts_only_with_its_puback() -> None:
    """A prediction in the outbox of a killed process never reaches the hub."""
    memory = bytearray(SIZE)
    killed = Process(memory)
    killed.hub.stores = False
    killed.receive(0, 1)
    killed.work()
    assert lost(bytearray(memory)) == [(("camera", RUN), [0, 1])]
    killed.hub.store()
    assert lost(memory) == []


@pytest.mark.parametrize("outcome", ["suppressed", "no_model", "bad_frame", "overload", "outbox", "stopped"])
def test_a_frame_with_another_outcome_is_not_lost(outcome: str) -> None:
    """The counters of the killed process hold it."""
    memory = bytearray(SIZE)
    killed = Process(memory, predictions="none" if outcome == "suppressed" else "all")
    if outcome == "no_model":
        killed.reconciler.current = None
    killed.hub.full = outcome == "outbox"
    if outcome == "bad_frame":
        bad = replace(frame(0), image=b"no picture", content_type="image/png")
        killed.path.receive(bad.to_message(), mono_ns())
    else:
        killed.receive(*range(9 if outcome == "overload" else 1))
    if outcome == "stopped":
        killed.path.abandon()
    else:
        killed.work()
    body = killed.path.counters()
    assert (body | body["dropped"])[outcome] == 1
    assert lost(memory) == []


def test_frames_of_two_killed_processes_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one was killed before it could report what the first one left."""
    memory = bytearray(SIZE)
    Process(memory).receive(0, 1)
    second = Process(memory, SECOND)
    second.receive(2)
    third = Process(memory, THIRD)
    third.start(monkeypatch)
    third.reports.send_due()
    assert third.path.counters()["dropped"]["lost_in_restart"] == 3
    assert {body["instance"] for body in third.hub.of("latency")} >= {FIRST, SECOND}


def test_the_last_counters_are_sent_until_the_hub_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message in the outbox of a killed process counts as not sent."""
    memory = bytearray(SIZE)
    Process(memory).receive(0)
    for instance in (SECOND, THIRD):
        after = Process(memory, instance)
        after.hub.stores = False
        after.start(monkeypatch)
        assert FIRST in {body["instance"] for body in after.hub.of("latency")}
    after.hub.store()
    assert FIRST not in {instance for instance, _ in InHand(memory, "0" * 16).ended()}


def test_lost_frames_of_a_refused_message_are_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full outbox loses no name."""
    memory = bytearray(SIZE)
    Process(memory).receive(7)
    after = Process(memory, SECOND)
    after.start(monkeypatch)
    after.hub.full = True
    after.reports.send_due()
    after.reports.publish_latency(mono_ns(), closing=False)
    after.hub.full = False
    for _ in range(2):
        after.reports.publish_latency(mono_ns(), closing=False)
    named = [body["lost_frames"] for body in after.hub.of("latency") if "lost_frames" in body]
    assert named == [[{"camera": "camera", "run": RUN, "first": 7, "last": 7}]]


steps = st.lists(
    st.tuples(st.sampled_from(["begin", "finish"]), st.integers(0, 3 * WINDOW), st.integers(1, 5)),
    max_size=60,
)


@given(steps=steps)
def test_the_marks_are_those_of_a_set(steps: Sequence[tuple[str, int, int]]) -> None:
    """For any order and any gaps: exactly the unfinished frames among the last WINDOW are found."""
    memory = bytearray(SIZE)
    marks, expected, highest = InHand(memory, FIRST), set[int](), -1
    for move, first, count in steps:
        seqs = range(first, first + count)
        if move == "begin":
            marks.begin(DOOR, seqs)
            highest = max(highest, seqs[-1])
            expected.update(seqs)
        else:
            marks.finish(DOOR, seqs)
            expected.difference_update(seqs)
        expected = {seq for seq in expected if seq > highest - WINDOW}
    assert InHand(memory, SECOND).lost() == ([(DOOR, sorted(expected))] if expected else [])


def test_numbers_at_the_end_of_the_range_are_kept() -> None:
    """A seq may have 19 digits."""
    memory = bytearray(SIZE)
    last = 10**19 - 1
    InHand(memory, FIRST).begin(DOOR, [last - 1, last])
    assert InHand(memory, SECOND).lost() == [(DOOR, [last - 1, last])]


def test_the_least_recent_run_is_replaced() -> None:
    """A sender that invents runs cannot make the file grow."""
    memory = bytearray(SIZE)
    marks = InHand(memory, FIRST)
    for number in range(RUNS + 3):
        marks.begin(("door", f"{number:016x}"), [number])
        marks.begin(("door", f"{0:016x}"), [1_000 + number])
    runs = {stream[1] for stream, _ in InHand(memory, SECOND).lost()}
    assert len(runs) == RUNS
    assert runs == {f"{number:016x}" for number in (0, *range(4, RUNS + 3))}


def test_counters_survive(tmp_path: Path) -> None:
    """They are the memory itself."""
    outcomes = Outcomes(open_file(tmp_path / "marks", FIRST).counters)
    outcomes.receive(3)
    outcomes.add(Outcome.OVERLOAD, 2)
    memory = bytearray((tmp_path / "marks").read_bytes())
    assert stat.S_IMODE((tmp_path / "marks").stat().st_mode) == 0o600
    ((instance, counters),) = InHand(memory, SECOND).ended()
    assert (instance, dict(zip(COUNTERS, counters, strict=True))["overload"]) == (FIRST, 2)


@pytest.mark.parametrize("damage", ["random", "short", "long", "run", "another boot", "another release"])
def test_a_damaged_file_is_begun_anew_with_one_line(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never stops the module."""
    path = tmp_path / "marks"
    memory = bytearray(SIZE)
    InHand(memory, FIRST).begin(DOOR, [1, 2])
    match damage:
        case "random":
            memory[:200] = os.urandom(200)
            memory[0] = 1
        case "short":
            memory = memory[:1_000]
        case "long":
            memory += bytes(1_000)
        case "run":
            memory[in_hand._RUNS_AT + 1] = 0xFF
        case "another boot":
            monkeypatch.setattr("inference.frames.in_hand.boot_id", lambda: "another")
        case _:
            monkeypatch.setattr("inference.frames.in_hand.COUNTERS", (*COUNTERS, "another"))
    path.write_bytes(memory)
    with caplog.at_level(logging.INFO):
        marks = open_file(path, SECOND)
    assert len(caplog.records) == (damage not in ("short", "long"))
    assert (marks.lost(), marks.ended()) == ([], [])
    marks.begin(DOOR, [5])
    assert path.stat().st_size == SIZE


def test_a_file_that_cannot_be_used_costs_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is found when the file is made, not by a signal when it is written; a folder is no file."""
    (tmp_path / "folder").mkdir()
    open_file(tmp_path / "folder", FIRST).begin(DOOR, [1])

    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    open_file(tmp_path / "marks", FIRST).begin(DOOR, [1])
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "No space left on device" in caplog.text


def test_two_processes_never_share_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second one keeps its marks in memory only and says so."""
    first = open_file(tmp_path / "marks", FIRST)
    second = open_file(tmp_path / "marks", SECOND)
    second.begin(DOOR, [1])
    assert "marks" in caplog.text
    assert InHand(bytearray(first.memory), THIRD).lost() == []


KILLED = """
import sys
from pathlib import Path
from tests.unit.inference.frames.test_in_hand import FIRST, Process
from inference.frames.in_hand import open_file
marks = open_file(Path(sys.argv[1]), FIRST)
process = Process(marks, FIRST)
print("ready", flush=True)
for seq in range(10**6):
    process.receive(seq)
    if seq % 3:
        process.work(1)
        print(seq, flush=True)
"""


def test_kill_9_loses_no_frame_from_the_counts(tmp_path: Path) -> None:
    """A process that is killed at any moment leaves each frame finished in its counters, or in hand."""
    path = tmp_path / "marks"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(300):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.read()
    after = open_file(path, SECOND)
    (_, counters), *_ = (each for each in after.ended() if each[0] == FIRST)
    body = dict(zip(COUNTERS, counters, strict=True))
    ended = sum(body[outcome.value] for outcome in Outcome)
    in_hand_then = sum(len(seqs) for _, seqs in after.lost())
    assert body["answered"] >= 200
    assert abs(body["received"] - ended - in_hand_then) <= 1  # a store may be between two others
