"""The stage times of frames, their percentiles in one window, and the publish times that follow later.

A stage is the difference of two neighbouring timestamps, so the stages of a frame add up to its total,
captured → PUBACK of the prediction, to the nanosecond. Only frames of a video have the stage `mailbox`: the
picture waits until the camera takes it. Pure: the caller passes the timestamps.

>>> ledger = Ledger(opened=0)
>>> frame = FrameId("door", "0123456789abcdef", 7)
>>> stages = (UNKNOWN, 400_000, 1_100_000, 50_000, 200_000, 100_000, 50_000)
>>> ledger.add_stored([StageTimes(frame, stages, "monotonic", answered=2_000_000)], puback=3_100_000)
>>> ledger.close_window(now=10**10).stages_ms()["total"]["max"]
3.0
>>> publish_times_body(ledger.take_publish_times())["before"]["publish_ms"]
1.1
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

Clock = Literal["monotonic", "wall", "bad"]

STAGES: Final = ("mailbox", "encode", "transit", "queue", "preprocess", "invoke", "postprocess", "publish")
TOTAL: Final = "total"
PERCENTILES: Final = (50, 90, 95, 99)
MAX_WINDOW_FRAMES: Final = 20_000  # 1.3 MB; the owner closes a full window early
MAX_PENDING: Final = 1_024
MAX_PUBLISH_TIMES: Final = 65  # in one message: about 6 KB
MAX_STAGE_NS: Final = 3_600 * 10**9  # frames live ten seconds in edgeHub; a longer stage is a wrong clock
UNKNOWN: Final = -1  # no mailbox; or the camera's timestamps are not plausible: of its three stages

_NS_PER_MS: Final = 1e6


@dataclass(slots=True)
class ClockReference:
    """The clocks of this process: its boot id, and the offset from CLOCK_MONOTONIC to the epoch, ns."""

    boot: str
    epoch_offset: int


@dataclass(slots=True)
class Timestamps:
    """The times of one frame in this process, CLOCK_MONOTONIC ns, in this order."""

    arrived: int
    taken: int
    prepared: int
    inferred: int
    answered: int  # the prediction is made and goes to the hub's outbox


@dataclass(slots=True)
class StageTimes:
    """The stages of a frame up to its answer: ns, in the order of STAGES without `publish`."""

    frame: FrameId
    stages: tuple[int, int, int, int, int, int, int]
    clock: Clock  # of mailbox to transit; "wall": two machines' wall clocks; "bad": they are UNKNOWN
    answered: int

    def stages_ms(self) -> dict[str, float]:
        """Return the stages by name, without those that are UNKNOWN."""
        mailbox, encode, transit, queue, preprocess, invoke, postprocess = self.stages
        if mailbox != UNKNOWN or encode == UNKNOWN:
            each = zip(STAGES[:-1], self.stages, strict=True)
            return {name: ns / _NS_PER_MS for name, ns in each if ns != UNKNOWN}
        return {  # written out, because a loop over STAGES takes twice as long for every frame
            "encode": encode / _NS_PER_MS,
            "transit": transit / _NS_PER_MS,
            "queue": queue / _NS_PER_MS,
            "preprocess": preprocess / _NS_PER_MS,
            "invoke": invoke / _NS_PER_MS,
            "postprocess": postprocess / _NS_PER_MS,
        }


@dataclass(slots=True)
class PublishTime:
    """The time from an answer to its PUBACK; for a batch, `frame` is its first frame."""

    frame: FrameId
    publish_ns: int

    def body(self) -> dict[str, Any]:
        """Return the JSON object of the messages."""
        return {"frame": frame_body(self.frame), "publish_ms": self.publish_ns / _NS_PER_MS}


def frame_body(frame: FrameId) -> dict[str, Any]:
    """Return the JSON object that identifies a frame."""
    return {"camera": frame.camera, "run": frame.run, "seq": frame.seq}


def stage_times(frame: Frame, stamps: Timestamps, here: ClockReference) -> StageTimes:
    """Compute the stages of an answered frame.

    Monotonic timestamps of one boot are comparable. If the camera's are of another boot or out of order,
    mailbox + encode + transit is the difference of the wall clocks instead: arrived - captured. If a stage is
    still negative, or longer than MAX_STAGE_NS, the clock is "bad", and these stages are UNKNOWN.
    """
    clock: Clock = "monotonic"
    mailbox = 0 if frame.taken is None else frame.taken - frame.mono
    encode, transit = frame.encoded - frame.mono - mailbox, stamps.arrived - frame.encoded
    if frame.boot != here.boot or mailbox < 0 or encode < 0 or transit < 0:
        clock = "wall"
        # The camera's timestamps are of one boot: their differences are valid whatever its wall clock says.
        together = stamps.arrived + here.epoch_offset - frame.captured
        if mailbox < 0 or encode < 0 or mailbox + encode > together:
            mailbox = encode = 0
        transit = together - mailbox - encode
    if not (0 <= mailbox <= MAX_STAGE_NS and 0 <= encode <= MAX_STAGE_NS and 0 <= transit <= MAX_STAGE_NS):
        clock, mailbox, encode, transit = "bad", UNKNOWN, UNKNOWN, UNKNOWN
    elif frame.taken is None:
        mailbox = UNKNOWN
    stages = (
        mailbox,
        encode,
        transit,
        stamps.taken - stamps.arrived,
        stamps.prepared - stamps.taken,
        stamps.inferred - stamps.prepared,
        stamps.answered - stamps.inferred,
    )
    return StageTimes(frame.id, stages, clock, stamps.answered)


class Window:
    """The stages of all frames since the last latency message."""

    def __init__(self, opened: int) -> None:
        self.opened = opened
        self._stored = array("q")  # the stages of one frame after the other, in the order of STAGES
        self._suppressed = array("q")  # the same without `publish`

    @property
    def frames(self) -> int:
        """The number of frames, stored or suppressed."""
        return len(self._stored) // len(STAGES) + len(self._suppressed) // (len(STAGES) - 1)

    def add(self, times: StageTimes, publish_ns: int | None) -> None:
        """Add a frame; `publish_ns` is None for a suppressed one, which has no total."""
        # First into an own array: a value that does not fit must not leave half a frame behind.
        if publish_ns is None:
            self._suppressed.extend(array("q", times.stages))
        else:
            self._stored.extend(array("q", (*times.stages, publish_ns)))

    def stages_ms(self) -> dict[str, dict[str, float]]:
        """Return the `summary` of each stage and of the total, without those that no frame has.

        Frames with a bad clock have neither mailbox, encode and transit nor a total.
        """
        stored = np.array(self._stored, np.int64).reshape(-1, len(STAGES)).T
        suppressed = np.array(self._suppressed, np.int64).reshape(-1, len(STAGES) - 1).T
        before_publish = np.concatenate((stored[:-1], suppressed), axis=1)
        totals = np.maximum(stored, 0).sum(axis=0)[stored[STAGES.index("transit")] >= 0]
        each = zip((*STAGES, TOTAL), (*before_publish, stored[-1], totals), strict=True)
        known = [(name, values[values >= 0]) for name, values in each]
        return {name: summary(values) for name, values in known if len(values)}


def summary(ns: Sequence[int] | NDArray[np.int64]) -> dict[str, float]:
    """Return count, percentiles and maximum in ms of at least one value in ns.

    Percentiles are exact, by nearest rank: p is the value at place ceil(p * n / 100) of n sorted values,
    always a measured value, never a mean of two.

    >>> summary([1_000_000, 3_000_000, 2_000_000])
    {'count': 3, 'p50': 2.0, 'p90': 3.0, 'p95': 3.0, 'p99': 3.0, 'max': 3.0}
    """
    ordered = np.sort(np.asarray(ns, np.int64))
    ranks = {f"p{p}": int(ordered[-(-p * len(ordered) // 100) - 1]) / _NS_PER_MS for p in PERCENTILES}
    return {"count": len(ordered), **ranks, "max": int(ordered[-1]) / _NS_PER_MS}


class Ledger:
    """The open window, and the publish times that no message has carried yet."""

    def __init__(self, opened: int) -> None:
        self._window = Window(opened)
        self._publish_times: deque[PublishTime] = deque(maxlen=MAX_PENDING)  # oldest first

    @property
    def full(self) -> bool:
        """Whether the owner should close the window early."""
        return self._window.frames >= MAX_WINDOW_FRAMES

    def add_suppressed(self, times: StageTimes) -> None:
        """Add a frame whose prediction is not sent."""
        self._window.add(times, None)

    def add_stored(self, times: Sequence[StageTimes], puback: int) -> None:
        """Add the frames of one prediction message; its PUBACK came at `puback`, CLOCK_MONOTONIC ns.

        The frames share one publish time, which is reported once, with the id of the first frame.
        """
        for each in times:
            self._window.add(each, puback - each.answered)
        self._publish_times.append(PublishTime(times[0].frame, puback - times[0].answered))

    def take_publish_times(self, most: int = MAX_PUBLISH_TIMES) -> tuple[PublishTime, ...]:
        """Remove and return the publish times that the next message shall carry, oldest first.

        Usually one; none or up to `most` when answers are made faster than the hub stores them.
        """
        count = min(len(self._publish_times), most)
        return tuple([self._publish_times.popleft() for _ in range(count)])

    def requeue(self, publish_times: Sequence[PublishTime]) -> None:
        """Put back the publish times of a message that could not be sent."""
        self._publish_times.extendleft(reversed(publish_times))

    def close_window(self, now: int) -> Window:
        """Close and return the window, and open the next one."""
        closed, self._window = self._window, Window(now)
        return closed


def publish_times_body(publish_times: Sequence[PublishTime]) -> dict[str, Any]:
    """Return the JSON fields: `before` holds the latest publish time, `earlier` the others, if any."""
    body: dict[str, Any] = {"before": publish_times[-1].body() if publish_times else None}
    if len(publish_times) > 1:
        body["earlier"] = [each.body() for each in publish_times[:-1]]
    return body
