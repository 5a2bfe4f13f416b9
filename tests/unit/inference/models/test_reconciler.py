"""A model's walk on one device, with real models, real signatures and real child processes."""

import base64
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.model_section import ModelState, section_for
from inference.models.reconciler import Reconciler, ReconcilerSettings, Running
from inference.models.store import ModelStore
from inference.models.verification import Keyring
from tests.models import LABELS, quadrant, tiny_artefact, tiny_tflite
from tests.unit.inference.device import BLIND, PASS, PROVING, Device, Publisher, eventually

OURS, THEIRS = Publisher(1), Publisher(2)
S = ModelState
#: A proof that does not come to an end by itself.
ENDLESS = ReconcilerSettings(proof_command=("/bin/sh", "-c", "exec sleep 60"), proof_timeout_s=60)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with Device(tmp_path) as started:
        yield started


@pytest.fixture
def proving(tmp_path: Path) -> Iterator[Device]:
    """A device that really proves."""
    with Device(tmp_path, settings=PROVING) as started:
        yield started


def proofs(device: Device) -> int:
    """How many proofs the twin was told of."""
    states = [patch["modelStatus"]["state"] for patch in device.patches]
    return sum(state == "proving" for state, _ in itertools.groupby(states))


# -- the straight way


def test_the_first_model_is_installed_and_answers(proving: Device) -> None:
    """From an empty proving to a model that has passed probation, told in the Plug and Play shape."""
    assert proving.reconciler.current is None
    proving.section(OURS.section("1.0.0"))
    status = proving.until(S.PROBATION)
    assert proving.classify(2) == LABELS[2]
    assert proving.reported["model"]["ac"] == 202
    proving.answer(5)
    status = proving.until(S.ACTIVE)
    value = {"name": "tiny", "version": "1.0.0", "sha256": proving.running.ref.sha256}
    assert proving.reported["model"] == {"value": value, "ac": 200, "av": 1, "ad": "it answers the frames"}
    assert status["active"] == value
    assert "error" not in status
    assert "candidate" not in status
    states = [each["state"] for each in status["history"]]
    assert states == ["empty", "checking", "proving", "loading", "probation", "active"]
    assert status["timings"]["installMs"] > status["timings"]["proveMs"] > 0


def test_the_old_model_answers_until_the_new_one_does(proving: Device) -> None:
    """Promotion is one assignment: before it the old model answers, and a frame in flight ends with it."""
    proving.install(OURS.section("1.0.0"))
    held = proving.running
    seen: set[str] = set()
    proving.section(OURS.section("2.0.0"))
    while "2.0.0" not in seen:
        seen.add(proving.active())
        time.sleep(0.001)
    assert seen == {"1.0.0", "2.0.0"}
    assert held.engine.infer(quadrant(0)).argmax() == 0
    status = proving.until(S.PROBATION)
    assert status["previous"]["version"] == "1.0.0"


def test_swaps_under_load_lose_no_frame(proving: Device) -> None:
    """While models change, every frame finds one to answer it."""
    proving.install(OURS.section("0"))
    stop, answered, unanswered = threading.Event(), list[str](), list[Running | None]()

    def frames() -> None:
        while not stop.is_set():
            running = proving.reconciler.current
            if running is None or running.engine.infer(quadrant(1)).argmax() != 1:
                unanswered.append(running)
            else:
                answered.append(running.ref.version)
                proving.reconciler.answered(running, 0.1)
            stop.wait(0.0005)

    worker = threading.Thread(target=frames)
    worker.start()
    for version in ("1", "2", "3"):
        proving.section(OURS.section(version))
        proving.until(S.ACTIVE)
    stop.set()
    worker.join()
    assert not unanswered
    assert list(dict.fromkeys(answered)) == ["0", "1", "2", "3"]


# -- what is refused. Every fault is correctly signed, so that the check that should catch it does.


def resized() -> dict[str, Any]:
    data = tiny_artefact()
    return section_for(OURS.ref(data, size=len(data) - 1), data)


def flipped() -> dict[str, Any]:
    data = tiny_artefact()
    return section_for(OURS.ref(data), data[:100] + bytes([data[100] ^ 1]) + data[101:])


def renamed() -> dict[str, Any]:
    return OURS.section_of(tiny_artefact(version="1.0.0"), version="1.0.1")


def unsigned() -> dict[str, Any]:
    data = tiny_artefact()
    return section_for(replace(OURS.ref(data), signature="", key_id=""), data)


def addressed() -> dict[str, Any]:
    return {**OURS.section(), "source": {"uri": "https://127.0.0.1:9/model.tflite"}}


def oversized() -> dict[str, Any]:
    data = tiny_artefact()
    return section_for(OURS.ref(data, size=2**40), data)


def without(part: str) -> dict[str, Any]:
    section = OURS.section()
    del section["source"]["inline"]["parts"][part]
    return section


def garbled() -> dict[str, Any]:
    section = OURS.section()
    section["source"]["inline"]["parts"] = {"00": base64.b64encode(b"no zlib stream").decode()}
    return section


FAULTS: list[tuple[Callable[[], object], str]] = [
    (lambda: 5, "bad-section"),
    (dict, "bad-section"),
    (lambda: without("00"), "bad-section"),
    (garbled, "bad-section"),
    (addressed, "source-forbidden"),
    (oversized, "too-large"),
    (resized, "wrong-size"),
    (unsigned, "unsigned"),
    (lambda: THEIRS.section(), "unknown-key"),
    (lambda: {**OURS.section(), "version": "1.0.1"}, "bad-signature"),
    (flipped, "wrong-digest"),
    (lambda: OURS.section_of(b"no artefact"), "bad-artefact"),
    (lambda: OURS.section_of(tiny_artefact()[:-30]), "bad-artefact"),
    (renamed, "wrong-name"),
    (lambda: OURS.section(expected=LABELS[::-1]), "wrong-answers"),
    (lambda: OURS.section(labels=(*LABELS, "north")), "does-not-load"),
    (lambda: OURS.section(minimum_runtime={"litert": "99"}), "runtime-too-old"),
    (lambda: OURS.section(tflite=tiny_tflite()[:1500]), "does-not-load"),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS)
def test_each_fault_is_refused_by_its_own_check(
    proving: Device, fault: Callable[[], object], code: str
) -> None:
    """The twin says which check refused what, and nothing runs."""
    proving.section(fault())
    status = proving.until(S.REFUSED)
    assert status["error"]["code"] == code
    assert proving.reported["model"]["ac"] == 400
    assert proving.reported["model"]["ad"] == status["error"]["message"]
    assert "value" not in proving.reported["model"]
    assert proving.reconciler.current is None
    assert not list(proving.folder.glob("models/*")), "a refused artefact is not kept"


def test_a_refused_model_leaves_the_running_one_alone(proving: Device) -> None:
    """One bad model after the other: the good one answers, and the twin names both."""
    proving.install(OURS.section("1.0.0"))
    for section in (OURS.section("1.1.0", tflite=tiny_tflite()[:900]), THEIRS.section("1.2.0")):
        proving.section(section)
        status = proving.until(S.REFUSED)
        assert status["active"]["version"] == "1.0.0"
        assert status["candidate"]["version"] == section["version"]
        assert proving.classify(3) == LABELS[3]


def test_a_model_that_kills_the_runtime_kills_only_its_proof(tmp_path: Path) -> None:
    """On the older runtime half a flatbuffer is a segmentation fault; the module lives to tell."""
    with Device(tmp_path, settings=PROVING, runtime="tflite_runtime") as device:
        device.install(OURS.section("1.0.0"))
        device.section(OURS.section("2.0.0", tflite=tiny_tflite()[: len(tiny_tflite()) // 2]))
        assert device.until(S.REFUSED)["error"]["code"] == "crashes-runtime"
        assert device.active() == "1.0.0"


def test_a_refusal_is_answered_again_but_not_tried_again(proving: Device) -> None:
    """The same section under a new $version gets its answer at once, without a second proof."""
    wrong = OURS.section(expected=LABELS[::-1])
    proving.section(wrong)
    proving.until(S.REFUSED)
    proving.section(dict(reversed(wrong.items())))
    proving.until(S.REFUSED)
    assert proving.reported["model"]["av"] == 2
    assert proofs(proving) == 1


def test_a_refusal_outlives_a_restart(tmp_path: Path) -> None:
    """The quarantine is durable: the next process does not even try; a raised attempt does."""
    with Device(tmp_path, settings=PROVING) as device:
        device.section(OURS.section(expected=LABELS[::-1]))
        device.until(S.REFUSED)
    with Device(tmp_path, settings=PROVING) as device:
        device.section(OURS.section(expected=LABELS[::-1]))
        assert device.until(S.REFUSED)["error"]["code"] == "wrong-answers"
        assert proofs(device) == 0
        device.section(OURS.section(expected=LABELS[::-1], attempt=2))
        device.until(S.REFUSED)
        assert proofs(device) == 1


def test_reload_tries_a_refused_section_again(proving: Device) -> None:
    """A person may ask for another try; without a section there is nothing to try."""
    assert proving.reconciler.reload() is False
    proving.section(OURS.section(expected=LABELS[::-1]))
    proving.until(S.REFUSED)
    assert proving.reconciler.reload() is True
    eventually(lambda: proofs(proving) == 2)
    proving.until(S.REFUSED)


def test_what_a_restart_may_mend_is_judged_again(tmp_path: Path) -> None:
    """A model refused for an unknown key runs once the key is there: keys are the device's own."""
    with Device(tmp_path) as device:
        device.section(THEIRS.section())
        device.until(S.REFUSED)
    with Device(tmp_path, THEIRS.keyring) as device:
        device.section(THEIRS.section())
        device.until(S.PROBATION)


def test_a_device_without_keys_says_so(tmp_path: Path) -> None:
    """The literal of a variable that nobody replaced is named in the twin."""
    with Device(tmp_path, Keyring.from_environment("$MODEL_TRUSTED_KEYS", required=True)) as device:
        device.section(OURS.section())
        assert device.until(S.REFUSED)["error"]["code"] == "keys-literal"


# -- probation


def test_three_exceptions_withdraw_a_model(device: Device) -> None:
    """Frames on which it throws are answered by the model before it; after the third it is gone for good."""
    good = device.install(OURS.section("1.0.0"))
    wrong = OURS.section("2.0.0")
    device.section(wrong)
    device.until(S.PROBATION)
    bad = device.running
    for _ in range(3):
        assert device.reconciler.current is bad
        assert device.reconciler.failed(bad, RuntimeError("no")) is good
    assert device.reconciler.current is good
    status = device.until(S.WITHDRAWN)
    assert status["error"]["code"] == "engine-errors"
    assert status["candidate"]["version"] == "2.0.0"
    assert status["active"]["version"] == "1.0.0"
    device.section({**wrong})
    device.until(S.WITHDRAWN)
    assert proofs(device) == 2


def test_a_slow_model_is_withdrawn(device: Device) -> None:
    """p95 of invoke over the model's own budget ends probation badly."""
    device.install(OURS.section("1.0.0"))
    device.section(OURS.section("2.0.0", latency_budget_ms=10))
    device.until(S.PROBATION)
    device.answer(1, invoke_ms=11)
    assert device.until(S.WITHDRAWN)["error"]["code"] == "too-slow"
    assert device.active() == "1.0.0"


def test_the_operators_budget_holds_too(device: Device) -> None:
    """The tighter of the two budgets decides."""
    device.reconciler.limit_latency(5)
    device.section(OURS.section("1.0.0", latency_budget_ms=10))
    device.until(S.PROBATION)
    device.answer(1, invoke_ms=7)
    assert device.until(S.WITHDRAWN)["error"]["code"] == "too-slow"


def test_without_a_model_before_it_nobody_answers(device: Device) -> None:
    """The first model fails probation: there is none to go back to, and the twin says so."""
    device.section(OURS.section("1.0.0"))
    device.until(S.PROBATION)
    running = device.running
    for _ in range(3):
        assert device.reconciler.failed(running, RuntimeError("no")) is None
    status = device.until(S.WITHDRAWN)
    assert device.reconciler.current is None
    assert "active" not in status


def test_a_withdrawal_outlives_a_restart(tmp_path: Path) -> None:
    """What failed probation is not tried by the next process; what was good is."""
    with Device(tmp_path) as device:
        device.install(OURS.section("1.0.0"))
        device.section(OURS.section("2.0.0"))
        device.until(S.PROBATION)
        for _ in range(3):
            device.reconciler.failed(device.running, RuntimeError("no"))
        device.until(S.WITHDRAWN)
    with Device(tmp_path) as device:
        assert device.active() == "1.0.0"
        device.section(OURS.section("2.0.0"))
        assert device.until(S.WITHDRAWN)["error"]["code"] == "engine-errors"


def test_errors_after_probation_are_answered_by_the_model_before(device: Device) -> None:
    """A proven model is not withdrawn, but the frame still gets its answer."""
    first = device.install(OURS.section("1.0.0"))
    second = device.install(OURS.section("2.0.0"))
    for _ in range(5):
        assert device.reconciler.failed(second, RuntimeError("no")) is first
    assert device.reconciler.current is second


def test_a_model_on_probation_is_watched_while_another_is_refused(device: Device) -> None:
    """The twin tells of the newest wish; the older one's probation still ends as it ends."""
    device.install(OURS.section("1.0.0"))
    device.section(OURS.section("2.0.0"))
    device.until(S.PROBATION)
    device.section(THEIRS.section("3.0.0"))
    device.until(S.REFUSED)
    for _ in range(3):
        device.reconciler.failed(device.running, RuntimeError("no"))
    status = device.wait(lambda twin: twin["modelStatus"]["active"]["version"] == "1.0.0")
    assert status["state"] == "refused"
    assert status["error"]["code"] == "unknown-key"
    assert {"state": "withdrawn", "version": "2.0.0", "code": "engine-errors"}.items() <= status["history"][
        -1
    ].items()


def test_a_probation_may_end_while_another_model_is_proved(tmp_path: Path) -> None:
    """It fails on the frame path at once; its verdict is remembered, and the candidate's walk goes on."""
    flag = tmp_path / "hang"
    wait = f"while test -e '{flag}'; do sleep 0.01; done"
    settings = replace(ENDLESS, probation_frames=5, proof_command=unless(flag, wait))
    with Device(tmp_path, settings=settings) as device:
        device.install(OURS.section("1.0.0"))
        device.section(OURS.section("2.0.0"))
        device.until(S.PROBATION)
        flag.touch()
        device.section(OURS.section("3.0.0"))
        device.until(S.PROVING)
        for _ in range(3):
            device.reconciler.failed(device.running, RuntimeError("no"))
        assert device.active() == "1.0.0"
        flag.unlink()
        device.until(S.PROBATION)
        device.answer(5)
        assert device.until(S.ACTIVE)["previous"]["version"] == "1.0.0"
        device.section(OURS.section("2.0.0"))
        assert device.until(S.WITHDRAWN)["error"]["code"] == "engine-errors"
    with Device(tmp_path) as device:
        assert device.active() == "3.0.0"


def test_a_model_replaced_on_probation_is_no_way_back(device: Device) -> None:
    """`previous` is the last model that finished probation, not the last that ran."""
    device.install(OURS.section("1.0.0"))
    for version in ("2.0.0", "3.0.0"):
        device.section(OURS.section(version))
        device.until(S.PROBATION)
    assert device.active() == "3.0.0"
    assert device.until(S.PROBATION)["previous"]["version"] == "1.0.0"


# -- going back


def test_rollback_goes_back_and_stays_there(tmp_path: Path) -> None:
    """One call, one assignment; the section that was turned down is not tried again, restart or not."""
    with Device(tmp_path) as device:
        for version in ("1.0.0", "2.0.0", "3.0.0"):
            device.install(OURS.section(version))
        ref = device.reconciler.rollback()
        assert ref is not None
        assert ref.version == device.active() == "2.0.0"
        status = device.until(S.WITHDRAWN)
        assert status["error"]["code"] == "rolled-back"
        assert status["previous"]["version"] == "1.0.0"
        device.reconciler.rollback()
        assert device.active() == "1.0.0"
        assert device.reconciler.rollback() is None
    with Device(tmp_path) as device:
        assert device.active() == "1.0.0"
        device.section(OURS.section("3.0.0"))
        device.until(S.WITHDRAWN)
        device.install(OURS.section("3.0.0", attempt=2))
        assert device.active() == "3.0.0"


def test_rollback_without_a_model_before_is_nothing(device: Device) -> None:
    """There is nobody to go back to, and what runs keeps running."""
    assert device.reconciler.rollback() is None
    device.install(OURS.section("1.0.0"))
    assert device.reconciler.rollback() is None
    assert device.active() == "1.0.0"


def test_rollback_ends_a_proof_under_way(tmp_path: Path) -> None:
    """A person who wants to go back does not wait for a candidate, and does not get it either."""
    with Device(tmp_path) as device:
        device.install(OURS.section("1.0.0"))
        device.install(OURS.section("2.0.0"))
    with Device(tmp_path, settings=ENDLESS) as device:
        device.section(OURS.section("3.0.0"))
        device.until(S.PROVING)
        ref = device.reconciler.rollback()
        assert ref is not None
        assert ref.version == "1.0.0"
        assert device.until(S.WITHDRAWN)["error"]["code"] == "rolled-back"


def test_the_twin_is_the_authority(device: Device) -> None:
    """An older signed version that the twin names is installed like any other."""
    device.install(OURS.section("2.0.0"))
    device.install(OURS.section("1.0.0"))
    assert device.active() == "1.0.0"


def test_going_back_needs_no_download(device: Device) -> None:
    """One of the last three is taken from disk, though its source is out of reach."""
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        device.install(OURS.section(version))
    elsewhere = {"source": {"uri": "https://127.0.0.1:9/gone"}}
    device.install({**OURS.section("1.0.0"), **elsewhere})
    assert device.active() == "1.0.0"
    device.section({**OURS.section("4.0.0"), **elsewhere})
    assert device.until(S.REFUSED)["error"]["code"] == "source-forbidden"
    assert len(list(device.folder.glob("models/*"))) == 3


# -- the twin's ways


@pytest.mark.parametrize("before", [True, False])
def test_an_absent_section_keeps_what_runs(device: Device, before: bool) -> None:
    """A manifest that is applied again names no model: the device goes on and reports `unassigned`."""
    if before:
        device.install(OURS.section("1.0.0"))
    device.section(None)
    status = device.until(S.UNASSIGNED)
    assert device.active() == ("1.0.0" if before else "")
    assert "error" not in status
    assert device.reported["model"]["ac"] == 200


def test_a_section_that_comes_back_finds_its_model_running(device: Device) -> None:
    """Nothing is proved or loaded again for what runs already."""
    running = device.install(OURS.section("1.0.0"))
    device.section(None)
    device.until(S.UNASSIGNED)
    device.section(OURS.section("1.0.0"))
    device.until(S.ACTIVE)
    assert device.reconciler.current is running
    assert proofs(device) == 1


def test_another_section_for_the_running_model_changes_nothing(tmp_path: Path) -> None:
    """The same model under a new key is checked, not loaded; the new signature counts at restart."""
    both = Keyring.from_environment(f"{OURS.trusted},{THEIRS.trusted}", required=True)
    with Device(tmp_path, both) as device:
        running = device.install(OURS.section("1.0.0"))
        device.section(THEIRS.section("1.0.0"))
        device.until(S.ACTIVE)
        assert device.reconciler.current is running
    with Device(tmp_path, THEIRS.keyring) as device:
        assert device.active() == "1.0.0"
        device.section(THEIRS.section("1.0.0"))
        device.until(S.ACTIVE)
        assert proofs(device) == 0


def test_fifty_quick_changes_end_at_the_last(proving: Device) -> None:
    """Only the newest wish counts, and most of those before it are never tried."""
    proving.install(OURS.section("0"))
    for section in [OURS.section(str(number)) for number in range(1, 51)]:  # signing takes time: all before
        proving.section(section)
    proving.until(S.PROBATION)
    assert proving.active() == "50"
    assert proofs(proving) < 25


def test_a_newer_wish_replaces_the_candidate_only(tmp_path: Path) -> None:
    """A proof under way is dropped for the newer wish, at once and without blame; what runs keeps running."""
    flag = tmp_path / "hang"
    hang = f"touch '{tmp_path}/begun' && exec sleep 60"
    settings = replace(ENDLESS, probation_frames=5, proof_command=unless(flag, hang))
    with Device(tmp_path, settings=settings) as device:
        device.install(OURS.section("1.0.0"))
        flag.touch()
        device.section(OURS.section("2.0.0"))
        eventually((tmp_path / "begun").exists)
        assert device.active() == "1.0.0"
        flag.unlink()
        device.install(OURS.section("3.0.0"))
        assert device.active() == "3.0.0"
        assert not [each for each in device.reported["modelStatus"]["history"] if "code" in each]


def test_the_same_wish_again_disturbs_nothing(tmp_path: Path) -> None:
    """The doorbell rings for every patch: a proof under way goes on, and answers the newest one."""
    flag, begun = tmp_path / "hold", tmp_path / "begun"
    wait = f"while test -e '{flag}'; do sleep 0.01; done"
    settings = replace(ENDLESS, proof_command=("/bin/sh", "-c", f"echo >> '{begun}'; {wait}; {PASS}"))
    with Device(tmp_path, settings=settings) as device:
        flag.touch()
        for _ in range(3):
            device.section(OURS.section("1.0.0"))
            eventually(begun.exists)
        flag.unlink()
        device.until(S.PROBATION)
        assert begun.read_text() == "\n"
        assert device.reported["model"]["av"] == 3


def unless(flag: Path, command: str) -> tuple[str, ...]:
    """A blind proof that runs `command` instead while `flag` is there."""
    return ("/bin/sh", "-c", f"test -e '{flag}' && {command}; {PASS}")


@pytest.mark.parametrize(
    "section", [5, "x", [], [None], {"name": {"a": []}}, {"source": {"inline": 1}}, True]
)
def test_a_bad_twin_never_ends_the_process(device: Device, section: object) -> None:
    """Whatever the twin holds, the next good section is installed."""
    device.section(section)
    device.until(S.REFUSED)
    device.section(OURS.section())
    device.until(S.PROBATION)


# -- the device's own troubles


def test_what_is_unavailable_is_tried_again(tmp_path: Path) -> None:
    """A proof that could not run is no verdict: it is retried until it can."""
    flag = tmp_path / "broken"
    flag.touch()
    settings = replace(BLIND, retry_first_s=0.05, proof_command=unless(flag, "exit 7"))
    with Device(tmp_path, settings=settings) as device:
        device.section(OURS.section())
        status = device.until(S.UNAVAILABLE)
        assert status["error"]["code"] == "no-proof"
        assert device.reported["model"]["ac"] == 503
        flag.unlink()
        assert "error" not in device.until(S.PROBATION)


def test_going_back_ends_the_retries(tmp_path: Path) -> None:
    """What a person turned down is not tried again by a clock that still runs."""
    flag = tmp_path / "broken"
    settings = replace(BLIND, retry_first_s=0.2, proof_command=unless(flag, "exit 7"))
    with Device(tmp_path, settings=settings) as device:
        device.install(OURS.section("1.0.0"))
        device.install(OURS.section("2.0.0"))
        flag.touch()
        device.section(OURS.section("3.0.0"))
        device.until(S.UNAVAILABLE)
        device.reconciler.rollback()
        flag.unlink()
        time.sleep(0.4)
        assert device.until(S.WITHDRAWN)["active"]["version"] == "1.0.0"
        device.install(OURS.section("4.0.0"))


def test_a_disk_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """No attempt could be written down, so nothing is loaded; when the disk is back it goes on."""
    (tmp_path / "data").write_text("a file where the folder should be")
    settings = replace(BLIND, retry_first_s=0.05)
    with Device(tmp_path / "data", settings=settings) as device:
        device.section(OURS.section())
        assert device.until(S.UNAVAILABLE)["error"]["code"] == "disk-error"
        assert device.reconciler.current is None
        (tmp_path / "data").unlink()
        device.until(S.PROBATION)


def test_a_newer_versions_state_is_named_in_the_twin(tmp_path: Path) -> None:
    """An older image cannot read what is kept; it runs the model that the twin names all the same."""
    (tmp_path / "models.json").write_text('{"schema": 7}')
    with Device(tmp_path) as device:
        device.reconciler.section(None, 0)
        assert device.patches[0]["modelStatus"]["error"] == {
            "code": "state-too-new",
            "message": "models.json has schema 7, this version knows 1",
        }
        device.install(OURS.section())
    with Device(tmp_path) as device:
        assert device.active() == "1.0.0"
        assert (tmp_path / "models.schema-7.json").exists()


def test_the_last_good_model_runs_before_there_is_a_twin(tmp_path: Path) -> None:
    """start() returns with the model of the last process, without a hub; the one before it is ready too."""
    with Device(tmp_path) as device:
        device.install(OURS.section("1.0.0"))
        device.install(OURS.section("2.0.0"))
    with Device(tmp_path) as device:
        assert device.active() == "2.0.0"
        assert device.classify(1) == LABELS[1]
        status = device.wait(lambda twin: "previous" in twin.get("modelStatus", {}))
        assert status["previous"]["version"] == "1.0.0"
        assert "av" not in device.reported["model"]


def test_a_model_whose_key_was_removed_is_not_run(tmp_path: Path) -> None:
    """Retiring a key stops its models at the next start."""
    both = Keyring.from_environment(f"{OURS.trusted},{THEIRS.trusted}", required=True)
    with Device(tmp_path, both) as device:
        device.install(THEIRS.section("1.0.0"))
        device.install(OURS.section("2.0.0"))
    with Device(tmp_path, THEIRS.keyring) as device:
        assert device.active() == "1.0.0"
    with Device(tmp_path, Publisher(3).keyring) as device:
        assert device.active() == ""
        assert device.wait(lambda twin: twin)["error"]["code"] == "unknown-key"


@pytest.mark.parametrize("damage", [b"short", b"flip"])
def test_a_damaged_file_is_never_loaded(tmp_path: Path, damage: bytes) -> None:
    """Disks fail: the digest is checked at each start, and the model before it runs."""
    with Device(tmp_path) as device:
        device.install(OURS.section("1.0.0"))
        path = ModelStore(tmp_path).path(device.install(OURS.section("2.0.0")).ref.sha256)
    data = bytearray(path.read_bytes())
    data[50] ^= 4
    path.write_bytes(bytes(data) if damage == b"flip" else damage)
    with Device(tmp_path) as device:
        assert device.active() == "1.0.0"
        device.install(OURS.section("2.0.0"))


def test_stopping_on_probation_is_no_crash(tmp_path: Path) -> None:
    """Orderly restarts with a model on probation do not condemn it; it goes on where it can."""
    with Device(tmp_path) as device:
        device.section(OURS.section("1.0.0"))
        device.until(S.PROBATION)
    for _ in range(3):
        with Device(tmp_path) as device:
            assert device.active() == "1.0.0"
            device.section(OURS.section("1.0.0"))
            device.until(S.PROBATION)
    with Device(tmp_path) as device:
        device.answer(5)
        device.until(S.ACTIVE)


def test_stop_does_not_wait_for_a_proof(tmp_path: Path) -> None:
    """A module that is told to stop ends, hang or not."""
    with Device(tmp_path, settings=ENDLESS) as device:
        device.section(OURS.section())
        device.until(S.PROVING)
    assert "delivery" not in [thread.name for thread in threading.enumerate()]


def test_without_start_nothing_blocks(tmp_path: Path) -> None:
    """Methods that come before or after the thread's life are answered at once."""
    reconciler = Reconciler(tmp_path, OURS.keyring, lambda patch: None)
    assert reconciler.current is None
    assert reconciler.rollback() is None
    assert reconciler.reload() is False
    reconciler.stop()
