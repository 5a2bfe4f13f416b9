"""The reconciler: brings this device to the model that the twin names, beside the frame path.

The thread "models" takes one event after the other from an inbox, lets `step` decide, performs the actions:

    twin, operator, probation, child result -> inbox -> step -> actions -> events -> inbox

A task (check, prove, load) may take long. Another section, a rollback, a reload and the end of the module
overtake it: they kill its child process.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, monotonic_ns, perf_counter
from typing import Any

from inference.invoke_mark import Interrupted, InvokeMark
from inference.model_section import ModelRef, digest
from inference.models import events
from inference.models.active_model import ActiveModel, Probation, ProbationResult
from inference.models.child_process import ChildProcess
from inference.models.download import Fetcher, FetchSettings
from inference.models.errors import ModelRefused, ModelUnavailable, Reason
from inference.models.installer import Candidate, Installer, Running
from inference.models.prove import Prover
from inference.models.states import BUSY
from inference.models.status import DesiredModel, LoadedModel, State
from inference.models.step import Context, step
from inference.models.store import ModelStore
from inference.models.verification import Keyring

__all__ = ["Reconciler", "ReconcilerSettings", "Running"]

log = logging.getLogger(__name__)

_START_S = 10.0  # how long start() waits for the last good model
_METHOD_S = 15.0  # a proof in progress is cancelled first, a load in progress is not
_STOP_S = 1.0
_MAX_BUDGET_MS = 60_000.0  # a manifest may hold any number


@dataclass(frozen=True)
class ReconcilerSettings:
    """Time-outs, retries and the length of probation."""

    proof_timeout_s: float = 10.0
    proof_command: tuple[str, ...] | None = None  # None: `python -m inference.models.prove`
    probation_frames: int = 50
    probation_errors: int = 3
    retry_first_s: float = 1.0
    retry_cap_s: float = 60.0
    fetch: FetchSettings = field(default_factory=FetchSettings)


@dataclass(frozen=True)
class _Item:
    """An event in the inbox. `reply` gets the result of the Reply that it leads to."""

    event: events.Event
    overtakes: bool = False
    reply: Future[Any] = field(default_factory=Future)


class Reconciler:
    """One for each module. Every public method may be called from any thread, and none raises."""

    def __init__(
        self,
        folder: Path,
        keyring: Keyring,
        report: Callable[[Mapping[str, Any]], None],
        *,
        runtime: str = "auto",
        delegate: str = "",
        settings: ReconcilerSettings | None = None,
    ) -> None:
        """`folder` is the module's own; `report` takes reported patches and returns at once."""
        self._settings = settings = settings or ReconcilerSettings()
        self._report_patch = report
        self._store = ModelStore(folder)
        self.mark = InvokeMark(folder / "invoke.mark")  # the watchdog sets it around each invoke
        self._active = ActiveModel(self._on_probation_end)
        self._child = ChildProcess(self._overtaken)
        prover = Prover(runtime, settings.proof_timeout_s, settings.proof_command, self._child, delegate)
        fetcher = Fetcher(self._store, self._child, settings.fetch)
        self._installer = Installer(keyring, self._store, fetcher, prover, runtime, delegate)
        self._limit_ms = float("inf")
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._changed = threading.Condition()  # guards the next three
        self._inbox: deque[_Item] = deque()
        self._newest: DesiredModel | None = None
        self._stopping = False
        # The rest belongs to the thread.
        self._state = State()
        self._candidate: Candidate | None = None
        self._loaded: dict[str, Running] = {}  # by sha256
        self._loading: object | None = None
        self._reported: Mapping[str, Any] = {}

    # -- the module's lifecycle

    def start(self) -> None:
        """Returns when the last good model serves, or there is none. Needs no hub."""
        last = self.mark.open()
        opened = _Item(events.Opened(self._store.open(), self._store.newer, last))
        self._inbox.appendleft(opened)
        self._thread.start()
        try:
            opened.reply.result(_START_S)
        except FutureTimeout:
            log.error("the last good model did not load within %s s; starting without it", _START_S)
        if last != Interrupted() and self._state.disk is None:  # it is in the memory now, and saved
            self.mark.forget()

    def stop(self) -> None:
        """End in good order, which is no crash of the model on probation. Returns within about a second."""
        with self._changed:
            self._stopping = True
            self._child.cancel()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    # -- for the frame path

    @property
    def current(self) -> Running | None:
        """The model that serves the next frame."""
        return self._active.current

    def file_of(self, running: Running) -> Path:
        """The file of its artefact."""
        return self._store.path(running.ref.sha256)

    @property
    def loading(self) -> object | None:
        """The load of a model that is in progress in this process; each load is another object."""
        return self._loading

    def latency_budget_ms(self, running: Running) -> float:
        """The latency budget of a model: the tighter one of its own and the operator's."""
        return min(running.manifest.latencyBudgetMs, self._limit_ms, _MAX_BUDGET_MS)

    def wait_answered(self, ref: ModelRef, timeout_s: float) -> bool:
        """Wait until this model has answered a frame since it serves; False if it did not in time."""
        return self._active.wait_answered(ref, timeout_s)

    def answered(self, running: Running, invoke_ms: float) -> None:
        """`running` answered a frame; its engine took `invoke_ms`."""
        self._active.answered(running, invoke_ms)

    def failed(self, running: Running, error: Exception) -> Running | None:
        """The engine of `running` raised on a frame: the model that serves it instead, if any."""
        return self._active.failed(running, error)

    def _on_probation_end(self, running: Running, result: ProbationResult) -> None:
        self._put(_Item(events.ProbationEnded(running.ref, result.failure)))

    # -- for the twin and the methods

    def section(self, section: object, version: int, notified_ns: int | None = None) -> None:
        """The twin's desired `model` section (None: absent) at desired `$version`. The newest one counts.

        `notified_ns`: when the module was notified, CLOCK_MONOTONIC; None: now. `installMs` starts there.
        """
        notified_ns = monotonic_ns() if notified_ns is None else notified_ns
        desired = DesiredModel(section, version, "" if section is None else digest(section), notified_ns)
        with self._changed:
            last, self._newest = self._newest, desired
            waiting = [each for each in self._inbox if isinstance(each.event, events.SectionChanged)]
            for each in waiting:  # only the newest section is tried
                self._inbox.remove(each)
            if waiting or last is None or last.digest != desired.digest:
                self._put(_Item(events.SectionChanged(desired), overtakes=True))
            elif last.version != version:
                self._put(_Item(events.VersionChanged(desired.digest, version)))

    def rollback(self) -> ModelRef | None:
        """Go back to the previous model, and return it. The present section is not tried again."""
        ref: ModelRef | None = self._request(events.RollbackRequested())
        return ref

    def reload(self) -> bool:
        """Try a section again that was refused or withdrawn. False: the twin names no model."""
        return self._request(events.ReloadRequested()) is True

    def limit_latency(self, budget_ms: float) -> None:
        """The operator's budget for p95 of invoke; probation takes the tighter of this and the model's."""
        self._limit_ms = budget_ms

    def _request(self, event: events.Event) -> Any:
        if not self._thread.is_alive():
            return None
        item = _Item(event, overtakes=True)
        self._put(item)
        try:
            return item.reply.result(_METHOD_S)
        except FutureTimeout:
            return None

    # -- the inbox

    def _put(self, item: _Item) -> None:
        with self._changed:
            self._inbox.append(item)
            if item.overtakes:
                self._child.cancel()
            self._changed.notify()

    def _overtaken(self) -> bool:
        with self._changed:
            return self._stopping or any(item.overtakes for item in self._inbox)

    def _next(self) -> _Item | None:
        """Wait for the next event; None when the module stops."""
        with self._changed:
            while not self._inbox and not self._stopping:
                retry_at_s = self._state.retry_at_s
                left_s = None if retry_at_s is None else retry_at_s - monotonic()
                if left_s is not None and left_s <= 0:
                    return _Item(events.RetryDue())
                self._changed.wait(left_s)
            return None if self._stopping else self._inbox.popleft()

    # -- the thread

    def _run(self) -> None:
        while (item := self._next()) is not None:
            self._take(item)
            if self._state.model not in BUSY:  # let go of a candidate, and of models that were replaced
                in_use = {each.ref.sha256 for each in (self._state.serving, self._state.previous) if each}
                self._loaded = {k: running for k, running in self._loaded.items() if k in in_use}
                self._candidate = None
            if not self._state.on_probation:
                self.mark.disarm()
            self._report()
        self._take(_Item(events.Stopping()))

    def _take(self, item: _Item) -> None:
        """Take one event, and at once the ends of quick actions. The end of a task goes to the inbox."""
        pending = deque([item.event])
        while pending:
            event = pending.popleft()
            try:
                actions = self._step(event)
            except Exception:  # a fault of this module; frames go on with the model that serves them
                log.exception("event %s", type(event).__name__)
                continue
            for action in actions:
                if isinstance(action, events.Reply):
                    item.reply.set_result(action.result)
                    continue
                if isinstance(action, events.Task):
                    self._report()
                ended = self._perform(action)
                if isinstance(action, events.Task):
                    self._put(_Item(ended))
                elif isinstance(action, events.Save | events.Restore):
                    pending.append(ended)

    def _step(self, event: events.Event) -> tuple[events.Action, ...]:
        utc = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        settings, before = self._settings, self._state
        context = Context(monotonic(), utc, random.random(), settings.retry_first_s, settings.retry_cap_s)
        self._state, actions = step(before, event, context)
        _log(event, before, self._state)
        return actions

    def _perform(self, action: events.Action) -> events.ActionEnded:
        """Never raises."""
        began, outcome = perf_counter(), None
        try:
            if isinstance(action, events.Load):
                self._store.save(action.memory)
                began = perf_counter()
            if isinstance(action, events.Load | events.Restore):
                self._loading = action
            outcome = self._do(action)
        except (ModelRefused, ModelUnavailable) as error:
            outcome = error.reason
        except Exception as error:  # a fault of this module; frames go on with the model that serves them
            what = type(action).__name__.lower()
            log.exception("action %s", what)
            outcome = Reason("internal", f"{type(error).__name__} in {what}: see the module's log")
        finally:
            self._loading = None
        return events.ActionEnded(action, outcome, (perf_counter() - began) * 1e3)

    def _do(self, action: events.Action) -> events.Outcome:
        match action:
            case events.Serve(model, previous, probation):
                running = self._running(model)
                watch = self._probation(running) if running and probation else None
                if watch:
                    self.mark.arm()
                self._active.set(running, self._running(previous), watch)
            case events.SetPrevious(previous):
                self._active.set_previous(self._running(previous))
            case events.Save(memory):
                self._store.save(memory)
            case events.Sweep(memory, candidate):
                self._store.sweep(memory, candidate)
            case events.Restore(stored):
                return self._hold(self._installer.restore(stored))
            case events.Check(_, section):
                self._candidate = self._installer.check(section)
                return self._candidate.ref
            case events.Prove():
                assert self._candidate is not None
                proved = self._installer.prove(self._candidate)
                log.info(
                    "model %s proved on %s, p50 %.3f ms", self._candidate.ref, proved.runtime, proved.p50_ms
                )
                return {"proofP50Ms": proved.p50_ms, "proofP95Ms": proved.p95_ms}
            case events.Load():
                assert self._candidate is not None
                return self._hold(self._installer.load(self._candidate))
        return None

    def _hold(self, running: Running) -> LoadedModel:
        self._loaded[running.ref.sha256] = running
        return LoadedModel(running.ref, running.engine.reported())

    def _running(self, ref: ModelRef | None) -> Running | None:
        return self._loaded[ref.sha256] if ref else None

    def _probation(self, running: Running) -> Probation:
        budget_ms = self.latency_budget_ms(running)
        frames, errors = self._settings.probation_frames, self._settings.probation_errors
        return Probation(budget_ms, frames, errors, began_s=monotonic())

    def _report(self) -> None:
        """Report the state to the twin if it changed."""
        patch = self._state.reported()
        if patch == self._reported:
            return
        self._reported = patch
        try:
            self._report_patch(patch)
        except Exception:  # models must be looked after even if nothing can be reported
            log.exception("the model status could not be reported")


def _log(event: events.Event, before: State, after: State) -> None:
    for entry in after.history[-2:]:
        if entry not in before.history:
            log.info("model %s:%s %s %s", entry.name, entry.version, entry.state.value, entry.code)
    match event:
        case events.ProbationEnded(ref, failure):
            log.info("model %s: probation ended: %s", ref, failure.code if failure else "passed")
        case events.ActionEnded(events.Restore(stored), Reason(code, message)):
            log.warning("stored model %s: %s: %s", stored.ref, code, message)
        case events.ActionEnded(events.Save(), Reason(code, message)) if before.disk is None:
            log.error("model state cannot be saved: %s: %s", code, message)
