"""Decides how the device gets to the model that the twin names.

`step` is pure: it takes the state, an event and the Context, and returns the next state and the actions. It
reads no clock, engine or file. The caller performs the actions in their order and feeds back how they end.

The rule that must hold: an attempt is saved before its model is loaded. Otherwise a model that kills the
process would do so at every start.

>>> state, actions = step(State(), events.Opened(Memory()), Context())
>>> state.model
<ModelState.EMPTY: 'empty'>
>>> desired = DesiredModel({"name": "digits"}, version=1, digest="5f2a")
>>> state, (check,) = step(state, events.SectionChanged(desired), Context())
>>> state.model, check
(<ModelState.CHECKING: 'checking'>, Check(task=2, section={'name': 'digits'}))
>>> reason = Reason("source-unavailable", "the server does not answer")
>>> state, actions = step(state, events.ActionEnded(check, reason), Context(mono_s=10, jitter=1))
>>> state.model, state.retry_at_s
(<ModelState.UNAVAILABLE: 'unavailable'>, 11.0)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from inference.invoke_mark import Interrupted
from inference.model_section import ModelRef, ModelState
from inference.models import events
from inference.models.errors import CODES, Reason
from inference.models.states import BUSY, Response, Trigger, transition
from inference.models.status import MAX_HISTORY, DesiredModel, HistoryEntry, LoadedModel, State
from inference.models.store import Memory, StoredModel

_MAX_REFUSALS = 32
# States that describe the serving model.
_SERVING = frozenset({ModelState.ACTIVE, ModelState.PROBATION, ModelState.UNASSIGNED})
_TIMING = {events.Check: "checkMs", events.Prove: "proveMs", events.Load: "loadMs"}
_ORDER = get_args(events.Action)


@dataclass(frozen=True)
class Context:
    """What `step` does not read itself: the clocks, a random number from 0 to 1, the settings of retries."""

    mono_s: float = 0.0  # CLOCK_MONOTONIC
    utc: str = ""  # ISO 8601
    jitter: float = 0.0
    retry_first_s: float = 1.0
    retry_cap_s: float = 60.0


def step(state: State, event: events.Event, context: Context) -> tuple[State, tuple[events.Action, ...]]:
    """The state after the event, and the actions in the order in which they must be performed."""
    draft = _Step(state, event, context)
    draft.run()
    after, actions = draft.state, draft.actions
    saved = isinstance(event, events.ActionEnded) and isinstance(event.action, events.Save)
    unsaved = after.memory != state.memory or (after.disk is not None and not saved)
    if unsaved and not any(isinstance(action, events.Load) for action in actions):
        actions.append(events.Save(after.memory))
    return after, tuple(sorted(actions, key=lambda action: _ORDER.index(type(action))))


def retry_delay_s(failures: int, jitter: float, first_s: float = 1.0, cap_s: float = 60.0) -> float:
    """The delay after so many failures in a row; `jitter`, 0 to 1, spreads the devices over half of it."""
    full = min(cap_s, first_s * 2.0 ** min(failures - 1, 30))
    return float(full * (0.5 + 0.5 * jitter))


class _Step:
    """One step in progress: the state so far and the actions so far."""

    def __init__(self, state: State, event: events.Event, context: Context) -> None:
        self.state = state
        self.actions: list[events.Action] = []
        self._event = event
        self._context = context

    def run(self) -> None:
        state = self.state
        match self._event:
            case events.Opened(memory, newer, last):
                self._opened(memory, newer, last)
            case events.SectionChanged(desired):
                self._section(desired)
            case events.VersionChanged(digest, version):
                if state.desired and state.desired.digest == digest:
                    self.state = replace(state, desired=replace(state.desired, version=version))
            case events.RollbackRequested():
                if state.previous is not None:
                    self._apply(Trigger.ROLLBACK_REQUESTED)
                self.actions.append(events.Reply(_ref(state.previous)))
            case events.ReloadRequested():
                self._reload()
            case events.RetryDue():
                self.state = replace(state, retry_at_s=None)
                self._apply(Trigger.RETRY_DUE)
            case events.ProbationEnded(ref, failure):
                self._probation_ended(ref, failure)
            case events.Stopping():
                self._remember(state.memory.stopped())
            case events.ActionEnded(events.Save(), outcome):
                self.state = replace(state, disk=outcome if isinstance(outcome, Reason) else None)
            case events.ActionEnded(events.Restore(stored), outcome):
                self._restored(stored, outcome)
            case events.ActionEnded(action, outcome, took_ms) if isinstance(action, events.Task):
                if action.task == state.task:  # else another task has overtaken it
                    timings_ms = {**state.timings_ms, _TIMING[type(action)]: took_ms}
                    self.state = replace(state, timings_ms=timings_ms)
                    self._task_ended(outcome)

    def _apply(self, trigger: Trigger) -> None:
        to, response = transition(self.state.model, trigger)
        match response:
            case Response.CHECK:
                self.actions.append(events.Check(self._new_task(), self._desired.section))
            case Response.PROVE:
                self.actions.append(events.Prove(self._new_task()))
            case Response.LOAD:
                memory = self._remember(self.state.memory.attempting(self._attempt))
                self.actions.append(events.Load(self._new_task(), memory))
            case Response.PROMOTE:
                self._promote()
            case Response.QUARANTINE:
                self._quarantine()
            case Response.RETRY_LATER:
                self._retry_later()
            case Response.MARK_PROVEN:
                assert isinstance(self._event, events.ProbationEnded)
                self._remember(self.state.memory.marked_proven(self._event.ref.sha256))
            case Response.WITHDRAW:
                self._end_badly()
            case Response.ROLL_BACK:
                self._roll_back()
        self.state = replace(self.state, model=to)
        self._note(response)

    # -- events

    def _opened(self, memory: Memory, newer: str, last: Interrupted) -> None:
        memory, crashed = memory.started(last)
        reason = Reason("state-too-new", newer) if newer else None
        self.state = replace(self.state, memory=memory, reason=reason, restoring=memory.restorable)
        for ref, verdict in crashed[:1]:
            self.state = replace(self.state, rejected=ref.reported(), reason=verdict)
        self._restore_next()

    def _restored(self, stored: StoredModel, outcome: events.Outcome) -> None:
        state = self.state
        if not isinstance(outcome, LoadedModel):
            assert isinstance(outcome, Reason)
            self._not_restored(stored, outcome)
            return
        self.state = replace(state, restoring=())
        loaded = state.memory.judged if stored.proven else state.memory.abandoned
        self._remember(loaded(stored.section))
        if state.serving is not None:
            self._set_previous(outcome)
            return
        self._serve(outcome, None, probation=not stored.proven)
        if state.model is ModelState.STARTING:
            restored = Trigger.RESTORED if stored.proven else Trigger.RESTORED_UNPROVEN
            self._apply(Trigger.RESTORED_ANOTHER if state.rejected else restored)
            self.actions.append(events.Reply(outcome.ref))
        self._find_previous()

    def _not_restored(self, stored: StoredModel, reason: Reason) -> None:
        state, memory = self.state, self.state.memory
        if CODES[reason.code].lasting:  # the file is damaged; a missing key may come back
            memory = memory.lost(stored.ref.sha256).judged(stored.section)
        else:
            memory = memory.abandoned(stored.section)
        first = state.model is ModelState.STARTING and state.reason is None
        self.state = replace(
            state, memory=memory, restoring=state.restoring[1:], reason=reason if first else state.reason
        )
        self._restore_next()

    def _section(self, desired: DesiredModel) -> None:
        self._drop_candidate()
        state = replace(self.state, desired=desired, retry_at_s=None, failures=0, reason=None, rejected=None)
        self.state, active = state, state.memory.active
        if not desired.digest:
            return self._apply(Trigger.SECTION_ABSENT)
        if active and active.section == desired.digest and state.serves(active.ref):
            return self._satisfied()
        reason = state.memory.quarantine.get(desired.digest) or state.refusals.get(desired.digest)
        timings_ms = {} if reason is None else state.timings_ms
        self.state = replace(state, rejected=desired.describe(), reason=reason, timings_ms=timings_ms)
        if reason is None:
            return self._apply(Trigger.NEW_SECTION)
        withdrawn = CODES[reason.code].state is ModelState.WITHDRAWN
        return self._apply(Trigger.KNOWN_WITHDRAWN if withdrawn else Trigger.KNOWN_REFUSED)

    def _reload(self) -> None:
        desired = self.state.desired
        if desired is not None:
            refusals = {k: v for k, v in self.state.refusals.items() if k != desired.digest}
            self.state = replace(self.state, refusals=refusals)
            self._remember(self.state.memory.released(desired.digest))
            self._section(replace(desired, notified_ns=int(self._context.mono_s * 1e9)))
        self.actions.append(events.Reply(bool(desired and desired.digest)))

    def _probation_ended(self, ref: ModelRef, failure: Reason | None) -> None:
        if not self.state.serves(ref):
            self._apply(Trigger.REPLACED_FAILED if failure else Trigger.REPLACED_PASSED)
            return
        self.state = replace(self.state, on_probation=False)
        self._apply(Trigger.FAILED if failure else Trigger.PASSED)

    def _task_ended(self, outcome: events.Outcome) -> None:
        match outcome:
            case Reason(code):
                self.state = replace(self.state, reason=outcome)
                refused = CODES[code].state is ModelState.REFUSED
                self._apply(Trigger.REFUSED if refused else Trigger.UNAVAILABLE)
            case ModelRef():
                self._verified(outcome)
            case LoadedModel():
                self._apply(Trigger.LOADED)
            case Mapping():
                self.state = replace(self.state, timings_ms={**self.state.timings_ms, **outcome})
                self._apply(Trigger.PROVED)

    def _verified(self, ref: ModelRef) -> None:
        active = self.state.memory.active
        if active and active.ref.sha256 == ref.sha256 and self.state.serves(ref):
            self._remember(self.state.memory.requested_by(self._desired.digest, ref))
            self._satisfied()
        else:
            self.state = replace(self.state, candidate=ref)
            self._apply(Trigger.VERIFIED)

    # -- responses

    def _promote(self) -> None:
        assert isinstance(self._event, events.ActionEnded)
        assert isinstance(self._event.outcome, LoadedModel)
        state, memory = self.state, self.state.memory.promoted(self._attempt).abandoned(self._desired.digest)
        back = memory.rollback_candidates[0].ref.sha256 if memory.rollback_candidates else ""
        at_hand = (state.serving, state.previous)
        previous = next((each for each in at_hand if each and each.ref.sha256 == back), None)
        install_ms = self._context.mono_s * 1e3 - self._desired.notified_ns / 1e6
        timings_ms = {**state.timings_ms, "installMs": install_ms}
        self._remember(memory)
        self._serve(self._event.outcome, previous, probation=True)
        self.state = replace(self.state, candidate=None, rejected=None, reason=None, timings_ms=timings_ms)
        self._sweep()
        self._find_previous()

    def _quarantine(self) -> None:
        reason, digest = self.state.reason, self._desired.digest
        assert reason is not None
        if CODES[reason.code].lasting:
            self._remember(self.state.memory.quarantined(digest, reason))
        else:
            refusals = {**self.state.refusals, digest: reason}
            self.state = replace(self.state, refusals=dict(list(refusals.items())[-_MAX_REFUSALS:]))
        self._drop_candidate()
        self._sweep()

    def _retry_later(self) -> None:
        self._drop_candidate()
        context, failures = self._context, self.state.failures + 1
        delay_s = retry_delay_s(failures, context.jitter, context.retry_first_s, context.retry_cap_s)
        self.state = replace(self.state, failures=failures, retry_at_s=context.mono_s + delay_s)

    def _end_badly(self) -> None:
        """Withdraw a model that failed probation. The reason is shown unless the twin names another model."""
        assert isinstance(self._event, events.ProbationEnded)
        ref, failure, desired = self._event.ref, self._event.failure, self.state.desired
        assert failure is not None
        section = self._withdraw(ref, failure)
        if section and (desired is None or desired.digest in ("", section)):
            reason = Reason(failure.code, f"{ref}: {failure.message}")
            self.state = replace(self.state, rejected=ref.reported(), reason=reason)
        self._go_back(self.state.serves(ref))

    def _roll_back(self) -> None:
        self._drop_candidate()
        desired, serving, previous = self.state.desired, self.state.serving, self.state.previous
        assert previous is not None
        reason = Reason("rolled-back", f"a person went back to {previous.ref}")
        self.state = replace(self.state, retry_at_s=None)
        if serving is not None:
            self._withdraw(serving.ref, reason)
            self.state = replace(self.state, rejected=serving.ref.reported(), reason=reason)
        if desired and desired.digest:
            self._remember(self.state.memory.quarantined(desired.digest, reason))
        self._go_back(serve_previous=True)

    def _withdraw(self, ref: ModelRef, verdict: Reason) -> str:
        """Quarantine a model that served. Returns the digest of its section, or "" if it is not stored."""
        stored = self.state.memory.find(ref.sha256)
        memory = self.state.memory.withdrawn(ref.sha256)
        self._remember(memory.quarantined(stored.section, verdict) if stored else memory)
        return stored.section if stored else ""

    # -- what events and responses share

    @property
    def _desired(self) -> DesiredModel:
        assert self.state.desired is not None
        return self.state.desired

    @property
    def _attempt(self) -> StoredModel:
        assert self.state.candidate is not None
        return StoredModel(self.state.candidate, self._desired.digest)

    def _new_task(self) -> int:
        self.state = replace(self.state, task=self.state.task + 1)
        return self.state.task

    def _remember(self, memory: Memory) -> Memory:
        self.state = replace(self.state, memory=memory)
        return memory

    def _satisfied(self) -> None:
        self.state = replace(self.state, reason=None, rejected=None)
        self._apply(Trigger.SATISFIED_UNPROVEN if self.state.on_probation else Trigger.SATISFIED)

    def _drop_candidate(self) -> None:
        """It is not going to be promoted. The next sweep removes its file."""
        if self.state.model is ModelState.LOADING:
            self._remember(self.state.memory.abandoned(self._desired.digest))
        self._new_task()  # so that the result of the present one is ignored
        self.state = replace(self.state, candidate=None)

    def _serve(self, model: LoadedModel | None, previous: LoadedModel | None, *, probation: bool) -> None:
        self.state = replace(self.state, serving=model, previous=previous, on_probation=probation)
        self.actions.append(events.Serve(_ref(model), _ref(previous), probation))
        if model is not None:
            self._remember(self.state.memory.resumed(model.ref.sha256))

    def _set_previous(self, previous: LoadedModel | None) -> None:
        self.state = replace(self.state, previous=previous)
        self.actions.append(events.SetPrevious(_ref(previous)))

    def _go_back(self, serve_previous: bool) -> None:
        """After a model was withdrawn: have one that serves, and one to go back to."""
        if serve_previous:
            self._serve(self.state.previous, None, probation=False)
        self._sweep()
        self._find_previous()

    def _find_previous(self) -> None:
        """Have the model to go back to loaded, so that going back is one assignment."""
        memory, previous = self.state.memory, self.state.previous
        line = tuple(
            stored
            for stored in memory.rollback_candidates
            if not memory.doubtful(stored) or (previous and stored.ref.sha256 == previous.ref.sha256)
        )
        self.state = replace(self.state, restoring=line)
        self._restore_next()

    def _restore_next(self) -> None:
        """events.Load the first model in line, unless it is loaded."""
        state = self.state
        if not state.restoring:
            if state.model is ModelState.STARTING:
                self._apply(Trigger.NOTHING_STORED)
                self.actions.append(events.Reply(None))
            elif state.previous is not None:
                self._set_previous(None)
        elif state.previous is not None and state.restoring[0].ref.sha256 == state.previous.ref.sha256:
            self.state = replace(state, restoring=())
        else:
            self._remember(state.memory.attempting(state.restoring[0]))
            self.actions.append(events.Restore(state.restoring[0]))

    def _sweep(self) -> None:
        candidate = self.state.candidate.sha256 if self.state.candidate else ""
        self.actions.append(events.Sweep(self.state.memory, candidate))

    # -- the history

    def _note(self, response: Response) -> None:
        """Add the state to the history if it is news. Retries come each minute and are not."""
        state, busy = self.state, self.state.model in BUSY
        if not (busy and state.failures):
            serving = state.serving.ref.reported() if state.serving and state.model in _SERVING else None
            code = state.reason.code if state.reason and not busy else ""
            self._add(state.model, serving or state.rejected or {}, code)
        if response is Response.WITHDRAW and state.model is not ModelState.WITHDRAWN:
            assert isinstance(self._event, events.ProbationEnded)
            assert self._event.failure is not None
            self._add(ModelState.WITHDRAWN, self._event.ref.reported(), self._event.failure.code)

    def _add(self, state: ModelState, described: Mapping[str, str], code: str) -> None:
        history, utc = self.state.history, self._context.utc
        entry = HistoryEntry(state, utc, described.get("name", ""), described.get("version", ""), code)
        if not history or replace(history[-1], at=utc) != entry:
            self.state = replace(self.state, history=(*history, entry)[-MAX_HISTORY:])


def _ref(model: LoadedModel | None) -> ModelRef | None:
    return model.ref if model else None
