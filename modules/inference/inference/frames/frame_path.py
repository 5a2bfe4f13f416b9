"""The frames of one message, one or a batch, to their answer; and the count of what became of each.

Starts no thread and knows no schedule: `service` calls `receive` from the SDK's handler threads and `answer`
from one worker. The one lock is held for microseconds, never while a picture is decoded or a model runs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.clock import boot_id, mono_ns, wall_ns
from edgekit.frame.batch import frames_of
from edgekit.frame.message import BadFrame, Flow, Frame, FrameId, Message
from edgekit.log import RateLimiter
from inference.frames.ledger import (
    ClockReference,
    Ledger,
    Published,
    StageTimes,
    Timestamps,
    Window,
    stage_times,
)
from inference.frames.outcomes import Outcome, Outcomes
from inference.frames.prediction import Answer, ChangeFilter, Prediction, batch_messages, best
from inference.frames.preprocess import decode, prepare
from inference.frames.queue import Arrival, FrameQueue
from inference.frames.settings import Settings
from inference.models.active_model import ActiveModel
from inference.models.delivery import Delivery, Running

log = logging.getLogger(__name__)

#: Half of the credit that a camera has unless told otherwise: told of it only twice a second, it would
#: be held at 64 frames a second.
FLOW_FRAMES: Final = 16

Send = Callable[[str, Message, Callable[[int], None]], bool]
Observe = Callable[[StageTimes, int | None], None]


@dataclass(slots=True)
class _Inferred:
    frame: Frame
    running: Running  # the model that answered
    scores: NDArray[np.float32]
    taken: int  # CLOCK_MONOTONIC ns
    prepared: int
    inferred: int

    def stamps(self, arrived: int, answered: int) -> Timestamps:
        """With when its message came, and when the answer to that was made."""
        return Timestamps(arrived, self.taken, self.prepared, self.inferred, answered)


class FramePath:
    """What is between input `frames` and output `predictions`."""

    def __init__(
        self,
        delivery: Delivery | ActiveModel,
        send: Send,
        *,
        instance: str,
        observe: Observe = lambda done, publish: None,
    ) -> None:
        """`send` as Hub.send; `observe` is called with the stages of each frame that is done (metrics)."""
        self._delivery = delivery
        self._send = send
        self._instance = instance
        self._observe = observe
        self._boot = boot_id()
        self._lock = threading.RLock()  # guards the five below
        self._changed = threading.Condition(self._lock)  # wakes the worker; slower to enter than its lock
        self._intake = FrameQueue()
        self._tally = Outcomes()
        self._ledger = Ledger(mono_ns())
        self._closed = False
        self._unstored = 0  # predictions in the hub's outbox
        self._told = ChangeFilter()  # the worker's own
        self._seldom = RateLimiter()
        self._settings = Settings()

    # -- the SDK's handler threads

    def receive(self, message: Message, arrived: int) -> None:
        """Take a message of input `frames`, which came at `arrived`, CLOCK_MONOTONIC ns. Never raises."""
        try:
            frames = frames_of(message)
        except BadFrame as error:
            with self._lock:
                self._tally.received += 1  # of a bad batch nobody knows how many frames it was
                self._tally.end(Outcome.BAD_FRAME)
            self._complain(message.message_id[:64], error)
            return
        with self._lock:
            self._tally.received += len(frames)
            self._admit(frames, arrived)
            self._changed.notify()

    def _admit(self, frames: tuple[Frame, ...], arrived: int) -> None:
        if self._closed:
            self._tally.end(Outcome.STOPPED, len(frames))
            return
        put = self._intake.put(frames, arrived)
        if put.repeats:
            self._tally.end(Outcome.REPEAT, put.repeats)
        if put.dropped:
            self._tally.end(Outcome.OVERLOAD, len(put.dropped))

    # -- the worker

    def next(self, until: int) -> Arrival | None:
        """The next message; None when none came before `until`, CLOCK_MONOTONIC ns, or the end has come."""
        with self._lock:
            while (arrival := self._intake.take()) is None and not self._closed:
                left_ns = until - mono_ns()
                if left_ns <= 0:
                    return None
                self._changed.wait(left_ns / 1e9)
            return arrival

    def answer(self, arrival: Arrival) -> None:
        """See the frames of one message to their end. Never raises."""
        try:
            outcomes = self._answer(arrival)
        except Exception:  # ours to mend; the next message is answered all the same
            log.exception("frame %s could not be answered", arrival.frames[0].id)
            outcomes = [Outcome.ENGINE] * len(arrival.frames)
        with self._lock:
            self._intake.settle(arrival.frames)
            for outcome in outcomes:
                self._tally.end(outcome)

    def _answer(self, arrival: Arrival) -> list[Outcome]:
        running = self._delivery.current
        if running is None:
            return [Outcome.NO_MODEL] * len(arrival.frames)
        seen = [self._see(running, frame) for frame in arrival.frames]
        done = [each for each in seen if isinstance(each, _Inferred)]
        told = iter(self._publish(done, arrival.arrived) if done else ())
        for each in done:
            self._judge(each)
        return [next(told) if isinstance(each, _Inferred) else each for each in seen]

    def _see(self, running: Running, frame: Frame) -> _Inferred | Outcome:
        taken = mono_ns()
        try:
            pixels = decode(frame.image, frame.content_type, frame.width, frame.height, frame.channels)
        except BadFrame as error:
            self._complain(str(frame.id), error)
            return Outcome.BAD_FRAME
        return self._infer(running, frame, taken, pixels) or Outcome.ENGINE

    def _judge(self, done: _Inferred) -> None:
        try:
            self._delivery.answered(done.running, (done.inferred - done.prepared) / 1e6)
        except Exception:  # the frame is answered, whatever comes of its model
            log.exception("the answer of model %s was not taken note of", done.running.ref)

    def _infer(
        self, running: Running, frame: Frame, taken: int, pixels: NDArray[np.uint8]
    ) -> _Inferred | None:
        for _ in range(2):  # the model in charge, then the one that delivery names instead
            ready = prepare(pixels, running.engine.input)
            prepared = mono_ns()
            try:
                scores = running.engine.infer(ready)
            except Exception as error:  # a runtime raises what it likes; delivery judges the model
                instead = self._delivery.failed(running, error)
                if instead is None:
                    return None
                running = instead
            else:
                return _Inferred(frame, running, scores, taken, prepared, mono_ns())
        return None

    def _predict(self, done: _Inferred) -> Prediction:
        wanted = self._settings.inference
        top = best(done.scores, done.running.engine.labels, wanted.topK)
        uncertain = top[0].confidence < wanted.confidenceThreshold
        return Prediction(done.frame, done.running.ref, done.running.manifest, top, uncertain)

    def _publish(self, done: Sequence[_Inferred], arrived: int) -> list[Outcome]:
        """Answer the frames of one message; an outcome for each."""
        predictions = [self._predict(each) for each in done]
        answered, here = mono_ns(), self._here()
        answers = [
            Answer(prediction, stage_times(each.frame, each.stamps(arrived, answered), here))
            for prediction, each in zip(predictions, done, strict=True)
        ]
        wanted = self._told.wanted(self._settings.telemetry.predictions, predictions)
        if all(wanted):
            return self._send_answers(answers)
        self._suppress([each.stage_times for each, yes in zip(answers, wanted, strict=True) if not yes])
        sent = iter(self._send_answers([each for each, yes in zip(answers, wanted, strict=True) if yes]))
        return [next(sent) if yes else Outcome.SUPPRESSED for yes in wanted]

    def _suppress(self, done: Sequence[StageTimes]) -> None:
        with self._lock:
            for each in done:
                self._ledger.suppressed(each)
        for each in done:
            self._observe(each, None)

    def _send_answers(self, answers: Sequence[Answer]) -> list[Outcome]:
        """For each whether the hub's outbox took it: ANSWERED or OUTBOX."""
        if not answers:
            return []
        with self._lock:
            told = self._ledger.tell()
            self._unstored += len(answers)
        sent: list[Outcome] = []
        for message, part in batch_messages(answers, told, self._instance):
            taken = self._send(
                "predictions", message, partial(self._stored, [each.stage_times for each in part])
            )
            if taken:
                self._told.sent(part[-1].prediction)
            else:
                self._unsend(told, len(part))
            told = ()  # the first message alone carried them
            sent += [Outcome.ANSWERED if taken else Outcome.OUTBOX] * len(part)
        return sent

    def _unsend(self, told: tuple[Published, ...], answers: int) -> None:
        with self._lock:
            self._ledger.untell(told)
            self._unstored -= answers

    def _here(self) -> ClockReference:
        return ClockReference(self._boot, wall_ns() - mono_ns())  # asked each time: the wall clock may be set

    # -- the hub's sending threads

    def _stored(self, done: Sequence[StageTimes], puback: int) -> None:
        with self._lock:
            self._ledger.stored(done, puback)
            self._unstored -= len(done)
            if self._closed:
                self._changed.notify_all()  # wait_stored
        for each in done:
            self._observe(each, puback - each.answered)

    # -- whoever runs the module

    @property
    def closed(self) -> bool:
        """Whether the end has come."""
        return self._closed

    @property
    def settings(self) -> Settings:
        """What is in force; the next frame is answered by it."""
        return self._settings

    def apply(self, settings: Settings) -> None:
        """Put other settings in force."""
        self._settings = settings
        with self._lock:
            for _ in self._intake.prefer(settings.inference.overload):
                self._tally.end(Outcome.OVERLOAD)

    def close(self) -> None:
        """Take no more frames in; those that wait are still handed out."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> int:
        """Give up the frames that still wait; how many."""
        with self._lock:
            left = len(self._intake)
            while (arrival := self._intake.take()) is not None:
                self._intake.settle(arrival.frames)
                self._tally.end(Outcome.STOPPED, len(arrival.frames))
            return left

    def wait_stored(self, timeout_s: float) -> int:
        """After `close`: wait until every prediction is stored at the hub; how many are not."""
        with self._lock:
            self._changed.wait_for(lambda: self._unstored == 0, timeout_s)
            return self._unstored

    # -- what there is to tell

    def counters(self) -> dict[str, Any]:
        """The counters of `tally.Tally.body`."""
        with self._lock:
            return self._tally.body()

    def waiting(self) -> int:
        """Frames in the queue."""
        with self._lock:
            return len(self._intake)

    def in_hand(self) -> int:
        """Frames that came, no longer wait and have no outcome: those that the worker answers now."""
        with self._lock:
            return self._tally.received - self._tally.ended - len(self._intake)

    @property
    def has_flow(self) -> bool:
        """Whether `flows` has something to say."""
        return self._intake.untold

    @property
    def flow_presses(self) -> bool:
        """Whether so many frames are settled that their camera may wait for the word."""
        return self._intake.settled >= FLOW_FRAMES

    def flows(self) -> list[Flow]:
        """For each run in which frames were settled since this was last asked: up to which."""
        with self._lock:
            settled = self._intake.newly_settled()
        return [Flow(each.camera, each.run, each.seq) for each in settled]

    @property
    def window_full(self) -> bool:
        """Whether the window should be cut before its time."""
        return self._ledger.full

    def cut(self, now: int) -> tuple[Window, dict[str, Any], tuple[Published, ...]]:
        """Close the ledger's window: itself, the counters at that moment, the publish times to tell."""
        with self._lock:
            return self._ledger.cut(now), self._tally.body(), self._ledger.tell()

    def untell(self, told: tuple[Published, ...]) -> None:
        """The message with these publish times could not be sent."""
        with self._lock:
            self._ledger.untell(told)

    def _complain(self, name: FrameId | str, error: BadFrame) -> None:
        unsaid = self._seldom.allow(error.reason, mono_ns())
        if unsaid is not None:
            log.warning("bad frame %s: %s (%d more like it since the last such line)", name, error, unsaid)
