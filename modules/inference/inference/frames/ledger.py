"""Where a frame's time went: stages between stamps, one window's percentiles, and what publishing took.

Pure: stamps are handed in. A stage is the difference of two neighbouring stamps, so a frame's stages add up
to its total, captured → PUBACK of the prediction, to the nanosecond.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.frame.message import Frame, FrameId

Clock = Literal["monotonic", "wall"]

STAGES: Final = ("encode", "transit", "queue", "preprocess", "invoke", "postprocess", "publish")
TOTAL: Final = "total"
PERCENTILES: Final = (50, 90, 95, 99)
MAX_WINDOW_FRAMES: Final = 20_000  # 1.3 MB; a full window is to be closed early
MAX_UNTOLD: Final = 1_024
MAX_EARLIER: Final = 64  # in one message: about 6 KB
MAX_ENCODE_NS: Final = 3_600 * 10**9

_NS_PER_MS: Final = 1e6


@dataclass(slots=True)
class ClockReference:
    """This process's clocks: its boot, and what to add to CLOCK_MONOTONIC to get ns since the epoch."""

    boot: str
    epoch_offset: int


@dataclass(slots=True)
class Timestamps:
    """When this process did what with a frame, CLOCK_MONOTONIC ns, in this order."""

    arrived: int
    taken: int
    prepared: int
    inferred: int
    answered: int  # the answer is made and goes to the hub's outbox


@dataclass(slots=True)
class StageTimes:
    """A frame's stages up to its answer, in ns and in the order of STAGES without the last."""

    frame: FrameId
    stages: tuple[int, int, int, int, int, int]
    clock: Clock  # "wall": encode and transit are as good as two machines' clocks agree, even negative
    answered: int

    def stages_ms(self) -> dict[str, float]:
        """The stages by name."""
        encode, transit, queue, preprocess, invoke, postprocess = self.stages
        return {  # written out: a loop over STAGES takes twice as long, for every frame
            "encode": encode / _NS_PER_MS,
            "transit": transit / _NS_PER_MS,
            "queue": queue / _NS_PER_MS,
            "preprocess": preprocess / _NS_PER_MS,
            "invoke": invoke / _NS_PER_MS,
            "postprocess": postprocess / _NS_PER_MS,
        }


@dataclass(slots=True)
class Published:
    """How long an answer took from being made to its PUBACK; of a batch, `frame` is the first."""

    frame: FrameId
    publish_ns: int

    def body(self) -> dict[str, Any]:
        """As messages carry it."""
        return {"frame": frame_body(self.frame), "publish_ms": self.publish_ns / _NS_PER_MS}


def frame_body(frame: FrameId) -> dict[str, Any]:
    """A frame's identity as messages carry it."""
    return {"camera": frame.camera, "run": frame.run, "seq": frame.seq}


def stage_times(frame: Frame, stamps: Timestamps, here: ClockReference) -> StageTimes:
    """The stages of a frame that is answered.

    Monotonic stamps of one boot compare. Those of another boot, or out of order, do not: then encode and
    transit together are the wall clock's arrived - captured.
    """
    clock: Clock = "monotonic"
    encode, transit = frame.encoded - frame.mono, stamps.arrived - frame.encoded
    if frame.boot != here.boot or encode < 0 or transit < 0:
        clock = "wall"
        # Both stamps are of the camera's boot, so their difference holds whatever its clock says.
        encode = encode if 0 <= encode <= MAX_ENCODE_NS else 0
        transit = stamps.arrived + here.epoch_offset - frame.captured - encode
    stages = (
        encode,
        transit,
        stamps.taken - stamps.arrived,
        stamps.prepared - stamps.taken,
        stamps.inferred - stamps.prepared,
        stamps.answered - stamps.inferred,
    )
    return StageTimes(frame.id, stages, clock, stamps.answered)


class Window:
    """The stages of the frames since the last latency message."""

    def __init__(self, opened: int) -> None:
        self.opened = opened
        self._published = array("q")  # of each frame the stages in their order, one frame after the other
        self._suppressed = array("q")  # the same without the last

    @property
    def frames(self) -> int:
        """How many frames are in it, published or suppressed."""
        return len(self._published) // len(STAGES) + len(self._suppressed) // (len(STAGES) - 1)

    def add(self, done: StageTimes, publish_ns: int | None) -> None:
        """A frame stored at the hub; with None one whose answer was suppressed, which has no total."""
        # Into an array of its own first: one that does not fit in whole must not shift those after it.
        if publish_ns is None:
            self._suppressed.extend(array("q", done.stages))
        else:
            self._published.extend(array("q", (*done.stages, publish_ns)))

    def stages_ms(self) -> dict[str, dict[str, float]]:
        """Count, percentiles and maximum of each stage that any frame went through, and of the total."""
        published = np.array(self._published, np.int64).reshape(-1, len(STAGES)).T
        suppressed = np.array(self._suppressed, np.int64).reshape(-1, len(STAGES) - 1).T
        before = np.concatenate((published[:-1], suppressed), axis=1)
        each = zip((*STAGES, TOTAL), (*before, published[-1], published.sum(axis=0)), strict=True)
        return {name: summary(values) for name, values in each if len(values)}


def summary(ns: Sequence[int] | NDArray[np.int64]) -> dict[str, float]:
    """Exact percentiles in ms of at least one value, by nearest rank.

    The p-th percentile of n values is the one at place ceil(p * n / 100) when sorted: always a value that was
    measured, never a mean of two.
    """
    ordered = np.sort(np.asarray(ns, np.int64))
    ranks = {f"p{p}": int(ordered[-(-p * len(ordered) // 100) - 1]) / _NS_PER_MS for p in PERCENTILES}
    return {"count": len(ordered), **ranks, "max": int(ordered[-1]) / _NS_PER_MS}


class Ledger:
    """The open window, and the publish times that no message has carried yet."""

    def __init__(self, opened: int) -> None:
        self._window = Window(opened)
        self._untold: deque[Published] = deque(maxlen=MAX_UNTOLD)  # oldest first

    @property
    def frames(self) -> int:
        """How many frames the open window holds."""
        return self._window.frames

    @property
    def full(self) -> bool:
        """Whether the window should be closed before its time."""
        return self.frames >= MAX_WINDOW_FRAMES

    def suppressed(self, done: StageTimes) -> None:
        """A frame whose answer nobody asked for."""
        self._window.add(done, None)

    def stored(self, done: Sequence[StageTimes], puback: int) -> None:
        """The frames of one message whose prediction is stored at the hub since `puback`, CLOCK_MONOTONIC ns.

        They were published together: the time is told once, under the first one's name.
        """
        for each in done:
            self._window.add(each, puback - each.answered)
        self._untold.append(Published(done[0].frame, puback - done[0].answered))

    def tell(self) -> tuple[Published, ...]:
        """The publish times for the next message to carry, oldest first.

        Mostly one; none or several (at most 1 + MAX_EARLIER) when answers were made faster than stored.
        """
        count = min(len(self._untold), 1 + MAX_EARLIER)
        return tuple([self._untold.popleft() for _ in range(count)])

    def untell(self, told: Sequence[Published]) -> None:
        """The message that carried these could not be sent; the next one does."""
        self._untold.extendleft(reversed(told))

    def cut(self, now: int) -> Window:
        """Close the window and open the next."""
        closed, self._window = self._window, Window(now)
        return closed


def before_body(told: Sequence[Published]) -> dict[str, Any]:
    """What a message says of its predecessors: `before` the latest; `earlier` the others, if any."""
    body: dict[str, Any] = {"before": told[-1].body() if told else None}
    if len(told) > 1:
        body["earlier"] = [each.body() for each in told[:-1]]
    return body
