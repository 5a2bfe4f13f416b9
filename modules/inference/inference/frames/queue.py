"""The queue of messages in front of the model: order, limit, repeats, and flow (which frames are finished).

Pure: no lock, no clock; one caller at a time. The caller counts the outcomes.

>>> from edgekit.frame.message import RAW
>>> def frame(seq: int) -> Frame:
...     return Frame(FrameId("door", "0123456789abcdef", seq), b"0", RAW, 1, 1, 1, 0, 0, 0, "boot")
>>> queue = FrameQueue("newest")
>>> queue.put([frame(1)], arrived=100), queue.put([frame(0)], arrived=200), queue.put([frame(1)], arrived=300)
(Admission(repeats=0, dropped=()), Admission(repeats=0, dropped=()), Admission(repeats=1, dropped=()))
>>> arrival = queue.take()
>>> arrival.frames[0].id.seq, arrival.arrived
(0, 200)
>>> queue.finish(arrival.frames)
>>> queue.take_flow()
[FrameId(camera='door', run='0123456789abcdef', seq=0)]
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal

from edgekit.frame.message import Frame, FrameId

Overload = Literal["newest", "all"]

QUEUE_MESSAGES: Final[dict[Overload, int]] = {"newest": 8, "all": 256}
REMEMBERED_FRAMES: Final = 4_096  # up to the highest seq of a run: a hub may deliver them again
REMEMBERED_RUNS: Final = 64  # a sender that invents runs cannot fill the memory; the least recent is removed

Stream = tuple[str, str]  # (camera, run): seq orders the frames of one stream


@dataclass(slots=True)
class Arrival:
    """The frames of one message, a single frame or a batch, by seq; `arrived` is CLOCK_MONOTONIC ns."""

    frames: tuple[Frame, ...]
    arrived: int


@dataclass(slots=True)
class Admission:
    """The result of `put`.

    `repeats` counts frames that the queue has received before; they are not queued again. `dropped` names the
    frames that lost their place: the oldest message, or the new one if overload is "all". `new` holds the
    frames that are no repeats.
    """

    repeats: int = 0
    dropped: tuple[FrameId, ...] = ()
    new: tuple[Frame, ...] = field(default=(), repr=False, compare=False)


@dataclass(slots=True)
class _Run:
    # seq + 1 of the highest seq at each place, seq % REMEMBERED_FRAMES. A set of as many takes 0.5 MB, and
    # Python allocates it anew after some thousand frames, which made resident memory grow.
    seen: array[int] = field(default_factory=lambda: array("Q", [0]) * REMEMBERED_FRAMES)
    finished: int = -1  # highest seq that is answered, suppressed or dropped

    def first_time(self, seq: int) -> bool:
        place, number = seq % REMEMBERED_FRAMES, seq + 1
        known = self.seen[place]
        if number > known:
            self.seen[place] = number
        return number != known  # an older one is new, too: nothing is known of it


class FrameQueue:
    """The queue in front of the one worker thread. Its limit counts messages, not frames.

    Messages of one run leave by seq, not by arrival, because the four handler threads of the SDK overtake
    each other. Each arrival gives its run one turn, so no camera starves another. When the queue is full,
    "newest" drops the message that would leave next (the oldest), "all" drops the one that arrives.
    """

    def __init__(self, overload: Overload = "newest") -> None:
        self._max_messages = QUEUE_MESSAGES[overload]
        self._overload: Overload = overload
        self._frames = 0
        self._turns: deque[Stream] = deque()  # one for each waiting message, in the order of arrival
        self._waiting: dict[Stream, list[tuple[int, int, Arrival]]] = {}  # for each run a heap by seq
        self._arrivals = count()  # orders two equal seqs, so that heapq never compares two Arrivals
        self._runs: OrderedDict[Stream, _Run] = OrderedDict()  # most recent at the end
        self._flow: dict[Stream, int] = {}  # highest finished seq that no flow message has carried yet
        self.finished = 0  # frames since the last `take_flow`

    def __len__(self) -> int:
        """The number of waiting frames."""
        return self._frames

    def put(self, frames: Sequence[Frame], arrived: int) -> Admission:
        """Queue the frames of one message, all of one run, without the repeats."""
        stream = (frames[0].id.camera, frames[0].id.run)
        run = self._run(stream)
        new = tuple([frame for frame in frames if run.first_time(frame.id.seq)])
        repeats = len(frames) - len(new)
        if not new:
            return Admission(repeats)
        arrival = Arrival(new, arrived)
        if len(self._turns) >= self._max_messages and self._overload == "all":
            return Admission(repeats, self._drop(arrival), new)
        entry = (new[0].id.seq, next(self._arrivals), arrival)
        heapq.heappush(self._waiting.setdefault(stream, []), entry)
        self._turns.append(stream)
        self._frames += len(new)
        dropped = self._drop_oldest() if len(self._turns) > self._max_messages else ()
        return Admission(repeats, dropped, new)

    def take(self) -> Arrival | None:
        """Remove and return the next message; None if the queue is empty."""
        if not self._turns:
            return None
        stream = self._turns.popleft()
        waiting = self._waiting[stream]
        _, _, arrival = heapq.heappop(waiting)
        if not waiting:
            del self._waiting[stream]
        self._frames -= len(arrival.frames)
        return arrival

    def set_overload(self, overload: Overload) -> list[FrameId]:
        """Change the behaviour of a full queue; return the frames that this drops."""
        self._overload, self._max_messages = overload, QUEUE_MESSAGES[overload]
        dropped: list[FrameId] = []
        while len(self._turns) > self._max_messages:
            dropped += self._drop_oldest()
        return dropped

    def finish(self, frames: Sequence[Frame]) -> None:
        """Note that the frames of one message are answered, suppressed or dropped: flow may report them."""
        last = frames[-1].id
        stream = (last.camera, last.run)
        run = self._runs.get(stream)
        if run is not None and last.seq > run.finished:
            run.finished = self._flow[stream] = last.seq
        self.finished += len(frames)

    @property
    def has_flow(self) -> bool:
        """Whether `take_flow` returns anything."""
        return bool(self._flow)

    def take_flow(self) -> list[FrameId]:
        """Return the highest finished frame of each run in which it rose since the last call."""
        risen = [FrameId(camera, run, seq) for (camera, run), seq in self._flow.items()]
        self._flow.clear()
        self.finished = 0
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
        assert oldest is not None  # the callers check that messages wait
        return self._drop(oldest)

    def _drop(self, arrival: Arrival) -> tuple[FrameId, ...]:
        self.finish(arrival.frames)
        return tuple(frame.id for frame in arrival.frames)
