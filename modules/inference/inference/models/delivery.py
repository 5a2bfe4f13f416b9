"""The delivery thread: brings this device to the model that the twin names, beside the frame path.

`reconcile` says what comes next, `effects` does it, `duty` knows who answers the frames. Here they meet: an
inbox for what comes from outside, one thread that takes one step after the other, and the report.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any, TypeVar

from inference.model_section import ModelRef, ModelState, digest
from inference.models.actions import Actions, DeliverySettings, DesiredModel
from inference.models.active_model import ActiveModel
from inference.models.child_process import ChildProcess
from inference.models.download import Fetcher
from inference.models.installer import Installer, Running
from inference.models.probation import ProbationResult
from inference.models.prove import Prover
from inference.models.states import BUSY, START, Action, Event, step
from inference.models.status import MAX_HISTORY, HistoryEntry, Status
from inference.models.store import ModelStore
from inference.models.verification import Keyring

__all__ = ["Delivery", "DeliverySettings", "Running"]

log = logging.getLogger(__name__)

_START_S = 10.0  # how long start() waits for the last good model
_METHOD_S = 15.0  # a proof under way is cancelled first, a load under way is not
_STOP_S = 1.0
_LONG = frozenset({Action.CHECK, Action.PROVE, Action.LOAD})
_CURRENT = frozenset({ModelState.ACTIVE, ModelState.PROBATION, ModelState.UNASSIGNED})  # about what runs
T = TypeVar("T")


@dataclass(frozen=True)
class _Item:
    """From outside. `take` runs on the delivery thread, between steps; an urgent one ends the child."""

    take: Callable[[], Event | None]
    urgent: bool = True


class Delivery:
    """One for each module. Every public method may be called from any thread, and none raises."""

    def __init__(
        self,
        folder: Path,
        keyring: Keyring,
        report: Callable[[Mapping[str, Any]], None],
        *,
        runtime: str = "auto",
        delegate: str = "",
        settings: DeliverySettings | None = None,
    ) -> None:
        """`folder` is the module's own; `report` takes reported patches and returns at once."""
        settings = settings or DeliverySettings()
        store = ModelStore(folder)
        self._store = store
        self._report_patch = report
        self._duty = ActiveModel(self._on_ending)
        self._child = ChildProcess(self._overtaken)
        prover = Prover(runtime, settings.proof_timeout_s, settings.proof_command, self._child, delegate)
        fetcher = Fetcher(store, self._child, settings.fetch)
        installer = Installer(keyring, store, fetcher, prover, runtime, delegate)
        self._effects = Actions(installer, store, self._duty, settings)
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._restored = threading.Event()
        self._bell = threading.Condition()  # guards the next four
        self._inbox: deque[_Item] = deque()
        self._newest: DesiredModel | None = None
        self._wish_waits = False
        self._stopping = False
        self._state = START.state
        self._asked: list[Future[ModelRef | None]] = []
        self._history: deque[HistoryEntry] = deque(maxlen=MAX_HISTORY)
        self._told: Mapping[str, Any] = {}

    # -- the module's life

    def start(self) -> None:
        """Returns when the last good model answers, or there is none; needs no hub."""
        self._thread.start()
        if not self._restored.wait(_START_S):
            log.error("the last good model did not load within %s s; going on without", _START_S)

    def stop(self) -> None:
        """End in good order, which is no crash of the model on probation. Returns within about a second."""
        with self._bell:
            self._stopping = True
            self._child.cancel()
            self._bell.notify()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    # -- the frame path

    @property
    def current(self) -> Running | None:
        """Who answers the next frame."""
        return self._duty.current

    def file_of(self, running: Running) -> Path:
        """Where its artefact is kept."""
        return self._store.path(running.ref.sha256)

    def answered(self, running: Running, invoke_ms: float) -> None:
        """`running` answered a frame; its engine took `invoke_ms`."""
        self._duty.answered(running, invoke_ms)

    def failed(self, running: Running, error: Exception) -> Running | None:
        """The engine of `running` raised on a frame: who answers it instead, if anyone."""
        return self._duty.failed(running, error)

    # -- the twin and the methods

    def section(self, section: object, version: int, rung: int | None = None) -> None:
        """The twin's desired `model` section (None: absent) at desired `$version`. The newest one counts.

        `rung`: when the module heard of it, CLOCK_MONOTONIC ns; None: now. `installMs` counts from there.
        """
        rung = monotonic_ns() if rung is None else rung
        subject = DesiredModel(section, version, "" if section is None else digest(section), rung)
        with self._bell:
            last, self._newest = self._newest, subject
            if last is not None and last.digest == subject.digest:
                if last.version != version and not self._wish_waits:
                    self._put(_Item(self._take_version, urgent=False))
                return
            if not self._wish_waits:
                self._wish_waits = True
                self._put(_Item(self._take_wish))
            self._child.cancel()

    def rollback(self) -> ModelRef | None:
        """Go back to `previous`; the present section is not tried again. Who answers then, or None."""
        asked: Future[ModelRef | None] = Future()
        return self._ask(asked, self._take_rollback)

    def reload(self) -> bool:
        """Try a section again that was refused or withdrawn. False: the twin names no model."""
        asked: Future[bool] = Future()
        answer = self._ask(asked, self._take_reload)
        return answer is True

    def limit_latency(self, budget_ms: float) -> None:
        """The operator's budget for p95 of invoke; probation takes the tighter of this and the model's."""
        self._effects.limit_ms = budget_ms

    # -- from outside, turned into events on the delivery thread

    def _put(self, item: _Item) -> None:
        self._inbox.append(item)
        self._bell.notify()

    def _ask(self, asked: Future[T], take: Callable[[Future[T]], Event | None]) -> T | None:
        if not self._thread.is_alive():
            return None
        with self._bell:
            self._put(_Item(partial(take, asked)))
            self._child.cancel()
        try:
            return asked.result(_METHOD_S)
        except FutureTimeout:
            return None

    def _on_ending(self, running: Running, ending: ProbationResult) -> None:
        with self._bell:
            self._put(_Item(partial(self._take_ending, running, ending), urgent=False))

    def _take_ending(self, running: Running, ending: ProbationResult) -> Event | None:
        log.info("model %s: probation ended: %s", running.ref, ending.code or "passed")
        event = self._effects.take_ending(running, ending)
        if self._state not in BUSY:
            return event
        # The candidate goes on. Only what is remembered changes, and before another wish can be taken.
        self._perform(Action.SETTLE if ending.passed else Action.WITHDRAW)
        return None

    def _take_wish(self) -> Event:
        with self._bell:
            self._wish_waits = False
            newest = self._newest
        assert newest is not None
        return self._effects.take(newest)

    def _take_version(self) -> None:
        """The same section under another `$version`: whoever wrote it waits for an answer to that."""
        subject, newest = self._effects.subject, self._newest
        if subject and newest and subject.digest == newest.digest:
            self._effects.subject = replace(subject, version=newest.version)

    def _take_rollback(self, asked: Future[ModelRef | None]) -> Event | None:
        if self._duty.previous is None:
            asked.set_result(None)
            return None
        self._asked.append(asked)
        return Event.ROLL_BACK_ASKED

    def _take_reload(self, asked: Future[bool]) -> Event | None:
        event = self._effects.take_again()
        asked.set_result(event not in (None, Event.SECTION_ABSENT))
        return event

    # -- the thread

    def _run(self) -> None:
        action = START.action
        while True:
            event = self._perform(action)
            if not self._restored.is_set():
                self._begin(event or Event.NOTHING_KEPT)
                event = None
            event = event or self._wait()
            if event is None:
                break
            transition = step(self._state, event)
            self._state, action = transition.state, transition.action
        self._effects.stop()

    def _perform(self, action: Action) -> Event | None:
        if action not in _LONG:
            event = self._effects.perform(action)
            self._note(action)
            self._answer_asked()
            return event
        self._note(action)
        self._report()
        event = self._effects.perform(action)
        return self._next() or event

    def _begin(self, event: Event) -> None:
        """The last good model answers, which is what start() waits for; then going back is prepared."""
        self._state = step(self._state, event).state
        self._note(Action.NOTHING)
        self._restored.set()
        self._effects.find_previous()

    def _wait(self) -> Event | None:
        """The next event from outside; None when the module stops."""
        while True:
            self._report()
            with self._bell:
                if not self._inbox and not self._stopping:
                    self._bell.wait(self._until_retry_s())
                if self._stopping:
                    return None
            if (event := self._next()) is not None:
                return event
            if self._until_retry_s() == 0.0:
                return self._effects.retry()

    def _next(self) -> Event | None:
        """The first event that the inbox makes, if any."""
        while True:
            with self._bell:
                if not self._inbox:
                    return None
                item = self._inbox.popleft()
            if (event := item.take()) is not None:
                return event

    def _overtaken(self) -> bool:
        with self._bell:
            return self._stopping or any(each.urgent for each in self._inbox)

    def _until_retry_s(self) -> float | None:
        retry_at_s = self._effects.retry_at_s
        return None if retry_at_s is None else max(0.0, retry_at_s - monotonic())

    def _answer_asked(self) -> None:
        current = self._duty.current
        while self._asked:
            self._asked.pop().set_result(current.ref if current else None)

    # -- the report

    def _note(self, action: Action) -> None:
        """Write the present state into the history, if it is news."""
        if self._state is ModelState.STARTING or (self._state in BUSY and self._effects.failures):
            return  # trying again each minute would push out what matters
        current, reason = self._duty.current, self._effects.reason
        words = current.ref.reported() if self._state in _CURRENT and current else self._effects.rejected
        code = reason.code if reason and self._state not in BUSY else ""
        self._happened(self._state, words or {}, code)
        if action is Action.WITHDRAW and self._state is not ModelState.WITHDRAWN and self._effects.ended:
            running, ending = self._effects.ended
            self._happened(ModelState.WITHDRAWN, running.ref.reported(), ending.code)

    def _happened(self, state: ModelState, words: Mapping[str, str], code: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        happened = HistoryEntry(state, at, words.get("name", ""), words.get("version", ""), code)
        if not self._history or replace(self._history[-1], at=at) != happened:
            self._history.append(happened)
            log.info("model %s:%s %s %s", happened.name, happened.version, state.value, code)

    def _report(self) -> None:
        """Tell the twin, unless it knows."""
        actions, current, previous = self._effects, self._duty.current, self._duty.previous
        status = Status(
            state=self._state,
            desired_version=actions.subject.version if actions.subject else None,
            active=current.ref if current else None,
            engine=current.engine.reported() if current else None,
            candidate=actions.rejected,
            previous=previous.ref if previous else None,
            error=actions.reason or actions.disk,
            timings=actions.timings_ms,
            history=tuple(self._history),
        )
        patch = status.reported()
        if patch != self._told:
            self._told = patch
            try:
                self._report_patch(patch)
            except Exception:  # the report is no reason to stop looking after models
                log.exception("the twin could not be told")
