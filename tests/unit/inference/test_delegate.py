"""Delegates on both runtimes: one that accepts every model, two that accept none, libraries that are not
delegates, and a model compiled for the Edge TPU."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from inference.engine import Engine, NeedsDelegate
from inference.model_section import ModelState
from inference.models.errors import CODES, ModelRefused
from inference.models.prove import Prover
from tests.models import LABELS as QUADRANTS
from tests.models import RUNTIMES, SPEC, tiny_artefact
from tests.unit.inference.fixtures import tiny_model
from tests.unit.inference.fixtures.device import PROVING, Device, Publisher

# The start of TfLiteDelegate (tensorflow/lite/core/c/common.h). It replaces no node, so the CPU's kernels
# still run the model. `prepared` counts the models that the runtime offered to it.
SOURCE = """
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
typedef struct Delegate {
  void* data;
  int (*prepare)(void* context, struct Delegate* delegate);
  void *copy_from, *copy_to, *free_buffer;
  int64_t flags;
  void* opaque_builder;
} Delegate;
int prepared = 0;
static int prepare(void* context, Delegate* delegate) { prepared++; return STATUS; }
Delegate* tflite_plugin_create_delegate(char** k, char** v, size_t n, void (*report)(const char*)) {
  if (STATUS == 9) { report("no device is plugged in"); return NULL; }
  Delegate* made = calloc(1, sizeof(Delegate));
  made->prepare = prepare;
  return made;
}
void tflite_plugin_destroy_delegate(Delegate* delegate) { free(delegate); }
"""
ACCEPTS, REFUSES, ABSENT = 0, 1, 9
OURS = Publisher(1)

runtimes = pytest.mark.parametrize("runtime", RUNTIMES)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The three libraries, by status."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: a delegate is a shared library")
    folder = tmp_path_factory.mktemp("delegates")
    (folder / "delegate.c").write_text(SOURCE)
    libraries = {}
    for status in (ACCEPTS, REFUSES, ABSENT):
        libraries[status] = str(folder / f"libdelegate{status}.so")
        command = ["gcc", "-shared", "-fPIC", f"-DSTATUS={status}", "-o", libraries[status], "delegate.c"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return libraries


def brightest(engine: Engine) -> list[int]:
    """The labels that it gives to three pictures with bright bands in this order."""
    return [int(engine.infer(tiny_model.band(place)).argmax()) for place in range(3)]


@runtimes
def test_a_delegate_that_accepts_the_model_is_used(built: dict[int, str], runtime: str) -> None:
    """The runtime offers it the model once, and the engine reports it."""
    prepared = ctypes.c_int.in_dll(ctypes.CDLL(built[ACCEPTS]), "prepared")
    before = prepared.value
    engine = Engine(tiny_model.artefact(), runtime=runtime, delegate=built[ACCEPTS])
    assert prepared.value == before + 1
    assert brightest(engine) == [0, 1, 2]
    assert engine.reported() == {"runtime": runtime, "delegate": built[ACCEPTS], "whyNotDelegate": None}


@runtimes
@pytest.mark.parametrize(("status", "reason"), [(REFUSES, "refuses the model"), (ABSENT, "plugged in")])
def test_the_cpu_runs_a_model_that_the_delegate_refuses(
    built: dict[int, str], runtime: str, status: int, reason: str
) -> None:
    """The engine reports the reason."""
    engine = Engine(tiny_model.artefact(), runtime=runtime, delegate=built[status])
    assert brightest(engine) == [0, 1, 2]
    assert engine.delegate == ""
    assert reason in engine.why_not


@runtimes
@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("libedgetpu-that-is-not-here.so.1", "cannot open shared object"),
        ("libc.so.6", "tflite_plugin_create_delegate"),
        (__file__, "invalid ELF header"),
    ],
)
def test_the_cpu_runs_the_model_if_the_library_is_not_a_delegate(
    runtime: str, library: str, reason: str
) -> None:
    """A missing library, another library, another file: the reason names it in one line."""
    engine = Engine(tiny_model.artefact(), runtime=runtime, delegate=library)
    assert brightest(engine) == [0, 1, 2]
    assert reason in engine.why_not
    assert library in engine.why_not
    assert "\n" not in engine.why_not


@runtimes
def test_without_a_delegate_no_reason_is_reported(runtime: str) -> None:
    """Without DELEGATE both fields are None."""
    engine = Engine(tiny_model.artefact(), runtime=runtime)
    assert engine.reported() == {"runtime": runtime, "delegate": None, "whyNotDelegate": None}


@runtimes
@pytest.mark.parametrize("library", ["", "libedgetpu-that-is-not-here.so.1"])
def test_a_model_compiled_for_the_edge_tpu_needs_it(runtime: str, library: str) -> None:
    """No CPU runs it; the error names the reason of the delegate."""
    compiled = tiny_model.artefact(flatbuffer=tiny_model.for_edge_tpu())
    with pytest.raises(NeedsDelegate, match=library or "DELEGATE"):
        Engine(compiled, runtime=runtime, delegate=library)


@runtimes
def test_the_proof_refuses_a_model_for_the_edge_tpu(tmp_path: Path, runtime: str) -> None:
    """The code `needs-delegate` is not lasting: the model may run on another device."""
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_model.artefact(flatbuffer=tiny_model.for_edge_tpu()).data)
    with pytest.raises(ModelRefused) as raised:
        Prover(runtime, delegate="libedgetpu-that-is-not-here.so.1").run(path)
    assert raised.value.code == "needs-delegate"
    assert "libedgetpu-that-is-not-here.so.1" in str(raised.value)
    assert not CODES["needs-delegate"].lasting


def test_the_twin_reports_the_delegate(tmp_path: Path) -> None:
    """The report says that the accelerator is not used, and why."""
    library = "libedgetpu-that-is-not-here.so.1"
    with Device(tmp_path, settings=PROVING, delegate=library) as device:
        device.install(OURS.section())
        engine = device.until(ModelState.ACTIVE)["engine"]
        assert engine["runtime"] == "litert"
        assert "delegate" not in engine
        assert library in engine["whyNotDelegate"]
        compiled = tiny_artefact("tiny", "2.0.0", tflite=tiny_model.for_edge_tpu(SPEC, QUADRANTS))
        device.section(OURS.section_of(compiled, "2.0.0"))
        assert device.until(ModelState.REFUSED)["error"]["code"] == "needs-delegate"
        assert device.active() == "1.0.0"
