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
from edgekit.frame.message import Frame, Message
from inference.artefact import Task
from inference.frames.ledger import (
    ClockReference,
    Ledger,
    PublishTime,
    StageTimes,
    Timestamps,
    Window,
    stage_times,
)
from inference.frames.outcomes import Outcome
from inference.frames.prediction import (
    ChangeFilter,
    Classified,
    Detected,
    Prediction,
    best,
    located,
    prediction_messages,
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
    ) -> None:
        """`send` is Hub.send; `observe` gets the stage times of each finished frame (metrics).

        `finish` gets the frames whose predictions the hub has stored (PUBACK).
        """
        self._send: Final = send
        self._finish: Final = finish
        self._instance: Final = instance
        self._observe: Final = observe
        self._boot: Final = boot_id()
        self._change_filter = ChangeFilter()  # used by the worker thread only
        self._bad_clocks = 0  # as `take_bad_clocks` returns
        self._lock = threading.Lock()  # guards the fields below
        self._all_stored = threading.Condition(self._lock)
        self._ledger = Ledger(mono_ns())
        self._unstored = 0  # predictions in the hub's outbox
        self._waiting = False  # whether `wait_stored` was called

    def publish(self, inferred: Sequence[Inferred], arrived: int, settings: Settings) -> list[Outcome]:
        """Answer the frames of one message (at least one); return the outcome of each."""
        predictions = self._predictions(inferred, arrived, settings)
        self._bad_clocks += sum([each.stage_times.clock == "bad" for each in predictions])
        wanted = self._change_filter.wanted(settings.telemetry.predictions, predictions)
        if all(wanted):
            return self._send_all(predictions)
        self._suppress([each.stage_times for each, yes in zip(predictions, wanted, strict=True) if not yes])
        sent = iter(self._send_all([each for each, yes in zip(predictions, wanted, strict=True) if yes]))
        return [next(sent) if yes else Outcome.SUPPRESSED for yes in wanted]

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

    def close_window(self, now: int) -> tuple[Window, tuple[PublishTime, ...]]:
        """Close the ledger's window; return it and the publish times for the next message."""
        with self._lock:
            return self._ledger.close_window(now), self._ledger.take_publish_times()

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

    def _send_all(self, predictions: Sequence[Prediction]) -> list[Outcome]:
        """Return for each whether the hub's outbox accepted it: ANSWERED or OUTBOX."""
        if not predictions:
            return []
        with self._lock:
            publish_times = self._ledger.take_publish_times()
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
        first = times[0].frame
        self._finish((first.camera, first.run), [each.frame.seq for each in times])
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


def _detected(inferred: Inferred, _: InferenceSection) -> Detected:
    engine, frame = inferred.running.engine, inferred.frame
    return Detected(located(inferred.answer, engine.labels, region(engine.input, frame.width, frame.height)))


_TASKS: Final[dict[Task, Callable[[Inferred, InferenceSection], Classified | Detected]]] = {
    "classification": _classified,
    "detection": _detected,
}
