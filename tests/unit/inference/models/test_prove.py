"""The proof: good and broken models, and child processes that crash, hang or write nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.cpu_affinity import ALLOWED_CORES
from inference.models import child_process as child
from inference.models.child_process import ChildProcess
from inference.models.errors import CODES, ModelRefused, ModelUnavailable
from inference.models.prove import MAX_MEMORY_BYTES, Proved, Prover
from tests.models import LABELS, NEEDS_TFLITE_RUNTIME, RUNTIMES, deadly_tflite, tiny_artefact, tiny_tflite
from tests.unit.inference.fixtures import harmful_models
from tests.unit.inference.fixtures.device import eventually


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_artefact())
    return path


def python(code: str) -> tuple[str, ...]:
    """A child that runs this instead of the proof."""
    return (sys.executable, "-I", "-c", code)


def refused(path: Path, runtime: str = "auto", **prover: Any) -> str:
    with pytest.raises(ModelRefused) as raised:
        Prover(runtime, **prover).run(path)
    assert raised.value.code in CODES
    assert "\n" not in str(raised.value)
    return raised.value.code


def unavailable(path: Path, **prover: Any) -> str:
    with pytest.raises(ModelUnavailable) as raised:
        Prover("auto", **prover).run(path)
    assert raised.value.code in CODES
    return raised.value.code


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_good_model_is_proved_on_either_runtime(artefact: Path, runtime: str) -> None:
    """It loads, answers its probes and is timed."""
    proved = Prover(runtime).run(artefact)
    assert proved.runtime.startswith(f"{runtime} 2.")
    assert 0 < proved.p50_ms <= proved.p95_ms


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"expected": LABELS[::-1]}, "wrong-answers"),
        ({"labels": (*LABELS, "north")}, "does-not-load"),
        ({"minimum_runtime": {"litert": "99.0"}}, "runtime-too-old"),
        ({"tflite": tiny_tflite()[:1000]}, "does-not-load"),
    ],
    ids=["probes", "labels", "runtime", "truncated"],
)
def test_a_model_that_does_not_match_its_manifest_is_refused(
    tmp_path: Path, wrong: dict[str, Any], code: str
) -> None:
    """Each fault has its code."""
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_artefact(**wrong))
    assert refused(path, "litert") == code


def test_a_minimum_for_another_runtime_does_not_matter(tmp_path: Path) -> None:
    """The manifest's minimum counts for the runtime that is used."""
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_artefact(minimum_runtime={"tflite_runtime": "99.0", "litert": "2.0"}))
    assert Prover("litert").run(path).runtime.startswith("litert")


@NEEDS_TFLITE_RUNTIME
def test_a_damaged_flatbuffer_kills_the_child_only(tmp_path: Path) -> None:
    """The runtime dies of a damaged model; the module gets the code and goes on."""
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_artefact(tflite=deadly_tflite()))
    assert refused(path, "tflite_runtime") == "crashes-runtime"


ONE_SECOND = """
import sys
from inference.models import prove
prove._CPU_S = 1  # of processor time, which a busy machine does not shorten
sys.exit(prove.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_that_crashes_or_hangs_the_runtime(tmp_path: Path, runtime: str) -> None:
    """Complete flatbuffers with known operators: only a trial can find the fault."""
    path = tmp_path / "model.tflite"
    path.write_bytes(harmful_models.artefact(harmful_models.harmless()))
    Prover(runtime).run(path)
    path.write_bytes(harmful_models.artefact(harmful_models.crashes()))
    assert refused(path, runtime) == "crashes-runtime"
    path.write_bytes(harmful_models.artefact(harmful_models.hangs()))
    assert refused(path, runtime, command=python(ONE_SECOND), timeout_s=60.0) == "hangs-runtime"


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    "flatbuffer",
    [
        harmful_models.unknown_operator(),
        harmful_models.harmless(shape=(1, 4, 6, 1)),
        harmful_models.harmless(kind=schema.TensorType.INT32),
    ],
    ids=["operator", "shape", "type"],
)
def test_what_the_runtime_or_the_manifest_does_not_allow(
    tmp_path: Path, runtime: str, flatbuffer: bytes
) -> None:
    """An unknown operator, or another input shape or type than the manifest's."""
    path = tmp_path / "model.tflite"
    path.write_bytes(harmful_models.artefact(flatbuffer))
    assert refused(path, runtime) == "does-not-load"


def test_a_model_that_is_always_too_slow(tmp_path: Path) -> None:
    """The model is refused if not even its fastest invoke meets the budget."""
    path = tmp_path / "model.tflite"
    path.write_bytes(harmful_models.artefact(harmful_models.harmless(), budget_ms=1e-6))
    assert refused(path) == "over-budget"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL"])
def test_a_crash_is_the_models_fault(artefact: Path, name: str) -> None:
    """The signals of a broken program refuse the model."""
    command = python(f"import os, signal; os.kill(os.getpid(), signal.{name})")
    assert refused(artefact, command=command) == "crashes-runtime"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP"])
def test_a_kill_from_outside_is_not_the_models_fault(artefact: Path, name: str) -> None:
    """The proof is tried again."""
    command = python(f"import os, signal; os.kill(os.getpid(), signal.{name})")
    assert unavailable(artefact, command=command) == "no-proof"


def test_a_hang_is_ended_and_refused(artefact: Path, tmp_path: Path) -> None:
    """A child that does not end is killed."""
    pid = tmp_path / "pid"
    hang = python(
        f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    assert refused(artefact, command=hang, timeout_s=2.0) == "hangs-runtime"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_device_that_is_too_busy_proves_nothing(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that mostly waited for the processor is tried again."""
    monkeypatch.setattr(child, "_own_s", lambda _pid, elapsed_s: elapsed_s / 10)
    assert unavailable(artefact, command=python("while True: pass"), timeout_s=0.3) == "no-proof"


WITHOUT_IDLE_TIME = """
import json, os, time
if os.sched_getscheduler(0) == os.SCHED_IDLE:
    time.sleep(60)
print(json.dumps({"refused": "internal", "message": str(os.nice(0))}))
"""


def test_without_an_idle_processor_the_proof_is_niced(
    artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that keeps all cores busy does not prevent an installation."""
    monkeypatch.setattr(child, "_own_s", lambda _pid, elapsed_s: elapsed_s / 10)
    with pytest.raises(ModelRefused) as raised:
        Prover("auto", command=python(WITHOUT_IDLE_TIME), timeout_s=2).run(artefact)
    assert int(str(raised.value)) >= 10


@pytest.mark.parametrize(
    ("code", "own"), [("while True: pass", False), ("import time; time.sleep(60)", True)]
)
def test_waiting_for_a_processor_is_not_a_process_own_time(code: str, own: bool) -> None:
    """Of two processes on one processor, each is charged half of the time; sleep counts."""
    pinned = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\nprint(flush=True)\n"
    spin, it = (
        subprocess.Popen(python(pinned + each), stdout=subprocess.PIPE) for each in ("while True: pass", code)
    )
    with spin, it:
        try:
            for each in (spin, it):
                assert each.stdout is not None
                each.stdout.readline()
            begun, before_s = time.monotonic(), child._own_s(it.pid, 0.0)
            time.sleep(1)  # what is measured
            elapsed_s = time.monotonic() - begun
            spent_s = child._own_s(it.pid, elapsed_s) - before_s
            assert (spent_s > 0.8 * elapsed_s) is own
        finally:
            spin.kill()
            it.kill()


def test_processor_time_that_runs_out_is_a_hang(artefact: Path) -> None:
    """An endless loop ends at the CPU limit, even without a parent."""
    command = python("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)")
    assert refused(artefact, command=command) == "hangs-runtime"


@pytest.mark.parametrize(
    "code",
    ["", "raise SystemExit(1)", "print('no json')", "print('{}')", "print('[1]')", "print('null')"],
)
def test_a_child_without_a_result_proves_nothing(artefact: Path, code: str) -> None:
    """If the proof cannot run in an image, no model is refused."""
    assert unavailable(artefact, command=python(code)) == "no-proof"


def test_a_child_that_does_not_start_proves_nothing(artefact: Path) -> None:
    """A missing program is the device's fault."""
    assert unavailable(artefact, command=("/nonexistent",)) == "no-proof"


def test_a_missing_file_proves_nothing(tmp_path: Path) -> None:
    """The proof is tried again."""
    assert unavailable(tmp_path / "none") == "no-proof"


def test_noise_before_the_result_does_not_matter(artefact: Path) -> None:
    """A runtime may write to stdout; the last line counts."""
    line = json.dumps({"proved": {"runtime": "x 1", "load_ms": 1, "p50_ms": 2, "p95_ms": 3}})
    proved = Prover("auto", command=python(f"print('INFO: hello'); print({line!r})")).run(artefact)
    assert proved == Proved("x 1", 1, 2, 3)


def test_a_cancelled_proof_refuses_nothing(artefact: Path) -> None:
    """A cancelled proof is no verdict."""
    child = ChildProcess()
    prover = Prover("auto", command=python("import time; time.sleep(60)"), child=child)
    ended: list[str] = []

    def run() -> None:
        try:
            prover.run(artefact)
        except ModelUnavailable as error:
            ended.append(error.code)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        child.cancel()
        thread.join(0.01)
    assert ended == ["no-proof"]


def test_cancel_without_a_child_does_nothing() -> None:
    """No error is raised."""
    ChildProcess().cancel()


@contextmanager
def on_one_core() -> Iterator[None]:
    """The threads of the module may do so too."""
    os.sched_setaffinity(0, {min(ALLOWED_CORES)})
    yield
    os.sched_setaffinity(0, ALLOWED_CORES)


CONFINED = """
import json, os, resource
from inference.models.child_process import confine
from inference.models.prove import MAX_MEMORY_BYTES
confine(MAX_MEMORY_BYTES, 10)
limits = [resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in ("AS", "CPU", "CORE")]
idle, own_group = os.sched_getscheduler(0) == os.SCHED_IDLE, os.getpgid(0) == os.getpid()
cores = sorted(os.sched_getaffinity(0))
found = [limits, os.nice(0), idle, sorted(os.environ), own_group, os.getsid(0), cores]
print(json.dumps({"refused": "internal", "message": json.dumps(found)}))
"""


def test_the_child_of_a_module_on_all_cores_may_use_them_all(artefact: Path) -> None:
    """With MODULE_CORE=any, and on a machine with one core."""
    with pytest.raises(ModelRefused) as raised:
        Prover("auto", command=python(CONFINED), timeout_s=60).run(artefact)
    assert json.loads(str(raised.value))[-1] == sorted(ALLOWED_CORES)


@pytest.mark.parametrize("command", [python("raise SystemExit"), ("/no/such/program",)])
def test_the_thread_that_starts_the_child_keeps_its_core(artefact: Path, command: Sequence[str]) -> None:
    """It leaves the core only while it starts the child, also if that fails."""
    with on_one_core():
        assert unavailable(artefact, command=command) == "no-proof"
        assert os.sched_getaffinity(0) == {min(ALLOWED_CORES)}


def test_the_child_is_confined(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little memory, little time, no core dump, low priority, and none of the module's secrets."""
    monkeypatch.setenv("IOTEDGE_AUTHSCHEME", "x")
    monkeypatch.setenv("EdgeHubConnectionString", "secret")
    monkeypatch.setattr(child, "_own_s", lambda _pid, elapsed_s: elapsed_s)  # not starved by other tests
    with on_one_core(), pytest.raises(ModelRefused) as raised:
        Prover("auto", command=python(CONFINED), timeout_s=60).run(artefact)
    (memory, cpu, core), nice, idle, environment, own_group, session, cores = json.loads(str(raised.value))
    assert memory == [MAX_MEMORY_BYTES] * 2
    assert cpu[0] == 10
    assert core == [0, 0]
    assert nice >= 10
    assert idle, "a frame would wait until its slice has ended"
    assert own_group, "a Ctrl-C at the terminal is not the model's fault"
    assert cores == (sorted(ALLOWED_CORES)[1:] or sorted(ALLOWED_CORES)), (
        "the frames have a core of their own"
    )
    assert session == os.getsid(0), "in another session Linux would ignore its nice value"
    assert set(environment) <= {"PATH", "LANG", "LC_CTYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}


PARENT = """
import subprocess, sys
code = '''
import os, time
from inference.models.child_process import confine
confine(2**30, 9)
print(os.getpid(), flush=True)
time.sleep(60)
'''
subprocess.Popen([sys.executable, "-I", "-c", code]).wait()
"""


def test_the_child_does_not_outlive_the_module(tmp_path: Path) -> None:
    """A module that is killed leaves no proof behind."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not _alive(child))


def _alive(pid: int) -> bool:
    try:
        # A zombie has ended too.
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
