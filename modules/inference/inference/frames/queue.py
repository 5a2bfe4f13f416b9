"""Messages with frames that wait for the engine: in which order, how many, and what has been here before.

Pure: one caller at a time, no lock, no clock. Who counts what happened to a frame is `tally`'s.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal

from edgekit.frame.message import Frame, FrameId

Overload = Literal["newest", "all"]

QUEUE_MESSAGES: Final[dict[Overload, int]] = {"newest": 8, "all": 256}
REMEMBERED_FRAMES: Final = 4_096  # of each run: what a hub may deliver again after a lost acknowledgement
REMEMBERED_RUNS: Final = 64  # a sender that invents runs may not fill the memory; the longest silent goes

Stream = tuple[str, str]  # (camera, run): within one, seq is the order


@dataclass(slots=True)
class Arrival:
    """The frames of one message, one or a batch, in the order of seq; when it came, CLOCK_MONOTONIC ns."""

    frames: tuple[Frame, ...]
    arrived: int


@dataclass(slots=True)
class Put:
    """What taking a message in meant.

    Repeats were here before: their first coming has been or will be answered. `dropped` had to go: the oldest
    message, or where overload is "all" the one that came.
    """

    repeats: int = 0
    dropped: tuple[FrameId, ...] = ()


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


class FrameQueue:
    """The queue in front of the one worker. Its bound counts messages.

    Messages of one run leave in the order of seq, not of arrival: the SDK's four handler threads overtake
    each other. Between runs each arrival gives one turn, so no camera starves another. When the queue is
    full, "newest" drops the one that would be next (the oldest), "all" drops the one that comes.
    """

    def __init__(self, overload: Overload = "newest") -> None:
        self._max_messages = QUEUE_MESSAGES[overload]
        self._overload: Overload = overload
        self._frames = 0
        self._turns: deque[Stream] = deque()  # one for each waiting message, in the order of arrival
        self._waiting: dict[Stream, list[tuple[int, int, Arrival]]] = {}  # a heap by seq for each run
        self._arrivals = count()  # the order of two equal seqs, so that heapq never compares two pictures
        self._runs: OrderedDict[Stream, _Run] = OrderedDict()  # last heard from at the end
        self._untold: dict[Stream, int] = {}  # highest settled seq that `newly_settled` has not said yet
        self.settled = 0  # frames since `newly_settled` was last asked

    def __len__(self) -> int:
        """How many frames wait."""
        return self._frames

    def put(self, frames: Sequence[Frame], arrived: int) -> Put:
        """Take the frames of one message in, all of one run; repeats are left out."""
        stream = (frames[0].id.camera, frames[0].id.run)
        run = self._run(stream)
        new = tuple([frame for frame in frames if run.first_time(frame.id.seq)])
        repeats = len(frames) - len(new)
        if not new:
            return Put(repeats)
        arrival = Arrival(new, arrived)
        if len(self._turns) >= self._max_messages and self._overload == "all":
            return Put(repeats, self._settle_all(arrival))
        place = (new[0].id.seq, next(self._arrivals), arrival)
        heapq.heappush(self._waiting.setdefault(stream, []), place)
        self._turns.append(stream)
        self._frames += len(new)
        return Put(repeats, self._drop_oldest() if len(self._turns) > self._max_messages else ())

    def take(self) -> Arrival | None:
        """The next message to answer; None when none waits."""
        if not self._turns:
            return None
        stream = self._turns.popleft()
        waiting = self._waiting[stream]
        _, _, arrival = heapq.heappop(waiting)
        if not waiting:
            del self._waiting[stream]
        self._frames -= len(arrival.frames)
        return arrival

    def prefer(self, overload: Overload) -> list[FrameId]:
        """Change what happens when the queue is full; returns the frames that no longer have room."""
        self._overload, self._max_messages = overload, QUEUE_MESSAGES[overload]
        dropped: list[FrameId] = []
        while len(self._turns) > self._max_messages:
            dropped += self._drop_oldest()
        return dropped

    def settle(self, frames: Sequence[Frame]) -> None:
        """Those of one message are answered, suppressed or dropped: their camera need not wait any more."""
        last = frames[-1].id
        stream = (last.camera, last.run)
        run = self._runs.get(stream)
        if run is not None and last.seq > run.settled:
            run.settled = self._untold[stream] = last.seq
        self.settled += len(frames)

    @property
    def untold(self) -> bool:
        """Whether `newly_settled` has something to say."""
        return bool(self._untold)

    def newly_settled(self) -> list[FrameId]:
        """The highest settled frame of each run in which it rose since this was last asked."""
        risen = [FrameId(camera, run, seq) for (camera, run), seq in self._untold.items()]
        self._untold.clear()
        self.settled = 0
        return risen

    def _run(self, stream: Stream) -> _Run:
        if (run := self._runs.get(stream)) is None:
            run = self._runs[stream] = _Run()
        self._runs.move_to_end(stream)
        if len(self._runs) > REMEMBERED_RUNS:
            self._runs.popitem(last=False)
        return run

    def _drop_oldest(self) -> tuple[FrameId, ...]:
        oldest = self.take()
        assert oldest is not None  # only called with messages waiting
        return self._settle_all(oldest)

    def _settle_all(self, arrival: Arrival) -> tuple[FrameId, ...]:
        self.settle(arrival.frames)
        return tuple(frame.id for frame in arrival.frames)
