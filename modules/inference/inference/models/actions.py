"""What each effect of `reconcile` does on this device, and what is remembered of it.

Everything here runs on the delivery thread. An effect ends in an Event, or in None where the machine then
waits. When to do what is `reconcile`'s; threads and the report are `delivery`'s.
"""

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic, monotonic_ns, perf_counter

from inference.model_section import ModelState
from inference.models.active_model import ActiveModel
from inference.models.download import FetchSettings
from inference.models.errors import CODES, ModelRefused, ModelUnavailable
from inference.models.installer import Candidate, Installer, Running
from inference.models.probation import Probation, ProbationResult
from inference.models.states import Action, Event, retry_delay_s
from inference.models.status import Reason
from inference.models.store import Memory, ModelStore, StoredModel, Verdict

log = logging.getLogger(__name__)

_MAX_REFUSALS = 32


@dataclass(frozen=True)
class DeliverySettings:
    """How patient delivery is."""

    proof_timeout_s: float = 10.0
    proof_command: tuple[str, ...] | None = (
        None  # what runs a proof; None: `python -m inference.models.prove`
    )
    probation_frames: int = 50
    probation_errors: int = 3
    retry_first_s: float = 1.0
    retry_cap_s: float = 60.0
    fetch: FetchSettings = field(default_factory=FetchSettings)


@dataclass(frozen=True)
class DesiredModel:
    """The desired `model` section as it came; `digest` is empty when the twin has none."""

    section: object
    version: int  # `$version` of the desired properties
    digest: str
    rung: int = 0  # when the module heard of it, CLOCK_MONOTONIC ns

    def words(self) -> dict[str, str]:
        """Which model it means, as far as that can be told: it may be unreadable."""
        section = self.section if isinstance(self.section, Mapping) else {}
        found = {key: section.get(key) for key in ("name", "version", "sha256")}
        return {k: v for k, v in found.items() if isinstance(v, str) and len(v) <= 64 and v.isprintable()}


class Actions:
    """The delivery thread's hands and memory. `limit_ms` is the operator's latency budget."""

    def __init__(
        self, installer: Installer, store: ModelStore, active_model: ActiveModel, settings: DeliverySettings
    ) -> None:
        self.limit_ms = float("inf")
        self.subject: DesiredModel | None = None
        self.rejected: Mapping[str, str] | None = None  # the candidate, while it is one and afterwards
        self.reason: Reason | None = None  # why the wish does not run, or ran and does not any more
        self.disk: Reason | None = None  # what is wrong with the disk, and no model's fault
        self.failures = 0  # of the wish, one after the other, that were not its fault
        self.ended: tuple[Running, ProbationResult] | None = None  # the last probation that ended
        self.retry_at_s: float | None = None  # CLOCK_MONOTONIC
        self.timings_ms: dict[str, float] = {}
        self._installer = installer
        self._store = store
        self._duty = active_model
        self._settings = settings
        self._memory = Memory()
        self._refusals: dict[str, Verdict] = {}  # those that a restart may mend
        self._candidate: Candidate | None = None
        self._loaded: Running | None = None
        self._attempting: StoredModel | None = None  # its attempt is on disk, it is not promoted yet
        self._do: Mapping[Action, Callable[[], Event | None]] = {
            Action.NOTHING: lambda: None,
            Action.RESTORE: self._restore,
            Action.CHECK: self._check,
            Action.PROVE: self._prove,
            Action.LOAD: self._load,
            Action.PROMOTE: self._promote,
            Action.QUARANTINE: self._condemn,
            Action.RETRY_LATER: self._retry_later,
            Action.SETTLE: self._settle,
            Action.WITHDRAW: self._withdraw,
            Action.ROLL_BACK: self._roll_back,
        }

    def perform(self, action: Action) -> Event | None:
        """Do it. Never raises."""
        try:
            return self._do[action]()
        except ModelRefused as error:
            self.reason = Reason(error.code, str(error))
            return Event.REFUSED
        except ModelUnavailable as error:
            self.reason = Reason(error.code, str(error))
            return Event.UNAVAILABLE
        except Exception as error:  # ours to mend; the frame path goes on with what it has
            log.exception("effect %s", action.value)
            self.reason = Reason(
                "internal", f"{type(error).__name__} in {action.value}: see the module's log"
            )
            return Event.UNAVAILABLE if action in (Action.CHECK, Action.PROVE, Action.LOAD) else None

    # -- what comes from outside

    def take(self, subject: DesiredModel) -> Event:
        """The twin has another section now."""
        self._drop_candidate()
        self.subject = subject
        self.retry_at_s, self.failures = None, 0
        self.reason = self.rejected = None
        if not subject.digest:
            return Event.SECTION_ABSENT
        if self._runs(subject):
            return self._satisfied()
        self.rejected = subject.words()
        verdict = self._memory.quarantine.get(subject.digest) or self._refusals.get(subject.digest)
        if verdict is None:
            self.timings_ms = {}
            return Event.WISHED
        self.reason = Reason(verdict.code, verdict.message)
        withdrawn = CODES[verdict.code].state is ModelState.WITHDRAWN
        return Event.KNOWN_WITHDRAWN if withdrawn else Event.KNOWN_REFUSED

    def take_again(self) -> Event | None:
        """A person wants what was turned down to be tried again."""
        if self.subject is None:
            return None
        self._refusals.pop(self.subject.digest, None)
        self._remember(self._memory.released(self.subject.digest))
        return self.take(replace(self.subject, rung=monotonic_ns()))

    def take_ending(self, running: Running, ending: ProbationResult) -> Event:
        """A probation has ended. What failed does not answer any more: `duty` saw to that."""
        self.ended = running, ending
        return Event.PASSED if ending.passed else Event.FAILED

    def retry(self) -> Event:
        self.retry_at_s = None
        return Event.RETRY_DUE

    def stop(self) -> None:
        """The process ends in good order."""
        if self._memory.attempts:
            self._remember(self._memory.stopped())

    def find_previous(self) -> None:
        """Have the model to go back to loaded, so that going back is one assignment."""
        for kept in self._memory.rollback_candidates:
            previous = self._duty.previous
            if previous is not None and previous.ref.sha256 == kept.ref.sha256:
                return
            if self._memory.doubtful(kept):
                continue  # it is not worth another crash
            restored = self._restore_one(kept)
            if isinstance(restored, Running):
                self._duty.previous = restored
                return
        self._duty.previous = None

    # -- the effects

    def _restore(self) -> Event:
        memory, crashed = self._store.open().started()
        self._remember(memory)
        if self._store.newer:
            self.reason = Reason("state-too-new", self._store.newer)
        for ref, verdict in crashed[:1]:
            self._turn_down(ref.reported(), Reason(verdict.code, verdict.message))
        for kept in memory.restorable:
            restored = self._restore_one(kept)
            if isinstance(restored, Running):
                self._duty.take_over(restored, None, None if kept.proven else self._probation(restored))
                self._remember(self._memory.resumed(kept.ref.sha256))
                break
            self.reason = self.reason or restored
        if self._duty.current is None:
            return Event.NOTHING_KEPT
        if crashed:
            return Event.RESTORED_ANOTHER
        return Event.RESTORED_UNPROVEN if self._duty.on_probation else Event.RESTORED

    def _check(self) -> Event:
        with self._timed("checkMs"):
            candidate = self._installer.check(self._wanted.section)
        active, current = self._memory.active, self._duty.current
        if active and current and active.ref.sha256 == current.ref.sha256 == candidate.ref.sha256:
            self._remember(self._memory.asked_by(self._wanted.digest, candidate.ref))
            return self._satisfied()
        self._candidate = candidate
        return Event.VERIFIED

    def _prove(self) -> Event:
        assert self._candidate is not None
        with self._timed("proveMs"):
            proved = self._installer.prove(self._candidate)
        self.timings_ms |= {"proofP50Ms": proved.p50_ms, "proofP95Ms": proved.p95_ms}
        log.info("model %s proved on %s, p50 %.3f ms", self._candidate.ref, proved.runtime, proved.p50_ms)
        return Event.PROVED

    def _load(self) -> Event:
        assert self._candidate is not None
        kept = StoredModel(self._candidate.ref, self._wanted.digest)
        memory = self._memory.attempting(kept)
        self._store.save(memory)  # without this on disk a model that kills the process would do so for ever
        self._memory, self._attempting, self.disk = memory, kept, None
        with self._timed("loadMs"):
            self._loaded = self._installer.load(self._candidate)
        return Event.LOADED

    def _promote(self) -> None:
        assert self._loaded is not None
        assert self._attempting is not None
        memory = self._memory.promoted(self._attempting)
        back = memory.rollback_candidates[0].ref.sha256 if memory.rollback_candidates else ""
        at_hand = (self._duty.current, self._duty.previous)
        previous = next((each for each in at_hand if each is not None and each.ref.sha256 == back), None)
        self._duty.take_over(self._loaded, previous, self._probation(self._loaded))
        self.timings_ms["installMs"] = (monotonic_ns() - self._wanted.rung) / 1e6
        self._candidate = self._loaded = self._attempting = self.rejected = self.reason = None
        self._remember(memory)
        self._tidy()

    def _condemn(self) -> None:
        assert self.reason is not None
        verdict = Verdict(self.reason.code, self.reason.message)
        if CODES[verdict.code].lasting:
            self._remember(self._memory.quarantined(self._wanted.digest, verdict))
            self._attempting = None
        else:
            self._refusals[self._wanted.digest] = verdict
            self._refusals = dict(list(self._refusals.items())[-_MAX_REFUSALS:])
        self._drop_candidate()
        self._tidy()

    def _retry_later(self) -> None:
        self._drop_candidate()
        self.failures += 1
        settings = self._settings
        delay_s = retry_delay_s(self.failures, random.random(), settings.retry_first_s, settings.retry_cap_s)
        self.retry_at_s = monotonic() + delay_s

    def _settle(self) -> None:
        assert self.ended is not None
        self._remember(self._memory.settled(self.ended[0].ref.sha256))

    def _withdraw(self) -> None:
        assert self.ended is not None
        running, ending = self.ended
        kept = self._memory.find(running.ref.sha256)
        memory = self._memory.withdrawn(running.ref.sha256)
        if kept is not None:
            memory = memory.quarantined(kept.section, Verdict(ending.code, ending.message))
            if self.subject is None or self.subject.digest in ("", kept.section):
                self._turn_down(
                    running.ref.reported(), Reason(ending.code, f"{running.ref}: {ending.message}")
                )
        self._go_back(memory)

    def _roll_back(self) -> None:
        running, back = self._duty.current, self._duty.previous
        if back is None:
            return
        self._duty.take_over(back, None)
        self._drop_candidate()
        self.retry_at_s = None
        reason = Reason("rolled-back", f"a person went back to {back.ref}")
        sections = {self.subject.digest} if self.subject and self.subject.digest else set()
        memory = self._memory
        if running is not None:
            self._turn_down(running.ref.reported(), reason)
            kept = memory.find(running.ref.sha256)
            sections |= {kept.section} if kept else set()
            memory = memory.withdrawn(running.ref.sha256)
        for section in sections:
            memory = memory.quarantined(section, Verdict(reason.code, reason.message))
        self._go_back(memory)

    # -- their parts

    @property
    def _wanted(self) -> DesiredModel:
        assert self.subject is not None
        return self.subject

    def _runs(self, subject: DesiredModel) -> bool:
        active, current = self._memory.active, self._duty.current
        if active is None or current is None or active.ref.sha256 != current.ref.sha256:
            return False
        return active.section == subject.digest

    def _satisfied(self) -> Event:
        self.reason = self.rejected = None
        return Event.SATISFIED_UNPROVEN if self._duty.on_probation else Event.SATISFIED

    def _turn_down(self, words: Mapping[str, str], reason: Reason) -> None:
        self.rejected, self.reason = words, reason

    def _drop_candidate(self) -> None:
        """It is not going to be promoted. The file goes with the next tidying."""
        if self._attempting is not None:
            self._remember(self._memory.abandoned(self._attempting.section))
        self._candidate = self._loaded = self._attempting = None

    def _go_back(self, memory: Memory) -> None:
        """`duty` has gone back already, as far as there was a model at hand."""
        if self._duty.current is not None:
            memory = memory.resumed(self._duty.current.ref.sha256)
        self._remember(memory)
        self.find_previous()
        previous = self._duty.previous
        if self._duty.current is None and previous is not None:
            self._duty.take_over(previous, None)
            self._remember(self._memory.resumed(previous.ref.sha256))
            self.find_previous()
        self._tidy()

    def _restore_one(self, kept: StoredModel) -> Running | Reason:
        """Loaded from disk, or why not. A damaged file is forgotten; what lacks its key may yet come back."""
        try:
            running = self._installer.restore(
                kept, before_load=lambda: self._remember(self._memory.attempting(kept))
            )
        except ModelRefused as error:
            log.warning("kept model %s: %s: %s", kept.ref, error.code, error)
            if CODES[error.code].lasting:
                self._remember(self._memory.lost(kept.ref.sha256).judged(kept.section))
            return Reason(error.code, str(error))
        except ModelUnavailable as error:
            log.warning("kept model %s: %s: %s", kept.ref, error.code, error)
            self._remember(self._memory.abandoned(kept.section))
            return Reason(error.code, str(error))
        if kept.proven:
            self._remember(self._memory.judged(kept.section))
        return running

    def _probation(self, running: Running) -> Probation:
        budget_ms = min(running.manifest.latencyBudgetMs, self.limit_ms)
        return Probation(budget_ms, self._settings.probation_frames, self._settings.probation_errors)

    def _remember(self, memory: Memory) -> None:
        """In memory at once, on disk if the disk lets us: a full one is reported, and no reason to stop."""
        if memory == self._memory and self.disk is None:
            return
        self._memory = memory
        try:
            self._store.save(memory)
            self.disk = None
        except ModelUnavailable as error:
            if self.disk is None:
                log.error("model state cannot be saved: %s: %s", error.code, error)
            self.disk = Reason(error.code, str(error))

    def _tidy(self) -> None:
        self._store.sweep(self._memory, self._candidate.ref.sha256 if self._candidate else "")

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begun = perf_counter()
        try:
            yield
        finally:
            self.timings_ms[name] = (perf_counter() - begun) * 1e3
