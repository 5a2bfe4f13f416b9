"""The path of the frames of one message, a single frame or a batch: queue → decode → model → publisher.

The SDK's handler threads call `receive`, one worker thread calls `next` and `answer`. The lock is held for
microseconds, never while a picture is decoded or a model runs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.clock import mono_ns
from edgekit.frame.batch import frames_of
from edgekit.frame.message import BadFrame, Flow, Frame, FrameId, Message
from edgekit.log import RateLimiter
from inference.artefact import InputSpec
from inference.drift.state import Drift
from inference.frames.decode_cost import DecodeBudget
from inference.frames.in_hand import SIZE, InHand, Stream
from inference.frames.outcomes import Outcome, Outcomes
from inference.frames.preprocess import decode, prepare
from inference.frames.publisher import Inferred, Publisher
from inference.frames.queue import Arrival, FrameQueue
from inference.frames.settings import Settings
from inference.models.active_model import ActiveModel
from inference.models.reconciler import Reconciler, Running
from inference.watchdog import Watchdog

log = logging.getLogger(__name__)

#: Half of a camera's default credit. Flow only twice a second would limit that camera to 64 frames a second,
#: so inference sends flow early, after 16 finished frames.
FLOW_FRAMES: Final = 16


class FramePath:
    """Answers the frames of input `frames`, and counts the outcome of each."""

    def __init__(
        self,
        reconciler: Reconciler | ActiveModel,
        publisher: Publisher,
        watchdog: Watchdog | None = None,
        in_hand: InHand | None = None,
        drift: Drift | None = None,
    ) -> None:
        """`in_hand` outlives the process; by default it does not."""
        self._reconciler = reconciler
        self._publisher = publisher
        self._drift = drift or Drift()
        self._watchdog = watchdog or Watchdog()
        self._lock = threading.RLock()  # guards queue, outcomes and closed
        self._changed = threading.Condition(self._lock)  # wakes the worker; slower to enter than its lock
        self._queue = FrameQueue()
        self._in_hand = in_hand or InHand(bytearray(SIZE), "")
        self._outcomes = Outcomes(self._in_hand.counters)
        self._closed = False
        self._log_limiter = RateLimiter()
        self._settings = Settings()

    # -- called by the SDK's handler threads

    def receive(self, message: Message, arrived: int) -> None:
        """Queue a message that arrived at `arrived`, CLOCK_MONOTONIC ns. Never raises."""
        try:
            frames = frames_of(message)
        except BadFrame as error:
            with self._lock:
                self._outcomes.receive()  # an unreadable batch counts as one frame
                self._outcomes.add(Outcome.BAD_FRAME)
            self._log_bad_frame(message.message_id[:64], error)
            return
        with self._lock:
            self._outcomes.receive(len(frames))
            self._admit(frames, arrived)
            self._changed.notify()

    def _admit(self, frames: tuple[Frame, ...], arrived: int) -> None:
        if self._closed:
            self._outcomes.add(Outcome.STOPPED, len(frames))
            return
        admission = self._queue.put(frames, arrived)
        if admission.new:
            self._in_hand.begin(_stream(admission.new[0].id), [each.id.seq for each in admission.new])
        if admission.repeats:
            self._outcomes.add(Outcome.REPEAT, admission.repeats)
        if admission.dropped:
            self._drop(Outcome.OVERLOAD, admission.dropped)

    # -- called by the worker thread

    def next(self, until: int) -> Arrival | None:
        """Wait for the next message until `until`, CLOCK_MONOTONIC ns; None if none came or after `close`."""
        with self._lock:
            while (arrival := self._queue.take()) is None and not self._closed:
                left_ns = until - mono_ns()
                if left_ns <= 0:
                    return None
                self._changed.wait(left_ns / 1e9)
            return arrival

    def answer(self, arrival: Arrival) -> None:
        """Run the model on the frames of one message and publish the predictions. Never raises."""
        try:
            outcomes = self._answer(arrival)
        except Exception:  # a fault of this module: it must not stop the worker
            log.exception("frame %s could not be answered", arrival.frames[0].id)
            outcomes = [Outcome.ENGINE] * len(arrival.frames)
        self._watchdog.resting()
        with self._lock:
            self._queue.finish(arrival.frames)
            self._outcomes.add_bad_clocks(self._publisher.take_bad_clocks())
            for frame, outcome in zip(arrival.frames, outcomes, strict=True):
                if outcome is not None:  # else its prediction waits for others
                    self._end(frame.id, outcome)
            self._end_late()

    def flush(self, now: int | None = None) -> None:
        """Send the predictions that waited long enough at `now`, CLOCK_MONOTONIC ns; None: all that wait."""
        if (due := self._publisher.flush_due) is None or (now is not None and now < due):
            return
        self._publisher.flush()
        with self._lock:
            self._end_late()

    def _end_late(self) -> None:
        for frame, outcome in self._publisher.take_late():
            self._end(frame, outcome)

    def _end(self, frame: FrameId, outcome: Outcome) -> None:
        if outcome is Outcome.ANSWERED:  # in hand until the PUBACK of its prediction
            self._outcomes.add(outcome)
        else:
            self._drop(outcome, (frame,))

    def _answer(self, arrival: Arrival) -> list[Outcome | None]:
        running = self._reconciler.current
        if running is None:
            return [Outcome.NO_MODEL] * len(arrival.frames)
        budget = DecodeBudget(self._settings.inference.decodeBudgetMegapixels)
        results = [self._infer(running, frame, budget) for frame in arrival.frames]
        inferred = [each for each in results if isinstance(each, Inferred)]
        published = iter(
            self._publisher.publish(inferred, arrival.arrived, self._settings) if inferred else ()
        )
        for each in inferred:
            self._record_latency(each)
            self._watch_drift(each)
        return [next(published) if isinstance(each, Inferred) else each for each in results]

    def _infer(self, running: Running, frame: Frame, budget: DecodeBudget) -> Inferred | Outcome:
        self._watchdog.working()
        taken = mono_ns()
        # The active model; if it fails, the one that replaces it, and the budget was spent already.
        for allowed in (budget, None):
            try:
                ready = _prepared(frame, running.engine.input, allowed)
            except BadFrame as error:
                self._log_bad_frame(str(frame.id), error)
                return Outcome.BAD_FRAME
            prepared = mono_ns()
            self._watchdog.invoking(running)
            try:
                answer = running.engine.infer(ready)
            except Exception as error:  # runtimes raise any exception
                self._watchdog.returned()
                replacement = self._reconciler.failed(running, error)
                if replacement is None:
                    return Outcome.ENGINE
                running = replacement
            else:
                inferred = mono_ns()
                self._watchdog.returned()
                return Inferred(frame, running, ready, answer, taken, prepared, inferred)
        return Outcome.ENGINE

    def _record_latency(self, done: Inferred) -> None:
        try:
            self._reconciler.answered(done.running, (done.inferred - done.prepared) / 1e6)
        except Exception:  # the frame is answered already
            log.exception("the latency of model %s could not be recorded", done.running.ref)

    def _watch_drift(self, done: Inferred) -> None:
        try:
            self._drift.observe(done.frame, done.running, done.pixels, done.answer, done.inferred)
        except Exception:  # the frame is answered already
            log.exception("drift of model %s could not be computed", done.running.ref)

    # -- called by the owner

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def settings(self) -> Settings:
        """The current settings."""
        return self._settings

    def apply(self, settings: Settings) -> None:
        """Replace the settings; they apply from the next frame on."""
        self._settings = settings
        with self._lock:
            dropped = self._queue.set_overload(settings.inference.overload)
            self._drop(Outcome.OVERLOAD, dropped)

    def close(self) -> None:
        """Accept no more frames; `next` still returns those that wait."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> int:
        """Drop the frames that still wait; return how many."""
        with self._lock:
            left = len(self._queue)
            while (arrival := self._queue.take()) is not None:
                self._queue.finish(arrival.frames)
                self._drop(Outcome.STOPPED, [frame.id for frame in arrival.frames])
            return left

    def count_lost(self) -> list[tuple[Stream, list[int]]]:
        """Count and return the frames that ended processes had in hand and that were not delivered again."""
        lost = self._in_hand.lost()
        frames = sum(len(seqs) for _, seqs in lost)
        with self._lock:
            self._outcomes.receive(frames)
            self._outcomes.add(Outcome.LOST_IN_RESTART, frames)
        return lost

    def counters(self) -> dict[str, Any]:
        """Return the counters as `Outcomes.body`."""
        with self._lock:
            return self._outcomes.body()

    def received(self) -> int:
        """Return the number of frames that came so far."""
        with self._lock:
            return self._outcomes.received

    def waiting(self) -> int:
        """Return the number of frames in the queue."""
        with self._lock:
            return len(self._queue)

    def in_hand(self) -> int:
        """Return the number of frames that the worker answers now: not in the queue, without an outcome."""
        with self._lock:
            return self._outcomes.received - self._outcomes.finished - len(self._queue)

    @property
    def has_flow(self) -> bool:
        """Whether `flows` returns anything."""
        return self._queue.has_flow

    @property
    def flow_is_due_early(self) -> bool:
        """Whether so many frames are finished that a camera may wait for flow."""
        return self._queue.finished >= FLOW_FRAMES

    def flows(self) -> list[Flow]:
        """Return the flow messages to send: for each run, up to which frame all are finished."""
        with self._lock:
            finished = self._queue.take_flow()
        return [Flow(each.camera, each.run, each.seq) for each in finished]

    def _drop(self, outcome: Outcome, frames: Sequence[FrameId]) -> None:
        """Count an outcome that ends frames at once."""
        self._outcomes.add(outcome, len(frames))
        for each in frames:
            self._in_hand.finish(_stream(each), (each.seq,))

    def _log_bad_frame(self, name: str, error: BadFrame) -> None:
        omitted = self._log_limiter.allow(error.reason, mono_ns())
        if omitted is not None:
            log.warning("bad frame %s: %s (%d similar lines omitted before)", name, error, omitted)


def _prepared(frame: Frame, spec: InputSpec, budget: DecodeBudget | None) -> NDArray[np.uint8]:
    """The frame as a model takes it. Raises BadFrame."""
    size = frame.width, frame.height, frame.channels
    return prepare(decode(frame.image, frame.content_type, *size, budget, spec), spec)


def _stream(frame: FrameId) -> Stream:
    return frame.camera, frame.run
