"""Publishes the predictions of one arrival to output `predictions` and records the stage times of its frames.

The worker thread publishes; the hub's sending threads report PUBACKs. The lock is held for microseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgekit.clock import boot_id, mono_ns, wall_ns
from edgekit.frame.message import Frame, FrameId, Message
from inference.artefact import Task
from inference.frames.budget import Budget, Packer, Use
from inference.frames.change_filter import ChangeFilter
from inference.frames.ledger import (
    MAX_PUBLISH_TIMES,
    ClockReference,
    Ledger,
    PublishTime,
    StageTimes,
    Timestamps,
    Window,
    stage_times,
)
from inference.frames.outcomes import SUPPRESSED, Outcome
from inference.frames.prediction import (
    Classified,
    Detected,
    Prediction,
    best,
    located,
    prediction_messages,
    record_bytes,
)
from inference.frames.preprocess import region
from inference.frames.settings import InferenceSection, Settings
from inference.models.installer import Running

Send = Callable[[str, Message, Callable[[int], None]], bool]
Observe = Callable[[StageTimes, int | None], None]
Finish = Callable[[tuple[str, str], Sequence[int]], None]


@dataclass(slots=True)
class Inferred:
    """The model's answer to one frame, as Engine.infer returns it; times are CLOCK_MONOTONIC ns."""

    frame: Frame
    running: Running  # the model that answered
    pixels: NDArray[np.uint8]  # as the model saw them
    answer: NDArray[np.float32]
    taken: int
    prepared: int
    inferred: int


class Publisher:
    """Sends predictions, and keeps the ledger of stage times."""

    def __init__(
        self,
        send: Send,
        *,
        instance: str,
        observe: Observe = lambda times, publish_ns: None,
        finish: Finish = lambda stream, seqs: None,
        budget: Budget | None = None,
    ) -> None:
        """`send` is Hub.send; `observe` gets the stage times of each finished frame (metrics).

        `finish` gets the frames whose predictions the hub has stored (PUBACK).
        """
        self._send: Final = send
        self._finish: Final = finish
        self._instance: Final = instance
        self._observe: Final = observe
        self._boot: Final = boot_id()
        self._change_filter = ChangeFilter()  # used by the worker thread only, as the next four
        self._budget: Final = budget or Budget()
        self._packer: Final = Packer[Prediction](self._budget)
        self._late: list[tuple[FrameId, Outcome]] = []  # as `take_late` returns
        self._bad_clocks = 0  # as `take_bad_clocks` returns
        self._lock = threading.Lock()  # guards the fields below
        self._all_stored = threading.Condition(self._lock)
        self._ledger = Ledger(mono_ns())
        self._unstored = 0  # predictions in the hub's outbox
        self._waiting = False  # whether `wait_stored` was called

    def publish(self, inferred: Sequence[Inferred], arrived: int, settings: Settings) -> list[Outcome | None]:
        """Answer the frames of one message (at least one); return the outcome of each.

        None: the prediction waits for others that fill its block, and `take_late` will have its outcome.
        """
        predictions = self._predictions(inferred, arrived, settings)
        self._bad_clocks += sum([each.stage_times.clock == "bad" for each in predictions])
        limited = self._budget.limited
        verdicts = self._change_filter.verdicts(settings.telemetry, predictions, ranked=limited)
        if limited:
            outcomes = [self._offer(*each) for each in zip(predictions, verdicts, strict=True)]
        else:
            self.flush()  # of the time when there was a budget
            wanted = zip(predictions, verdicts, strict=True)
            sent = iter(self._send_all([each for each, verdict in wanted if isinstance(verdict, Use)]))
            outcomes = [next(sent) if isinstance(verdict, Use) else verdict for verdict in verdicts]
        answered = zip(predictions, outcomes, strict=True)
        if suppressed := [each.stage_times for each, outcome in answered if outcome in SUPPRESSED]:
            self._suppress(suppressed)
        return outcomes

    @property
    def flush_due(self) -> int | None:
        """When `flush` has to be called, CLOCK_MONOTONIC ns; None if no prediction waits."""
        return self._packer.due

    def flush(self) -> None:
        """Send the predictions that wait for others."""
        if self._packer.due is not None:
            self._send_held(self._packer.take())

    def take_late(self) -> list[tuple[FrameId, Outcome]]:
        """Remove and return the outcomes of frames whose predictions waited."""
        late, self._late = self._late, []
        return late

    def take_bad_clocks(self) -> int:
        """Return how many frames since the last call had timestamps that are not plausible."""
        bad_clocks, self._bad_clocks = self._bad_clocks, 0
        return bad_clocks

    def wait_stored(self, timeout_s: float) -> int:
        """Wait until the hub has stored (PUBACK) every prediction; return how many it has not."""
        with self._lock:
            self._waiting = True
            self._all_stored.wait_for(lambda: self._unstored == 0, timeout_s)
            return self._unstored

    @property
    def window_full(self) -> bool:
        """Whether the caller should close the window early."""
        return self._ledger.full

    def close_window(self, now: int, most: int = MAX_PUBLISH_TIMES) -> tuple[Window, tuple[PublishTime, ...]]:
        """Close the ledger's window; return it and at most so many publish times for the next message."""
        with self._lock:
            return self._ledger.close_window(now), self._ledger.take_publish_times(most)

    def requeue(self, publish_times: Sequence[PublishTime]) -> None:
        """Put back the publish times of a message that could not be sent."""
        with self._lock:
            self._ledger.requeue(publish_times)

    def _predictions(
        self, inferred: Sequence[Inferred], arrived: int, settings: Settings
    ) -> list[Prediction]:
        answers = [_TASKS[each.running.manifest.task](each, settings.inference) for each in inferred]
        answered = mono_ns()
        here = ClockReference(self._boot, wall_ns() - answered)  # each time: the wall clock may be set
        return [
            Prediction(
                each.frame,
                each.running.ref,
                each.running.manifest,
                answer,
                stage_times(
                    each.frame,
                    Timestamps(arrived, each.taken, each.prepared, each.inferred, answered),
                    here,
                ),
            )
            for each, answer in zip(inferred, answers, strict=True)
        ]

    def _suppress(self, suppressed: Sequence[StageTimes]) -> None:
        with self._lock:
            for each in suppressed:
                self._ledger.add_suppressed(each)
        for each in suppressed:
            self._observe(each, None)

    def _offer(self, prediction: Prediction, verdict: Use | Outcome) -> Outcome | None:
        """Let a prediction wait for its block to fill, if the budget has room for it."""
        if isinstance(verdict, Outcome):
            return verdict
        now = prediction.stage_times.answered
        if self._packer.hopeless(verdict, now):
            return Outcome.BUDGET
        size, alone = record_bytes(prediction, self._instance)
        full = self._packer.offer(prediction, size, verdict, now, alone)
        if full is None:
            return Outcome.BUDGET
        self._send_held(full)
        self._change_filter.record_sent(prediction)
        return None

    def _send_held(self, predictions: Sequence[Prediction]) -> None:
        outcomes = self._send_all(predictions)
        for prediction, outcome in zip(predictions, outcomes, strict=True):
            self._late.append((prediction.frame.id, outcome))
            if outcome is Outcome.OUTBOX:
                self._change_filter.forget(prediction)

    def _send_all(self, predictions: Sequence[Prediction]) -> list[Outcome]:
        """Return for each whether the hub's outbox accepted it: ANSWERED or OUTBOX."""
        if not predictions:
            return []
        with self._lock:
            publish_times = self._ledger.take_publish_times(1 if self._budget.limited else MAX_PUBLISH_TIMES)
            self._unstored += len(predictions)
        outcomes: list[Outcome] = []
        for message, within in prediction_messages(predictions, publish_times, self._instance):
            on_stored = partial(self._on_stored, [each.stage_times for each in within])
            accepted = self._send("predictions", message, on_stored)
            if accepted:
                self._change_filter.record_sent(within[-1])
            else:
                with self._lock:
                    self._ledger.requeue(publish_times)
                    self._unstored -= len(within)
            publish_times = ()  # only the first message carries them
            outcomes += [Outcome.ANSWERED if accepted else Outcome.OUTBOX] * len(within)
        return outcomes

    def _on_stored(self, times: Sequence[StageTimes], puback: int) -> None:
        streams: dict[tuple[str, str], list[int]] = {}  # those that waited may be of several cameras
        for each in times:
            streams.setdefault((each.frame.camera, each.frame.run), []).append(each.frame.seq)
        for stream, seqs in streams.items():
            self._finish(stream, seqs)
        with self._lock:
            self._ledger.add_stored(times, puback)
            self._unstored -= len(times)
            if self._waiting:
                self._all_stored.notify_all()
        for each in times:
            self._observe(each, puback - each.answered)


def _classified(inferred: Inferred, section: InferenceSection) -> Classified:
    top = best(inferred.answer, inferred.running.engine.labels, section.topK)
    return Classified(top, top[0].confidence < section.confidenceThreshold)


def _detected(inferred: Inferred, section: InferenceSection) -> Detected:
    engine, frame = inferred.running.engine, inferred.frame
    found = located(inferred.answer, engine.labels, region(engine.input, frame.width, frame.height))
    return Detected(found, any(each.confidence < section.confidenceThreshold for each in found))


_TASKS: Final[dict[Task, Callable[[Inferred, InferenceSection], Classified | Detected]]] = {
    "classification": _classified,
    "detection": _detected,
}
