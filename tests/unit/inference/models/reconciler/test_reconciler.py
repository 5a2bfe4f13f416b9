"""The reconciler on one device: its thread, real models, signatures, child processes and files."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inference.model_section import ModelState
from inference.models.reconciler import Reconciler, ReconcilerSettings, Running
from inference.models.store import ModelStore
from inference.models.verification import Keyring
from tests.models import LABELS, NEEDS_TFLITE_RUNTIME, deadly_tflite, quadrant
from tests.unit.inference.fixtures.device import BLIND, PASS, PROVING, Device, Publisher, eventually

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
    """A device with the real proof."""
    with Device(tmp_path, settings=PROVING) as started:
        yield started


def proofs(device: Device) -> int:
    """The number of proofs that were reported."""
    states = [patch["modelStatus"]["state"] for patch in device.patches]
    return sum(state == "proving" for state, _ in itertools.groupby(states))


# -- the normal path


def test_the_first_model_is_installed_and_answers(proving: Device) -> None:
    """A first model passes probation; the twin gets the answer that Plug and Play defines."""
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


def test_the_old_model_serves_until_the_new_one_does(device: Device) -> None:
    """Promotion is one assignment; a frame in flight keeps the old model."""
    device.install(OURS.section("1.0.0"))
    held = device.running
    seen: set[str] = set()
    device.section(OURS.section("2.0.0"))
    while "2.0.0" not in seen:
        seen.add(device.active())
        time.sleep(0.001)
    assert seen == {"1.0.0", "2.0.0"}
    assert held.engine.infer(quadrant(0)).argmax() == 0
    status = device.until(S.PROBATION)
    assert status["previous"]["version"] == "1.0.0"


def test_swaps_under_load_lose_no_frame(device: Device) -> None:
    """While models change, every frame has a model."""
    device.install(OURS.section("0"))
    stop, answered, unanswered = threading.Event(), list[str](), list[Running | None]()

    def frames() -> None:
        while not stop.is_set():
            running = device.reconciler.current
            if running is None or running.engine.infer(quadrant(1)).argmax() != 1:
                unanswered.append(running)
            else:
                answered.append(running.ref.version)
                device.reconciler.answered(running, 0.1)
            stop.wait(0.0005)

    worker = threading.Thread(target=frames)
    worker.start()
    for version in ("1", "2", "3"):
        device.section(OURS.section(version))
        device.until(S.ACTIVE)
    stop.set()
    worker.join()
    assert not unanswered
    assert list(dict.fromkeys(answered)) == ["0", "1", "2", "3"]


def test_a_refused_model_is_reported_and_removed(proving: Device) -> None:
    """The twin shows which check refused the model; no model serves, and no artefact stays."""
    proving.section(OURS.section(expected=LABELS[::-1]))
    status = proving.until(S.REFUSED)
    assert status["error"]["code"] == "wrong-answers"
    assert proving.reported["model"]["ac"] == 400
    assert proving.reported["model"]["ad"] == status["error"]["message"]
    assert "value" not in proving.reported["model"]
    assert proving.reconciler.current is None
    assert not list(proving.folder.glob("models/*"))
    assert proving.reconciler.reload() is True
    eventually(lambda: proofs(proving) == 2)
    proving.until(S.REFUSED)


@NEEDS_TFLITE_RUNTIME
def test_a_model_that_kills_the_runtime_kills_only_its_proof(tmp_path: Path) -> None:
    """On the older runtime a damaged flatbuffer is a segmentation fault; the module goes on."""
    with Device(tmp_path, settings=PROVING, runtime="tflite_runtime") as device:
        device.install(OURS.section("1.0.0"))
        device.section(OURS.section("2.0.0", tflite=deadly_tflite()))
        assert device.until(S.REFUSED)["error"]["code"] == "crashes-runtime"
        assert device.active() == "1.0.0"


# -- probation


def test_a_device_watches_a_new_model_for_fifty_frames() -> None:
    """And three exceptions; the devices of these tests take fewer frames."""
    settings = ReconcilerSettings()
    assert (settings.probation_frames, settings.probation_errors) == (50, 3)


def test_a_probation_begins_with_its_model(device: Device) -> None:
    """Not with the boot: a device that has run for hours would pass any model after five answers."""
    before = time.monotonic()
    device.section(OURS.section())
    device.until(S.PROBATION)
    watch = device.reconciler._active._watch
    assert watch is not None
    assert before <= watch.probation.began_s <= time.monotonic()


def test_three_exceptions_withdraw_a_model(device: Device) -> None:
    """The previous model serves the frames on which it raises; after the third one it is withdrawn."""
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


def test_the_operators_budget_holds_too(device: Device) -> None:
    """The tighter of the two budgets decides."""
    device.reconciler.limit_latency(5)
    device.section(OURS.section("1.0.0", latency_budget_ms=10))
    device.until(S.PROBATION)
    device.answer(1, invoke_ms=7)
    assert device.until(S.WITHDRAWN)["error"]["code"] == "too-slow"


def test_a_probation_may_end_while_another_model_is_proved(tmp_path: Path) -> None:
    """It fails at once on the frame path; its verdict is stored, and the candidate goes on."""
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


# -- going back


def test_rollback_goes_back_and_stays_there(tmp_path: Path) -> None:
    """The rejected section is not tried again, not even after a restart."""
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


def test_rollback_ends_a_proof_in_progress(tmp_path: Path) -> None:
    """The call does not wait for the candidate, and the candidate is not promoted."""
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


def test_going_back_needs_no_download(device: Device) -> None:
    """The last three models are on disk, so their source need not be reachable."""
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        device.install(OURS.section(version))
    elsewhere = {"source": {"uri": "https://127.0.0.1:9/gone"}}
    device.install({**OURS.section("1.0.0"), **elsewhere})
    assert device.active() == "1.0.0"
    device.section({**OURS.section("4.0.0"), **elsewhere})
    assert device.until(S.REFUSED)["error"]["code"] == "source-forbidden"
    assert len(list(device.folder.glob("models/*"))) == 3


# -- changes of the twin


def test_another_section_for_the_serving_model_changes_nothing(tmp_path: Path) -> None:
    """The same model under a new key is checked, not loaded; a restart verifies the new signature."""
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


def test_fifty_quick_changes_end_at_the_last(device: Device) -> None:
    """Only the newest section counts; most of those before it are never tried."""
    device.install(OURS.section("0"))
    for section in [OURS.section(str(number)) for number in range(1, 51)]:  # signing takes time: all before
        device.section(section)
    device.until(S.PROBATION)
    assert device.active() == "50"
    assert proofs(device) < 25


def test_a_newer_section_replaces_the_candidate_only(tmp_path: Path) -> None:
    """A newer section ends a proof in progress at once, without a verdict; the serving model goes on."""
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


def test_the_same_section_again_disturbs_nothing(tmp_path: Path) -> None:
    """Every patch notifies; a proof in progress goes on and answers the newest `$version`."""
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
    """A proof that always passes, but runs `command` instead while `flag` exists."""
    return ("/bin/sh", "-c", f"test -e '{flag}' && {command}; {PASS}")


@pytest.mark.parametrize(
    "section", [5, "x", [], [None], {"name": {"a": []}}, {"source": {"inline": 1}}, True]
)
def test_a_bad_twin_never_ends_the_process(device: Device, section: object) -> None:
    """After any unreadable section the next good one is installed."""
    device.section(section)
    device.until(S.REFUSED)
    device.section(OURS.section())
    device.until(S.PROBATION)


# -- faults of the device


def test_an_unavailable_model_is_tried_again(tmp_path: Path) -> None:
    """A proof that could not run is no verdict; it is retried."""
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


def test_a_disk_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """Without a saved attempt nothing is loaded; a retry succeeds as soon as the disk can be written."""
    (tmp_path / "data").write_text("a file where the folder should be")
    settings = replace(BLIND, retry_first_s=0.05)
    with Device(tmp_path / "data", settings=settings) as device:
        device.section(OURS.section())
        assert device.until(S.UNAVAILABLE)["error"]["code"] == "disk-error"
        assert device.reconciler.current is None
        (tmp_path / "data").unlink()
        device.until(S.PROBATION)


def test_the_state_of_a_newer_version_is_reported(tmp_path: Path) -> None:
    """An older image cannot read the stored state; it installs the model that the twin names."""
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


def test_the_last_good_model_serves_before_the_twin_is_read(tmp_path: Path) -> None:
    """start() needs no hub; the previous model is loaded as well."""
    with Device(tmp_path) as device:
        device.install(OURS.section("1.0.0"))
        device.install(OURS.section("2.0.0"))
    with Device(tmp_path) as device:
        assert device.active() == "2.0.0"
        assert device.classify(1) == LABELS[1]
        status = device.wait(lambda twin: "previous" in twin.get("modelStatus", {}))
        assert status["previous"]["version"] == "1.0.0"
        assert "av" not in device.reported["model"]


def test_a_model_whose_key_was_removed_does_not_serve(tmp_path: Path) -> None:
    """Every start verifies the signatures again."""
    both = Keyring.from_environment(f"{OURS.trusted},{THEIRS.trusted}", required=True)
    with Device(tmp_path, both) as device:
        device.install(THEIRS.section("1.0.0"))
        device.install(OURS.section("2.0.0"))
    with Device(tmp_path, THEIRS.keyring) as device:
        assert device.active() == "1.0.0"
    with Device(tmp_path, Publisher(3).keyring) as device:
        assert device.active() == ""
        assert device.wait(lambda twin: twin)["error"]["code"] == "unknown-key"


def test_a_model_of_an_unknown_key_is_verified_again_after_a_restart(tmp_path: Path) -> None:
    """The refusal is not stored: a process with other keys accepts the same section."""
    section = OURS.section("1.0.0")
    with Device(tmp_path, THEIRS.keyring) as device:
        device.section(section)
        assert device.until(S.REFUSED)["error"]["code"] == "unknown-key"
    with Device(tmp_path, OURS.keyring) as device:
        assert device.install(section).ref.version == "1.0.0"


@pytest.mark.parametrize("damage", [b"short", b"flip"])
def test_a_damaged_file_is_never_loaded(tmp_path: Path, damage: bytes) -> None:
    """Every start verifies the digest; the previous model serves instead."""
    with Device(tmp_path) as device:
        device.install(OURS.section("1.0.0"))
        path = ModelStore(tmp_path).path(device.install(OURS.section("2.0.0")).ref.sha256)
    data = bytearray(path.read_bytes())
    data[50] ^= 4
    path.write_bytes(bytes(data) if damage == b"flip" else damage)
    with Device(tmp_path) as device:
        assert device.active() == "1.0.0"
        device.install(OURS.section("2.0.0"))


def test_stop_does_not_wait_for_a_proof(tmp_path: Path) -> None:
    """stop() ends a proof in progress."""
    with Device(tmp_path, settings=ENDLESS) as device:
        device.section(OURS.section())
        device.until(S.PROVING)
    assert "models" not in [thread.name for thread in threading.enumerate()]


def test_without_start_nothing_blocks(tmp_path: Path) -> None:
    """Calls return at once if the thread does not run."""
    reconciler = Reconciler(tmp_path, OURS.keyring, lambda patch: None)
    assert reconciler.current is None
    assert reconciler.rollback() is None
    assert reconciler.reload() is False
    reconciler.stop()
