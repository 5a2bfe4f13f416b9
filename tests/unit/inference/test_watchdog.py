"""The watchdog: an invoke or a load that does not return ends the process, and withdraws the model."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.frames.frame_path import FramePath
from inference.frames.publisher import Publisher
from inference.invoke_mark import Interrupted, InvokeMark
from inference.model_section import ModelState
from inference.models.active_model import ActiveModel
from inference.watchdog import LOAD_S, OTHER_S, Stopwatch, Watchdog, invoke_limit_s
from tests.models import ROOT
from tests.unit.inference.fixtures import harmful_models
from tests.unit.inference.fixtures.device import BLIND, Device
from tests.unit.inference.fixtures.device import Publisher as Signer
from tests.unit.inference.fixtures.doubles import (
    WAIT_S,
    FakeEngine,
    FakeHub,
    FakeReconciler,
    brightest_band,
    frame,
    running,
)
from tests.unit.inference.fixtures.harmful_models import SPEC

OURS = Signer()


def seconds(watchdog: Watchdog, count: int, start: float = 0.0) -> str:
    """Look twice a second for `count` seconds; what the last look returned, or the first reason."""
    for tick in range(2 * count + 1):
        if reason := watchdog.look(start + tick / 2):
            return reason
    return ""


@pytest.mark.parametrize(("budget_ms", "limit_s"), [(0.1, 5), (500, 5), (501, 5.01), (60_000, 600)])
def test_an_invoke_may_take_ten_times_its_budget_and_at_least_five_seconds(
    budget_ms: float, limit_s: float
) -> None:
    """A slow device gets time, a slow model as much as it announced."""
    assert invoke_limit_s(budget_ms) == pytest.approx(limit_s)


def test_an_invoke_that_does_not_return_is_written_to_disk_and_ends_the_process(tmp_path: Path) -> None:
    """The next process reads which model it was."""
    mark, model = InvokeMark(tmp_path / "mark"), running()
    mark.open()
    watchdog = Watchdog(mark)
    watchdog.invoking(model)
    assert seconds(watchdog, 4) == ""
    assert "bands:1.0.0: an invoke did not return within 5 s" in seconds(watchdog, 6, 4.5)
    assert InvokeMark(tmp_path / "mark").open() == Interrupted("", model.ref.sha256, 5.0)


def test_a_verdict_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends right after it, and the power may too."""
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append((tmp_path / "mark").read_bytes()))
    mark = InvokeMark(tmp_path / "mark")
    mark.open()
    mark.hung("ab" * 32, 5.0)
    assert [b"ab" * 32 in content for content in synced] == [True]


def test_invokes_that_return_are_never_too_many(tmp_path: Path) -> None:
    """Each frame has its own time."""
    mark = InvokeMark(tmp_path / "mark")
    watchdog = Watchdog(mark)
    mark.open()
    mark.arm()
    for second in range(20):
        watchdog.invoking(running())
        assert seconds(watchdog, 4, 10.0 * second) == ""
        watchdog.returned()
    watchdog.resting()
    assert seconds(watchdog, 100, 1e3) == ""
    assert InvokeMark(tmp_path / "mark").open() == Interrupted()


def test_a_process_that_was_stopped_for_a_minute_is_not_stuck() -> None:
    """SIGSTOP, a debugger, a suspended device: a late look counts as two ticks."""
    watch, task = Stopwatch(0.5), object()
    assert watch.look(task, 0) == 0
    assert watch.look(task, 60) == 1


def test_a_frame_that_hangs_outside_the_model_blames_no_model(tmp_path: Path) -> None:
    """The process ends all the same."""
    mark = InvokeMark(tmp_path / "mark")
    mark.open()
    watchdog = Watchdog(mark)
    watchdog.invoking(running())
    watchdog.returned()
    assert "outside the model" in seconds(watchdog, int(OTHER_S) + 1)
    assert InvokeMark(tmp_path / "mark").open() == Interrupted()


def test_a_load_that_does_not_return_ends_the_process() -> None:
    """Its attempt is on disk, so two of them withdraw the model; another load has its own time."""
    loads: list[object] = [object()]
    watchdog = Watchdog(loading=lambda: loads[0])
    assert seconds(watchdog, int(LOAD_S) - 1) == ""
    loads[0] = object()
    assert seconds(watchdog, int(LOAD_S) - 1, 100.0) == ""
    assert "did not load" in seconds(watchdog, 2, 100.0 + LOAD_S)


def test_the_reconciler_shows_the_load_in_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only while it lasts."""
    with Device(tmp_path) as device:
        seen: list[object] = []
        load = device.reconciler._installer.load

        def watched(candidate: object) -> object:
            seen.append(device.reconciler.loading)
            return load(candidate)  # type: ignore[arg-type]

        monkeypatch.setattr(device.reconciler._installer, "load", watched)
        device.install(OURS.section())
        assert len(seen) == 1
        assert seen[0] is not None
        assert device.reconciler.loading is None


def test_a_mark_of_another_boot_counts_against_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut the mark on disk is of any moment; a hang was synced."""
    mark = InvokeMark(tmp_path / "mark")
    mark.open()
    mark.begin("ab" * 32)
    assert InvokeMark(tmp_path / "mark").open() == Interrupted()  # no model is on probation
    mark.arm()
    mark.begin("ab" * 32)
    assert InvokeMark(tmp_path / "mark").open() == Interrupted("ab" * 32)
    monkeypatch.setattr("inference.invoke_mark.boot_id", lambda: "another")
    assert InvokeMark(tmp_path / "mark").open() == Interrupted()
    mark.hung("ab" * 32, 5.0)
    monkeypatch.undo()
    assert InvokeMark(tmp_path / "mark").open() == Interrupted("", "ab" * 32, 5.0)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 10_000])
def test_a_damaged_mark_is_no_verdict(tmp_path: Path, content: bytes) -> None:
    """Of any length; it names no stored model."""
    (tmp_path / "mark").write_bytes(content)
    mark = InvokeMark(tmp_path / "mark")
    assert mark.open().invoking == ""
    mark.forget()
    assert InvokeMark(tmp_path / "mark").open() == Interrupted()
    mark.arm()
    mark.begin("ab" * 32)
    assert InvokeMark(tmp_path / "mark").open() == Interrupted("ab" * 32)


def test_a_probation_that_begins_while_an_invoke_hangs_keeps_the_verdict(tmp_path: Path) -> None:
    """A good model may be promoted before the process ends."""
    mark = InvokeMark(tmp_path / "mark")
    mark.open()
    mark.hung("ab" * 32, 5.0)
    mark.arm()
    mark.begin("cd" * 32)
    assert InvokeMark(tmp_path / "mark").open() == Interrupted("cd" * 32, "ab" * 32, 5.0)


def test_the_file_is_open_only_during_a_probation(tmp_path: Path) -> None:
    """A store into a mapped page of a disk that turned read-only would kill the process."""

    def mapped() -> bool:
        return str(tmp_path / "data" / "invoke.mark") in Path("/proc/self/maps").read_text()

    with Device(tmp_path / "data") as device:
        device.section(OURS.section())
        device.until(ModelState.PROBATION)
        assert mapped()
        device.answer(device.settings.probation_frames)
        device.until(ModelState.ACTIVE)
        assert not mapped()


def test_without_a_file_the_mark_is_kept_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A read-only folder stops no frame."""
    (tmp_path / "file").write_bytes(b"")
    mark = InvokeMark(tmp_path / "file" / "mark")
    assert mark.open() == Interrupted()
    mark.begin("ab" * 32)
    mark.hung("ab" * 32, 5.0)
    assert "not recognised" in caplog.text


def test_the_frame_path_tells_the_watchdog_which_model_runs() -> None:
    """During the invoke, not before or after it; also if the engine raises."""
    watchdog = Watchdog()
    tasks: list[object] = []

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        tasks.append(watchdog._task)
        if len(tasks) == 2:
            raise RuntimeError
        return brightest_band(pixels)

    model = running(FakeEngine(infer))
    reconciler = FakeReconciler(current=model)
    path = FramePath(reconciler.as_reconciler(), Publisher(FakeHub().send, instance="x"), watchdog)
    for seq in range(2):
        path.receive(frame(seq).to_message(), 0)
        arrival = path.next(0)
        assert arrival is not None
        path.answer(arrival)
        assert watchdog._task is None
        assert watchdog._mark._page[:64] == bytes(64)
    assert tasks == [[model], [model]]


def test_a_rollback_is_seen_when_the_model_answers_its_first_frame() -> None:
    """An answer of the model before does not count, nor one from before the change."""
    active, old, new = ActiveModel(lambda running, result: None), running(), running(version="2.0.0")
    active.set(new)
    active.answered(new, 1.0)
    assert active.wait_answered(new.ref, 0)
    active.set(old)
    active.answered(old, 1.0)
    active.set(new)
    active.set(old)
    assert not active.wait_answered(old.ref, 0)  # its answer is from before the change
    active.answered(new, 1.0)  # a frame that was in flight
    assert not active.wait_answered(old.ref, 0)
    threading.Timer(0.05, lambda: active.answered(old, 1.0)).start()
    assert active.wait_answered(old.ref, WAIT_S)


# -- the sign of life


def test_the_health_file_is_touched_only_while_nothing_is_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEALTHCHECK in the images looks at its age."""
    monkeypatch.setattr("edgekit.health_file.INTERVAL_NS", 0)  # at each look
    file, stuck = tmp_path / "alive", threading.Event()
    watchdog = Watchdog(on_stuck=lambda reason: stuck.set(), health_file=file, floor_s=0.2)
    watchdog.start()
    deadline = time.monotonic() + WAIT_S
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    watchdog._budget_ms = lambda running: 1.0
    watchdog.invoking(running())
    assert stuck.wait(WAIT_S)
    touched = file.stat().st_mtime_ns
    time.sleep(0.2)
    assert file.stat().st_mtime_ns == touched


@pytest.mark.parametrize("dockerfile", sorted((ROOT / "modules").glob("*/Dockerfile.*")))
@pytest.mark.parametrize(("age_s", "status"), [(0, 0), (300, 1), (None, 1)])
def test_the_health_check_of_the_image_looks_at_the_age_of_the_file(
    dockerfile: Path, age_s: int | None, status: int, tmp_path: Path
) -> None:
    """Without starting Python."""
    lines = dockerfile.read_text().splitlines()
    (check,) = [line.split("CMD ", 1)[1] for line in lines if "CMD find" in line]
    assert any(line.startswith("HEALTHCHECK ") for line in lines)
    assert "HEALTH_FILE=/dev/shm/" in dockerfile.read_text()
    file = tmp_path / "alive"
    if age_s is not None:
        file.touch()
        subprocess.run(["touch", "-d", f"-{age_s} seconds", str(file)], check=True)
    ended = subprocess.run(
        ["sh", "-c", check], env={"HEALTH_FILE": str(file), "PATH": "/usr/bin:/bin"}, check=False
    )
    assert ended.returncode == status


# -- the whole process

MODULE = """
import functools, os, sys, threading
from pathlib import Path
import inference.service
from edgekit.clock import mono_ns
from edgekit.hub.connection import Twin
from edgekit.lifecycle import run_module
from inference.models.reconciler import Reconciler
from inference.service import Service
from tests.unit.inference.fixtures.device import BLIND, Publisher
from tests.unit.inference.fixtures.doubles import FakeHub
from tests.unit.inference.test_watchdog import bright
inference.service.Watchdog = functools.partial(inference.service.Watchdog, floor_s=0.4)

class Hub(FakeHub):
    def start(self): threading.Thread(target=send, daemon=True).start()
    def wait_sent(self, timeout_s): return 0
    def close(self, timeout_s): pass

def connect(inputs, on_twin, methods):
    hub.inputs, hub.on_twin, hub.methods = inputs, on_twin, methods
    return hub

def send():
    hub.on_twin(Twin({"telemetry": {"predictions": "all"}, "$version": 1}, {}))
    hub.inputs["frames"](bright(0).to_message(), mono_ns())
    hub.wait_for(lambda: hub.of("predictions"))
    print(hub.of("predictions")[0]["model"]["version"], flush=True)
    os._exit(0)

hub = Hub()
folder, keyring = Path(sys.argv[1]), Publisher().keyring
service = Service(connect, lambda report: Reconciler(folder, keyring, report, settings=BLIND))
run_module(hub, start=service.start, stop=service.stop)
"""


def bright(seq: int) -> object:
    """A frame with white pixels, of the size of the harmful models."""
    return frame(seq, place=0)


def section(flatbuffer: bytes, version: str) -> dict[str, object]:
    """The section of a model of `harmful_models`."""
    data = harmful_models.artefact(flatbuffer, version=version, budget_ms=20)
    return OURS.section_of(data, version, name="bands")


@pytest.mark.long
@pytest.mark.parametrize("proven", [False, True])
def test_after_an_invoke_that_never_returns_the_previous_model_answers(tmp_path: Path, proven: bool) -> None:
    """The process ends with 75; in the next one the previous model answers the same frame."""
    with Device(tmp_path, settings=BLIND) as device:
        device.install(section(harmful_models.harmless(), "1.0.0"))
        device.section(section(harmful_models.hangs_on_bright(), "2.0.0"))
        device.wait(lambda twin: device.active() == "2.0.0")
        device.running.engine.infer(
            np.zeros((SPEC.height, SPEC.width, 1), np.uint8)
        )  # a dark picture is answered
        if proven:
            device.install(section(harmful_models.hangs_on_bright(), "2.0.0"))
    command = [sys.executable, "-c", MODULE, str(tmp_path)]
    hung = subprocess.run(command, cwd=ROOT, check=False, timeout=20, capture_output=True, text=True)
    assert (hung.returncode, hung.stdout) == (75, ""), hung.stderr
    assert "an invoke did not return" in hung.stderr
    after = subprocess.run(command, cwd=ROOT, check=False, timeout=20, capture_output=True, text=True)
    assert (after.returncode, after.stdout) == (0, "1.0.0\n"), after.stderr
    state = json.loads((tmp_path / "models.json").read_text())
    assert [each["code"] for each in state["quarantine"].values()] == ["hangs-on-frame"]
