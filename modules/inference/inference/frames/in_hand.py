"""Which frames this process has received and not finished, and its counters, in a file that survives kill -9.

A frame is acknowledged once it is marked here, so edgeHub does not deliver the frames of a killed process
again. The next process finds their marks: frames that are not delivered within LOST_AFTER_S are
`lost_in_restart`. It also sends the last counters of the killed process. So every frame is in one count.

The file is memory-mapped and has a fixed size: PROCESSES records of counters, and for each of the RUNS last
runs of cameras one byte for each of the last WINDOW frames. A change is a plain store into memory; the kernel
writes it to disk when it likes. So the file survives the end of the process, not a power cut: a file of
another boot says nothing.

>>> first = InHand(bytearray(SIZE), "00000000000000aa")
>>> door = ("door", "0123456789abcdef")
>>> first.begin(door, [7, 8]); first.finish(door, [8])
>>> after = InHand(first.memory, "00000000000000bb")
>>> after.lost()
[(('door', '0123456789abcdef'), [7])]
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import re
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from edgekit.clock import boot_id
from inference.frames.outcomes import COUNTERS

log = logging.getLogger(__name__)

Stream = tuple[str, str]  # (camera, run)

PROCESSES: Final = 8  # ended processes whose counters are not sent yet; the oldest is replaced
RUNS: Final = 64  # as many as the queue remembers; the least recent is replaced
WINDOW: Final = 4_096  # frames of a run, as many as the queue remembers
LOST_AFTER_S: Final = 15.0  # a frame lives ten seconds in edgeHub, and a connection needs some, too

_MAGIC: Final = b"twinship frames in hand 1\n"
_HEADER_BYTES: Final = 512
_PROCESS: Final = struct.Struct("<16sq")  # instance, start (ns since the epoch); 0: the record is free
_PROCESS_BYTES: Final = 256
_COUNTERS_AT: Final = 32
_RUN: Final = struct.Struct("<32s16sQ")  # camera, run, highest seq
_MARKS_AT: Final = 64
_RUN_BYTES: Final = _MARKS_AT + WINDOW
_RUNS_AT: Final = _HEADER_BYTES + PROCESSES * _PROCESS_BYTES
_HIGHEST_AT: Final = 48
SIZE: Final = _RUNS_AT + RUNS * _RUN_BYTES

_CAMERA: Final = re.compile(rb"[A-Za-z0-9_-]{1,32}\0*")
_RUN_ID: Final = re.compile(rb"[0-9a-f]{16}")


class _Run:
    """The place of one run of a camera in the memory."""

    __slots__ = ("_stored_highest", "highest", "marks", "place")

    def __init__(self, memory: memoryview, place: int) -> None:
        self.place = place
        self.marks = memory[place + _MARKS_AT : place + _RUN_BYTES]  # 1: received and not finished
        self._stored_highest = memory[place + _HIGHEST_AT : place + _HIGHEST_AT + 8].cast("Q")
        self.highest = self._stored_highest[0]

    def begin(self, seq: int) -> None:
        if seq > self.highest:
            if seq != self.highest + 1:
                self._forget(self.highest + 1, seq)
            self.highest = self._stored_highest[0] = seq
        if seq > self.highest - WINDOW:
            self.marks[seq % WINDOW] = 1

    def finish(self, seq: int) -> None:
        if self.highest - WINDOW < seq <= self.highest:
            self.marks[seq % WINDOW] = 0

    def unfinished(self) -> set[int]:
        seqs = (self.highest - (self.highest - at) % WINDOW for at, mark in enumerate(self.marks) if mark)
        return {seq for seq in seqs if seq >= 0}

    def _forget(self, first: int, end: int) -> None:
        """Remove the marks of older frames in the places of these seqs."""
        first, end = max(first, end - WINDOW + 1) % WINDOW, end % WINDOW
        if first <= end:
            self.marks[first:end] = bytes(end - first)
        else:
            self.marks[first:] = bytes(WINDOW - first)
            self.marks[:end] = bytes(end)


class InHand:
    """The frames in hand of one process, and what earlier processes left. Any thread may call it."""

    def __init__(self, memory: bytearray | mmap.mmap, instance: str) -> None:
        """`memory` has SIZE bytes; unless it holds marks of this boot it is made empty."""
        self.memory: Final = memory
        self._instance: Final = instance
        self._lock = threading.Lock()  # guards what follows
        self._view = memoryview(memory)
        self._runs: OrderedDict[Stream, _Run] = OrderedDict()  # least recent first
        header = _header()
        if bytes(memory[:_HEADER_BYTES]) != header or not self._read():
            if any(memory[: len(_MAGIC)]):
                log.info("the marks of frames in hand are of another boot or release, or damaged: begun anew")
            self._runs.clear()
            memory[:] = header + bytes(SIZE - _HEADER_BYTES)
        # The frames of earlier processes that were not delivered again yet.
        self._left = {stream: run.unfinished() for stream, run in self._runs.items()}
        self.counters: Final = self._new_record()

    # -- the frames of this process

    def begin(self, stream: Stream, seqs: Sequence[int]) -> None:
        """These frames were received for the first time; ascending."""
        with self._lock:
            run = self._runs.get(stream)
            if run is None:
                run = self._new_run(stream, seqs[0])
            self._runs.move_to_end(stream)
            for seq in seqs:
                run.begin(seq)
            if self._left:
                self._left.get(stream, set()).difference_update(seqs)

    def finish(self, stream: Stream, seqs: Iterable[int]) -> None:
        """These frames are in a counter, or the hub has stored (PUBACK) their predictions."""
        with self._lock:
            run = self._runs.get(stream)
            if run is not None:
                for seq in seqs:
                    run.finish(seq)

    # -- what earlier processes left

    def lost(self) -> list[tuple[Stream, list[int]]]:
        """Return, once, the frames that earlier processes had in hand and that were not delivered again."""
        with self._lock:
            left, self._left = self._left, {}
        lost = [(stream, sorted(seqs)) for stream, seqs in left.items() if seqs]
        for stream, seqs in lost:
            self.finish(stream, seqs)
        return lost

    def ended(self) -> list[tuple[str, Sequence[int]]]:
        """Return instance and counters of earlier processes whose last counters are not sent."""
        records = [(self._record(place), self._counters(place)) for place in self._records()]
        return [
            (instance, counters)
            for (instance, started), counters in records
            if started and instance != self._instance
        ]

    def sent(self, instance: str) -> None:
        """The last counters of this process are stored in the hub."""
        for place in self._records():
            if self._record(place)[0] == instance:
                _PROCESS.pack_into(self.memory, place, bytes(16), 0)

    # -- the layout

    def _read(self) -> bool:
        """Find the runs; False if one is damaged."""
        for place in range(_RUNS_AT, SIZE, _RUN_BYTES):
            camera, run, _ = _RUN.unpack_from(self.memory, place)
            if not any(camera):
                continue
            if not (_CAMERA.fullmatch(camera) and _RUN_ID.fullmatch(run)):
                return False
            self._runs[camera.rstrip(b"\0").decode(), run.decode()] = _Run(self._view, place)
        return True

    def _new_run(self, stream: Stream, first: int) -> _Run:
        taken = {run.place for run in self._runs.values()}
        place = next((each for each in range(_RUNS_AT, SIZE, _RUN_BYTES) if each not in taken), None)
        if place is None:
            place = self._runs.popitem(last=False)[1].place
        camera, run_id = (text.encode() for text in stream)
        self._view[place : place + _RUN_BYTES] = _RUN.pack(camera, run_id, first).ljust(_RUN_BYTES, b"\0")
        run = self._runs[stream] = _Run(self._view, place)
        return run

    def _records(self) -> range:
        return range(_HEADER_BYTES, _RUNS_AT, _PROCESS_BYTES)

    def _record(self, place: int) -> tuple[str, int]:
        instance, started = _PROCESS.unpack_from(self.memory, place)
        return instance.decode("ascii", errors="replace"), started

    def _counters(self, place: int) -> memoryview:
        first = place + _COUNTERS_AT
        return self._view[first : first + 8 * len(COUNTERS)].cast("q")

    def _new_record(self) -> memoryview:
        place = min(self._records(), key=lambda each: self._record(each)[1])
        self._view[place : place + _PROCESS_BYTES] = bytes(_PROCESS_BYTES)
        _PROCESS.pack_into(self.memory, place, self._instance.encode("ascii"), time.time_ns())
        return self._counters(place)


def open_file(path: Path, instance: str) -> InHand:
    """Map the file at `path`; without a usable file the marks end with the process. Never raises."""
    try:
        memory = _mapped(path)
    except (OSError, ValueError) as error:
        log.warning("%s: %s; frames in hand at a kill will be in no counter", path, error)
        return InHand(bytearray(SIZE), instance)
    return InHand(memory, instance)


def _mapped(path: Path) -> mmap.mmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never closed: the lock ends with the process, so that no second process writes the same marks.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.fstat(descriptor).st_size != SIZE:
        os.truncate(descriptor, 0)
    # Without blocks on the disk, a store on a full disk would kill the process (SIGBUS).
    os.posix_fallocate(descriptor, 0, SIZE)
    return mmap.mmap(descriptor, SIZE)


def _header() -> bytes:
    named = b" ".join((boot_id().encode(), ",".join(COUNTERS).encode()))
    return (_MAGIC + named).ljust(_HEADER_BYTES, b"\0")[:_HEADER_BYTES]
