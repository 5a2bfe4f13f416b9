"""The decisions of the reconciler, without threads, models or files: events in, states and actions out."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.invoke_mark import Interrupted
from inference.model_section import ModelRef, ModelState
from inference.models import events
from inference.models.errors import CODES, Reason
from inference.models.states import BUSY
from inference.models.status import MAX_HISTORY, DesiredModel, LoadedModel, State
from inference.models.step import Context, step
from inference.models.store import MAX_STARTS, NOTHING_INTERRUPTED, Memory

S = ModelState
FAILED = Reason("engine-errors", "3 frames failed")
WRONG = Reason("wrong-answers", "2 of 10 probes")  # lasting
UNKNOWN = Reason("unknown-key", "signed by a stranger")  # a restart may change it
BUSY_DEVICE = Reason("no-proof", "the device is too busy")
FULL = Reason("disk-full", "no space")


def ref(version: str) -> ModelRef:
    return ModelRef("tiny", version, 1, sha256(version.encode()).hexdigest())


class Machine:
    """Feeds events to `step` and ends its actions at once, as a device does; `faults` end one badly."""

    def __init__(
        self,
        memory: Memory | None = None,
        missing: tuple[str, ...] = (),
        last: Interrupted = NOTHING_INTERRUPTED,
    ) -> None:
        self.state = State()
        self.disk = memory or Memory()
        self.actions: list[events.Action] = []
        self.faults: dict[type[events.Action], Reason] = {}
        self.missing = missing  # versions of stored models whose files are gone
        self.held: type[events.Action] | None = None  # tasks of this type do not end by themselves
        self.version = 0
        self.now_s = 100.0
        self.ended: deque[events.ActionEnded] = deque()
        self.take(events.Opened(self.disk, last=last))

    def take(self, event: events.Event) -> None:
        """Take one event and the ends of the actions that follow from it."""
        pending: deque[events.Event] = deque([event])
        while pending:
            context = Context(self.now_s, f"t{len(self.actions)}", 1.0)
            self.state, actions = step(self.state, pending.popleft(), context)
            for action in actions:
                self.actions.append(action)
                if isinstance(action, events.Task):
                    self.ended.append(self._end(action))
                elif isinstance(action, events.Save | events.Restore):
                    pending.append(self._end(action))
            if not pending and self.ended and type(self.ended[0].action) is not self.held:
                pending.append(self.ended.popleft())

    def _end(self, action: events.Action) -> events.ActionEnded:
        fault = self.faults.get(type(action))
        outcome: events.Outcome = fault
        match action:
            case events.Save(memory) | events.Load(memory=memory) if fault != FULL:
                self.disk = memory
        match action:
            case events.Restore(stored) if stored.ref.version in self.missing:
                outcome = Reason("wrong-size", "the file is gone")
            case events.Restore(stored) if fault is None:
                outcome = LoadedModel(stored.ref)
            case events.Check(section=str(version)) if fault is None:
                outcome = ref(version)
            case events.Prove() if fault is None:
                outcome = {"proofP50Ms": 1.0, "proofP95Ms": 2.0}
            case events.Load() if fault is None:
                assert self.state.candidate is not None
                outcome = LoadedModel(self.state.candidate)
        return events.ActionEnded(action, outcome, 5.0)

    def release(self) -> None:
        """Let the held task end."""
        self.held = None
        self.take(self.ended.popleft())

    def section(self, version: str | None, digest: str | None = None) -> None:
        """The twin names this version; another digest is another section for the same model."""
        self.version += 1
        key = "" if version is None else digest or f"section {version}"
        if self.state.desired and self.state.desired.digest == key:
            return self.take(events.VersionChanged(key, self.version))
        return self.take(
            events.SectionChanged(DesiredModel(version, self.version, key, int(self.now_s * 1e9)))
        )

    def install(self, version: str, digest: str | None = None) -> None:
        self.section(version, digest)
        assert self.state.on_probation
        self.end_probation()
        assert self.state.model is S.ACTIVE

    def end_probation(self, failure: Reason | None = None, version: str = "") -> None:
        serving = self.state.serving
        assert serving is not None
        self.take(events.ProbationEnded(ref(version) if version else serving.ref, failure))

    def restart(self, *, crash: bool = False, cut: bool = False, hang: str = "") -> "Machine":
        """The next process, with what is on disk. The last one stopped in good order, or

        it crashed in an invoke of the serving model, was killed between two frames (`cut`), or an invoke of
        the model of version `hang` did not return.
        """
        if not (crash or cut):
            self.take(events.Stopping())
        invoking = self.state.serving.ref.sha256 if crash and self.state.serving else ""
        hung = ref(hang).sha256 if hang else ""
        return Machine(self.disk, last=Interrupted(invoking, hung, 5.0 if hang else 0.0))

    def count(self, kind: type[events.Action]) -> int:
        return sum(isinstance(action, kind) for action in self.actions)

    @property
    def reply(self) -> object:
        return [action.result for action in self.actions if isinstance(action, events.Reply)][-1]

    @property
    def serving(self) -> str:
        return self.state.serving.ref.version if self.state.serving else ""

    @property
    def previous(self) -> str:
        return self.state.previous.ref.version if self.state.previous else ""

    @property
    def code(self) -> str:
        return self.state.reason.code if self.state.reason else ""

    @property
    def history(self) -> list[str]:
        return [entry.state.value for entry in self.state.history]


@pytest.fixture
def machine() -> Machine:
    """A device that has passed 1.0.0 through probation."""
    started = Machine()
    started.install("1.0.0")
    return started


# -- installing


def test_the_normal_path() -> None:
    """Check, prove, save and load, serve; the twin reports each state and the timings."""
    machine = Machine()
    assert (machine.state.model, machine.reply) == (S.EMPTY, None)
    machine.section("1.0.0")
    kinds = [type(action).__name__ for action in machine.actions]
    assert kinds == ["Reply", "Check", "Prove", "Load", "Serve", "Save", "Sweep"]
    machine.end_probation()
    assert machine.history == ["empty", "checking", "proving", "loading", "probation", "active"]
    assert machine.state.timings_ms == {
        "checkMs": 5.0,
        "proveMs": 5.0,
        "loadMs": 5.0,
        "proofP50Ms": 1.0,
        "proofP95Ms": 2.0,
        "installMs": 0.0,
    }
    assert machine.state.rejected is None


def test_an_attempt_is_saved_with_its_load() -> None:
    """The memory that the shell saves before it loads holds the open attempt."""
    machine = Machine()
    machine.section("1.0.0")
    (load,) = [action for action in machine.actions if isinstance(action, events.Load)]
    assert load.memory.attempts["section 1.0.0"].open
    assert load.memory.active is None


def test_the_serving_model_changes_before_the_disk_is_written(machine: Machine) -> None:
    """Frames do not wait for a save; a rollback that waits for its reply comes before what takes long."""
    machine.install("2.0.0")
    before = len(machine.actions)
    machine.take(events.RollbackRequested())
    kinds = [type(action).__name__ for action in machine.actions[before:]]
    assert kinds[:4] == ["Serve", "Save", "Reply", "Sweep"]


def test_a_refusal_leaves_the_serving_model_alone(machine: Machine) -> None:
    """The twin reports the rejected model beside the serving one."""
    machine.faults[events.Prove] = WRONG
    machine.section("2.0.0")
    assert (machine.state.model, machine.code, machine.serving) == (S.REFUSED, "wrong-answers", "1.0.0")
    assert machine.state.timings_ms["proveMs"] == 5.0


@pytest.mark.parametrize("kind", [events.Check, events.Prove, events.Load])
def test_a_lasting_refusal_outlives_a_restart(kind: type[events.Action]) -> None:
    """The next process does not try the section again; a raised attempt does, since it is another section."""
    machine = Machine()
    machine.faults[kind] = WRONG
    machine.section("1.0.0")
    machine = machine.restart()
    machine.section("1.0.0")
    assert (machine.state.model, machine.code, machine.count(events.Check)) == (S.REFUSED, "wrong-answers", 0)
    machine.section("1.0.0", "attempt 2")
    assert machine.state.model is S.PROBATION


def test_a_refusal_that_a_restart_may_change_is_checked_again_after_it() -> None:
    """Within one process the section is checked once."""
    machine = Machine()
    machine.faults[events.Check] = UNKNOWN
    machine.section("1.0.0")
    machine.section(None)
    machine.section("1.0.0")
    assert (machine.state.model, machine.count(events.Check)) == (S.REFUSED, 1)
    machine = machine.restart()
    machine.section("1.0.0")
    assert machine.state.model is S.PROBATION


def test_the_same_section_under_another_version_is_answered_only(machine: Machine) -> None:
    """A proof in progress goes on and its result answers the newest `$version`."""
    machine.held = events.Prove
    machine.section("2.0.0")
    machine.section("2.0.0")
    assert (machine.state.model, machine.state.desired and machine.state.desired.version) == (S.PROVING, 3)
    machine.release()
    assert (machine.serving, machine.count(events.Prove)) == ("2.0.0", 2)


@pytest.mark.parametrize("held", [events.Check, events.Prove, events.Load])
@pytest.mark.parametrize("outcome", ["ended", "killed"])
def test_a_newer_section_replaces_the_candidate_only(
    machine: Machine, held: type[events.Action], outcome: str
) -> None:
    """The result of the overtaken task is ignored, whatever it is, and the candidate is not blamed."""
    machine.held = held
    if outcome == "killed":
        machine.faults[held] = BUSY_DEVICE
    machine.section("2.0.0")
    machine.faults.clear()
    machine.section("3.0.0")
    machine.release()
    assert (machine.serving, machine.previous) == ("3.0.0", "1.0.0")
    assert not machine.disk.quarantine
    assert not machine.disk.attempts
    assert not any(entry.code for entry in machine.state.history)


def test_a_section_that_changes_back_during_its_proof_is_tried_again_at_once(machine: Machine) -> None:
    """The newer section has killed the child, so its result must not count."""
    machine.held = events.Prove
    machine.faults[events.Prove] = BUSY_DEVICE
    machine.section("2.0.0")
    machine.faults.clear()
    assert machine.state.desired is not None
    machine.take(events.SectionChanged(machine.state.desired))
    machine.release()
    assert (machine.serving, machine.state.failures, machine.code) == ("2.0.0", 0, "")


def test_reload_tries_a_rejected_section_again() -> None:
    """Without a section there is nothing to try."""
    machine = Machine()
    machine.take(events.ReloadRequested())
    assert machine.reply is False
    machine.faults[events.Prove] = WRONG
    machine.section("1.0.0")
    machine.faults.clear()
    machine.take(events.ReloadRequested())
    assert (machine.reply, machine.state.model) == (True, S.PROBATION)
    machine.section(None)
    machine.take(events.ReloadRequested())
    assert machine.reply is False


def test_an_unavailable_model_is_tried_again_with_growing_delays(machine: Machine) -> None:
    """The history holds the first try only; a success forgets the failures."""
    machine.faults[events.Prove] = BUSY_DEVICE
    machine.section("2.0.0")
    delays = []
    for _ in range(3):
        assert machine.state.model is S.UNAVAILABLE
        assert machine.state.retry_at_s is not None
        delays.append(machine.state.retry_at_s - machine.now_s)
        machine.take(events.RetryDue())
    assert delays == [1, 2, 4]
    assert machine.history[-4:] == ["active", "checking", "proving", "unavailable"]
    machine.faults.clear()
    machine.take(events.RetryDue())
    assert (machine.serving, machine.code, machine.state.retry_at_s) == ("2.0.0", "", None)


# -- probation


def test_a_failed_model_is_withdrawn_and_the_previous_one_serves(machine: Machine) -> None:
    """The verdict outlives a restart; the failed model is not tried again."""
    machine.section("2.0.0")
    machine.end_probation(FAILED)
    assert (machine.state.model, machine.code, machine.serving) == (S.WITHDRAWN, "engine-errors", "1.0.0")
    assert machine.state.rejected == ref("2.0.0").reported()
    machine = machine.restart()
    assert machine.serving == "1.0.0"
    machine.section("2.0.0")
    assert (machine.state.model, machine.count(events.Check)) == (S.WITHDRAWN, 0)


def test_without_a_previous_model_no_model_serves() -> None:
    """The first model fails its probation."""
    machine = Machine()
    machine.section("1.0.0")
    machine.end_probation(FAILED)
    assert (machine.state.model, machine.serving, machine.disk.stored) == (S.WITHDRAWN, "", ())
    assert events.Serve(None) in machine.actions


def test_a_probation_goes_on_while_another_model_is_refused(machine: Machine) -> None:
    """The state describes the newest section; the end of the probation is in the history."""
    machine.section("2.0.0")
    machine.faults[events.Check] = UNKNOWN
    machine.section("3.0.0")
    machine.end_probation(FAILED)
    assert (machine.state.model, machine.code, machine.serving) == (S.REFUSED, "unknown-key", "1.0.0")
    last = machine.state.history[-1]
    assert (last.state, last.version, last.code) == (S.WITHDRAWN, "2.0.0", "engine-errors")


@pytest.mark.parametrize("held", [events.Check, events.Prove, events.Load])
@pytest.mark.parametrize("failure", [None, FAILED])
def test_a_probation_may_end_while_another_candidate_is_busy(
    machine: Machine, held: type[events.Action], failure: Reason | None
) -> None:
    """The candidate goes on; the serving model is proven or withdrawn."""
    machine.section("2.0.0")
    machine.held = held
    machine.section("3.0.0")
    busy = machine.state.model
    machine.end_probation(failure)
    assert machine.state.model is busy
    assert machine.serving == ("1.0.0" if failure else "2.0.0")
    machine.release()
    assert (machine.state.model, machine.serving) == (S.PROBATION, "3.0.0")
    assert machine.previous == ("1.0.0" if failure else "2.0.0")
    assert ("section 2.0.0" in machine.disk.quarantine) is (failure is not None)


@pytest.mark.parametrize("failure", [None, FAILED])
def test_a_probation_that_ends_as_its_model_is_replaced_does_not_judge_the_next_one(
    machine: Machine, failure: Reason | None
) -> None:
    """The event may come after the promotion of the next model."""
    machine.section("2.0.0")
    machine.section("3.0.0")
    machine.end_probation(failure, "2.0.0")
    assert (machine.state.model, machine.serving) == (S.PROBATION, "3.0.0")
    assert ("section 2.0.0" in machine.disk.quarantine) is (failure is not None)
    assert machine.previous == "1.0.0"
    machine.end_probation()
    assert machine.state.model is S.ACTIVE


def test_a_model_that_was_replaced_on_probation_is_no_previous_model(machine: Machine) -> None:
    """`previous` is the last model that passed probation, not the last that served."""
    machine.section("2.0.0")
    machine.section("3.0.0")
    assert (machine.serving, machine.previous) == ("3.0.0", "1.0.0")


def test_a_proven_model_that_is_published_again_stays_a_rollback_candidate(machine: Machine) -> None:
    """Its digest was proven, so it serves again if the next model fails."""
    machine.section("2.0.0")
    machine.section("1.0.0", "again")
    machine.section("3.0.0")
    assert machine.previous == "1.0.0"
    machine.end_probation(FAILED)
    assert machine.serving == "1.0.0"


def test_a_withdrawn_model_that_is_published_again_must_be_proven_again(machine: Machine) -> None:
    """It passed probation once, but a person rejected it."""
    machine.install("2.0.0")
    machine.take(events.RollbackRequested())
    machine.section("2.0.0", "again")
    machine.section("3.0.0")
    assert machine.previous == "1.0.0"


# -- going back


def test_rollback_goes_back_and_stays_there(machine: Machine) -> None:
    """The sections of the models that were left are not tried again; a raised attempt is."""
    for version in ("2.0.0", "3.0.0"):
        machine.install(version)
    machine.take(events.RollbackRequested())
    assert machine.reply == ref("2.0.0")
    assert (machine.state.model, machine.code, machine.previous) == (S.WITHDRAWN, "rolled-back", "1.0.0")
    machine.take(events.RollbackRequested())
    assert (machine.reply, machine.serving, machine.previous) == (ref("1.0.0"), "1.0.0", "")
    machine.take(events.RollbackRequested())
    assert machine.reply is None
    machine = machine.restart()
    assert machine.serving == "1.0.0"
    machine.section("3.0.0")
    assert (machine.state.model, machine.serving) == (S.WITHDRAWN, "1.0.0")
    machine.install("3.0.0", "attempt 2")


@pytest.mark.parametrize("held", [events.Check, events.Prove, events.Load])
def test_rollback_drops_the_candidate(machine: Machine, held: type[events.Action]) -> None:
    """The result of the task in progress is ignored, and the section is not tried again."""
    machine.install("2.0.0")
    machine.held = held
    machine.section("3.0.0")
    machine.take(events.RollbackRequested())
    machine.release()
    assert (machine.state.model, machine.serving) == (S.WITHDRAWN, "1.0.0")
    assert set(machine.disk.quarantine) == {"section 2.0.0", "section 3.0.0"}
    assert not machine.disk.attempts


def test_rollback_ends_the_retries(machine: Machine) -> None:
    """A section that a person rejected is not tried again by a timer."""
    machine.install("2.0.0")
    machine.faults[events.Prove] = BUSY_DEVICE
    machine.section("3.0.0")
    machine.take(events.RollbackRequested())
    assert (machine.state.retry_at_s, machine.serving) == (None, "1.0.0")


def test_rollback_without_a_previous_model_lets_the_task_go_on(machine: Machine) -> None:
    """The call kills the child, so the candidate is tried again."""
    machine.faults[events.Prove] = BUSY_DEVICE
    machine.held = events.Prove
    machine.section("2.0.0")
    machine.take(events.RollbackRequested())
    machine.release()
    assert (machine.reply, machine.state.model) == (None, S.UNAVAILABLE)


def test_the_twin_may_name_an_older_model(machine: Machine) -> None:
    """It is installed like any other, and the newer one is the previous one then."""
    machine.install("2.0.0")
    machine.install("1.0.0")
    assert (machine.serving, machine.previous) == ("1.0.0", "2.0.0")


# -- the section


@pytest.mark.parametrize("serving", ["", "1.0.0"])
def test_an_absent_section_keeps_the_serving_model(serving: str) -> None:
    """A manifest that is deployed again names no model."""
    machine = Machine()
    if serving:
        machine.install(serving)
    machine.section(None)
    assert (machine.state.model, machine.serving, machine.code) == (S.UNASSIGNED, serving, "")
    assert machine.state.reported()["model"]["ac"] == 200


@pytest.mark.parametrize(("proven", "state"), [(True, S.ACTIVE), (False, S.PROBATION)])
def test_a_section_that_comes_back_finds_its_model_serving(proven: bool, state: ModelState) -> None:
    """Nothing is checked or loaded again."""
    machine = Machine()
    machine.section("1.0.0")
    if proven:
        machine.end_probation()
    machine.section(None)
    machine.section("1.0.0")
    assert (machine.state.model, machine.count(events.Check)) == (state, 1)


def test_another_section_for_the_serving_model_is_checked_only(machine: Machine) -> None:
    """The new signature counts; nothing is proved or loaded."""
    machine.section("1.0.0", "another key")
    assert (machine.state.model, machine.count(events.Check), machine.count(events.Load)) == (S.ACTIVE, 2, 1)
    assert machine.disk.active is not None
    assert machine.disk.active.section == "another key"


@pytest.mark.parametrize("section", [5, "x", [], {"name": {"a": []}}, {"name": "\n"}, True])
def test_an_unreadable_section_is_described_as_far_as_possible(section: object) -> None:
    """Nothing in it can break a report."""
    assert DesiredModel(section, 1, "x").describe() == {}
    assert DesiredModel({"name": "tiny", "version": 5}, 1, "x").describe() == {"name": "tiny"}


# -- starts, crashes and the disk


def test_a_start_serves_the_last_model_and_then_prepares_the_one_before(machine: Machine) -> None:
    """start() gets its reply before the previous model is loaded."""
    machine.install("2.0.0")
    machine = machine.restart()
    assert (machine.state.model, machine.serving, machine.previous) == (S.ACTIVE, "2.0.0", "1.0.0")
    kinds = [type(action).__name__ for action in machine.actions if not isinstance(action, events.Save)]
    assert kinds == ["Restore", "Serve", "Reply", "Restore", "SetPrevious"]


def test_a_model_that_cannot_be_loaded_from_disk_is_replaced_by_the_next_one(machine: Machine) -> None:
    """A damaged file is forgotten, a missing key may come back."""
    machine.install("2.0.0")
    machine.install("3.0.0")
    machine = Machine(machine.disk, missing=("3.0.0",))
    assert (machine.state.model, machine.serving, machine.previous) == (S.ACTIVE, "2.0.0", "1.0.0")
    assert [each.ref.version for each in machine.disk.stored] == ["2.0.0", "1.0.0"]


def test_without_any_file_no_model_serves(machine: Machine) -> None:
    """The reason is reported, and start() gets its reply."""
    machine = Machine(machine.disk, missing=("1.0.0",))
    assert (machine.state.model, machine.serving, machine.code) == (S.EMPTY, "", "wrong-size")
    assert machine.reply is None


def test_a_restart_on_probation_is_no_crash() -> None:
    """The probation begins again after each orderly restart."""
    machine = Machine()
    machine.section("1.0.0")
    for _ in range(MAX_STARTS + 1):
        machine = machine.restart()
        assert (machine.state.model, machine.serving) == (S.PROBATION, "1.0.0")
        machine.section("1.0.0")
        assert machine.state.model is S.PROBATION
    machine.end_probation()
    assert machine.state.model is S.ACTIVE


def test_two_crashes_withdraw_a_model(machine: Machine) -> None:
    """After the first the previous model serves first, and the section gets its second try."""
    machine.section("2.0.0")
    machine = machine.restart(crash=True)
    assert machine.serving == "1.0.0"
    machine.section("2.0.0")
    assert machine.serving == "2.0.0"
    machine = machine.restart(crash=True)
    assert (machine.state.model, machine.code, machine.serving) == (S.WITHDRAWN, "crashed", "1.0.0")
    machine.section("2.0.0")
    assert (machine.state.model, machine.count(events.Check)) == (S.WITHDRAWN, 0)


def test_a_kill_between_two_frames_counts_against_no_model(machine: Machine) -> None:
    """Power cuts on probation, and kills without an invoke in progress."""
    machine.section("2.0.0")
    for _ in range(MAX_STARTS + 1):
        machine = machine.restart(cut=True)
        assert (machine.state.model, machine.serving) == (S.PROBATION, "2.0.0")
        machine.section("2.0.0")
    assert not machine.disk.attempts


def test_a_kill_during_the_load_counts(machine: Machine) -> None:
    """Two of them withdraw the model, also if one came in an invoke."""
    machine.held = events.Load
    machine.section("2.0.0")
    machine = machine.restart(cut=True)
    assert machine.serving == "1.0.0"
    machine.section("2.0.0")
    machine = machine.restart(crash=True)
    assert (machine.state.model, machine.code, machine.serving) == (S.WITHDRAWN, "crashed", "1.0.0")


def test_a_crash_in_an_invoke_of_a_proven_model_counts_against_no_model(machine: Machine) -> None:
    """What kills the process may be anything; the model before it does not serve instead."""
    machine.install("2.0.0")
    for _ in range(MAX_STARTS + 1):
        machine = machine.restart(crash=True)
        assert (machine.state.model, machine.serving) == (S.ACTIVE, "2.0.0")


@pytest.mark.parametrize("proven", [False, True])
def test_a_model_that_hung_on_a_frame_is_withdrawn_at_the_next_start(machine: Machine, proven: bool) -> None:
    """Also a proven one; the previous model serves, and the same section is not tried again."""
    machine.section("2.0.0")
    if proven:
        machine.end_probation()
    machine = machine.restart(hang="2.0.0")
    assert (machine.state.model, machine.code, machine.serving) == (S.WITHDRAWN, "hangs-on-frame", "1.0.0")
    assert machine.disk.quarantine["section 2.0.0"].code == "hangs-on-frame"
    machine.section("2.0.0")
    assert (machine.state.model, machine.count(events.Check)) == (S.WITHDRAWN, 0)
    machine.install("3.0.0")
    assert (machine.serving, machine.previous) == ("3.0.0", "1.0.0")


def test_a_good_model_that_is_published_while_an_invoke_hangs_becomes_active(machine: Machine) -> None:
    """The verdict is for the model that hung, not for the one that serves since."""
    machine.section("2.0.0")
    machine.section("3.0.0")
    machine = machine.restart(hang="2.0.0")
    assert machine.serving == "3.0.0"
    machine.section("3.0.0")
    machine.end_probation()
    assert machine.state.model is S.ACTIVE


def test_a_load_needs_a_saved_attempt(machine: Machine) -> None:
    """If the attempt cannot be saved, the load fails; the model is tried again."""
    machine.faults = {events.Load: FULL, events.Save: FULL}
    machine.section("2.0.0")
    assert (machine.state.model, machine.code, machine.serving) == (S.UNAVAILABLE, "disk-full", "1.0.0")
    assert machine.state.disk == FULL
    machine.faults.clear()
    machine.take(events.RetryDue())
    assert machine.serving == "2.0.0"
    assert machine.state.reported()["modelStatus"]["error"] is None


def test_a_full_disk_does_not_stop_a_rollback(machine: Machine) -> None:
    """The twin reports the disk, and the memory is saved as soon as it can be."""
    machine.install("2.0.0")
    machine.faults[events.Save] = FULL
    machine.take(events.RollbackRequested())
    assert (machine.serving, machine.state.disk) == ("1.0.0", FULL)
    machine.faults.clear()
    machine.section(None)
    assert machine.state.reported()["modelStatus"]["error"] is None
    assert machine.disk == machine.state.memory


def test_a_newer_state_on_disk_is_reported() -> None:
    """The reason stays until the twin names a model."""
    state, _ = step(State(), events.Opened(Memory(), "schema 7"), Context())
    assert (state.model, state.reason) == (S.EMPTY, Reason("state-too-new", "schema 7"))


# -- any sequence of events

OPERATIONS: list[Callable[[Machine], object]] = [
    lambda machine: machine.section("1.0.0"),
    lambda machine: machine.section("2.0.0"),
    lambda machine: machine.section("3.0.0", "another key"),
    lambda machine: machine.section(None),
    lambda machine: machine.take(events.RollbackRequested()),
    lambda machine: machine.take(events.ReloadRequested()),
    lambda machine: machine.end_probation() if machine.state.on_probation else None,
    lambda machine: machine.end_probation(FAILED) if machine.state.on_probation else None,
    lambda machine: (
        machine.take(events.ProbationEnded(ref("2.0.0"), FAILED)) if not machine.serving else None
    ),
    lambda machine: machine.take(events.RetryDue()) if machine.state.retry_at_s else None,
    lambda machine: setattr(machine, "held", events.Prove),
    lambda machine: setattr(machine, "held", events.Load),
    lambda machine: machine.release() if machine.ended else setattr(machine, "held", None),
    lambda machine: machine.faults.update({events.Prove: WRONG}),
    lambda machine: machine.faults.update({events.Load: BUSY_DEVICE}),
    lambda machine: machine.faults.update({events.Save: FULL}),
    lambda machine: machine.faults.clear(),
    lambda machine: machine.__dict__.update(machine.restart(crash=True).__dict__),
    lambda machine: machine.__dict__.update(machine.restart(cut=True).__dict__),
    lambda machine: machine.__dict__.update(machine.restart(hang=machine.serving).__dict__),
    lambda machine: machine.__dict__.update(machine.restart().__dict__),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(OPERATIONS), max_size=25))
def test_no_sequence_of_events_breaks_a_rule(operations: list[Callable[[Machine], object]]) -> None:
    """State, memory and actions agree, and nothing is loaded that was not checked and proved."""
    machine = Machine()
    for operation in operations:
        operation(machine)
        state, memory = machine.state, machine.state.memory
        if state.serving is not None:
            assert memory.active is not None
            assert memory.active.ref.sha256 == state.serving.ref.sha256
            assert state.previous is None or state.previous.ref.sha256 != state.serving.ref.sha256
        assert state.reason is None or state.reason.code in CODES
        assert (state.retry_at_s is not None) <= (state.model is S.UNAVAILABLE)
        assert len(state.history) <= MAX_HISTORY
        assert not state.restoring
        assert state.model in BUSY or state.candidate is None
        if events.Save not in machine.faults:
            assert state.disk or machine.disk == memory
        state.reported()
    tasks = [action for action in machine.actions if isinstance(action, events.Task)]
    for before, action in zip([None, *tasks], tasks, strict=False):
        if isinstance(action, events.Load):
            assert isinstance(before, events.Prove)
            assert any(attempt.open for attempt in action.memory.attempts.values())
        elif isinstance(action, events.Prove):
            assert isinstance(before, events.Check)


def test_a_replaced_state_is_a_new_value() -> None:
    """A step does not change the state that it got."""
    before = State(S.EMPTY, memory=Memory())
    copy = replace(before)
    step(before, events.SectionChanged(DesiredModel("1.0.0", 1, "x")), Context())
    assert before == copy
