"""Frames that wait for the engine: in which order, how many, and which have been here before.

Pure: one caller at a time, no lock, no clock. Who counts what happened to a frame is `tally`'s.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal

from edgekit.frame import Frame, FrameId

Overload = Literal["newest", "all"]

QUEUE_FRAMES: Final[dict[Overload, int]] = {"newest": 8, "all": 256}
REMEMBERED_FRAMES: Final = 4_096  # of each run: what a hub may deliver again after a lost acknowledgement
REMEMBERED_RUNS: Final = 64  # a sender that invents runs may not fill the memory; the longest silent goes

Stream = tuple[str, str]  # (camera, run): within one, seq is the order


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame and when it came, CLOCK_MONOTONIC ns."""

    frame: Frame
    arrived: int


@dataclass(frozen=True, slots=True)
class Queued:
    """The frame waits; `dropped` had to go for it, and is the frame itself where overload is "all"."""

    dropped: FrameId | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """This frame was here before; its first coming has been or will be answered."""


@dataclass(slots=True)
class _Run:
    seen: set[int] = field(default_factory=set)  # the last REMEMBERED_FRAMES to come …
    order: deque[int] = field(default_factory=deque)  # … and in which order
    settled: int = -1  # highest seq that is answered, suppressed or dropped

    def first_time(self, seq: int) -> bool:
        if seq in self.seen:
            return False
        self.seen.add(seq)
        self.order.append(seq)
        if len(self.order) > REMEMBERED_FRAMES:
            self.seen.remove(self.order.popleft())
        return True


class Intake:
    """The queue in front of the one worker.

    Frames of one run leave in the order of seq, not of arrival: the SDK's four handler threads overtake each
    other. Between runs each arrival gives one turn, so no camera starves another. When the queue is full,
    "newest" drops the frame that would be next (the oldest), "all" drops the one that comes.
    """

    def __init__(self, overload: Overload = "newest") -> None:
        self._max_frames = QUEUE_FRAMES[overload]
        self._overload: Overload = overload
        self._turns: deque[Stream] = deque()  # one for each waiting frame, in the order of arrival
        self._waiting: dict[Stream, list[tuple[int, int, Arrival]]] = {}  # a heap by seq for each run
        self._arrivals = count()  # the order of two equal seqs, so that heapq never compares two pictures
        self._runs: OrderedDict[Stream, _Run] = OrderedDict()  # last heard from at the end
        self._untold: dict[Stream, int] = {}  # highest settled seq that `newly_settled` has not said yet
        self.untold_frames = 0  # how many have been settled since it was last asked

    def __len__(self) -> int:
        return len(self._turns)

    def put(self, frame: Frame, arrived: int) -> Queued | Repeat:
        """Take a frame in, or recognise it as a repeat."""
        stream = (frame.id.camera, frame.id.run)
        if not self._first_time(stream, frame.id.seq):
            return Repeat()
        if len(self) >= self._max_frames and self._overload == "all":
            self.settle(frame.id)
            return Queued(dropped=frame.id)
        place = (frame.id.seq, next(self._arrivals), Arrival(frame, arrived))
        heapq.heappush(self._waiting.setdefault(stream, []), place)
        self._turns.append(stream)
        return Queued(dropped=self._drop_oldest() if len(self) > self._max_frames else None)

    def take(self) -> Arrival | None:
        """The next frame to answer; None when none waits."""
        if not self._turns:
            return None
        stream = self._turns.popleft()
        waiting = self._waiting[stream]
        _, _, arrival = heapq.heappop(waiting)
        if not waiting:
            del self._waiting[stream]
        return arrival

    def prefer(self, overload: Overload) -> list[FrameId]:
        """Change what happens when the queue is full; returns the frames that no longer have room."""
        self._overload, self._max_frames = overload, QUEUE_FRAMES[overload]
        dropped = []
        while len(self) > self._max_frames:
            dropped.append(self._drop_oldest())
        return dropped

    def settle(self, frame: FrameId) -> None:
        """This frame is answered, suppressed or dropped: its camera need not wait for it any more."""
        stream = (frame.camera, frame.run)
        run = self._runs.get(stream)
        if run is not None and frame.seq > run.settled:
            run.settled = self._untold[stream] = frame.seq
            self.untold_frames += 1

    @property
    def untold(self) -> bool:
        """Whether `newly_settled` has something to say."""
        return bool(self._untold)

    def newly_settled(self) -> list[FrameId]:
        """The highest settled frame of each run in which it rose since this was last asked."""
        risen = [FrameId(camera, run, seq) for (camera, run), seq in self._untold.items()]
        self._untold.clear()
        self.untold_frames = 0
        return risen

    def _first_time(self, stream: Stream, seq: int) -> bool:
        run = self._runs.setdefault(stream, _Run())
        self._runs.move_to_end(stream)
        if len(self._runs) > REMEMBERED_RUNS:
            self._runs.popitem(last=False)
        return run.first_time(seq)

    def _drop_oldest(self) -> FrameId:
        oldest = self.take()
        assert oldest is not None  # only called with frames waiting
        self.settle(oldest.frame.id)
        return oldest.frame.id
