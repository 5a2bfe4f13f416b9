"""The proof: a model loads, is what its manifest says, answers its probes – in a process that may die of it.

A damaged flatbuffer can kill or hang the runtime, so nothing is loaded into the module's process before this.
`python -m inference.prove FILE` is the child: it limits itself, writes one JSON line and exits with 0, or
with 1 when there is no proof. Prover is the parent's side. `trust` checked size, signature and digest before.
"""

import argparse
import ctypes
import json
import math
import os
import resource
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from inference.artefact import MAX_ARTEFACT_BYTES, Artefact, BadArtefact, read
from inference.engine import Engine, EngineError
from inference.reconcile import ModelRefused, ModelUnavailable
from inference.runtimes import chosen, versions

MAX_MEMORY_BYTES = 1024**3  # of addresses; LiteRT with numpy takes 150 MB of them before a model comes
_CPU_S = 10
_NICE = 10
_TIMED = 50
_TIMED_S = 1.0  # and no longer than this, however slow the model is
_PR_SET_PDEATHSIG = 1
# What a broken model does to a process. SIGKILL, SIGTERM and the like come from outside and prove nothing.
_CRASHES = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)


@dataclass(frozen=True)
class Proved:
    """A model that works here, and how fast, in a niced process: an indication, not a verdict."""

    runtime: str  # "litert 2.3.0"
    load_ms: float
    p50_ms: float
    p95_ms: float


def prove(data: bytes, runtime: str) -> Proved:
    """In the child. Raises ModelRefused or ModelUnavailable; may also crash or never return."""
    runtime = _runtime(runtime)
    try:
        artefact = read(data)
    except BadArtefact as error:
        raise ModelRefused("bad-artefact", error.reason) from error
    check_runtime(runtime, artefact.manifest.minimumRuntime)
    begun = perf_counter()
    try:
        engine = Engine(artefact, runtime=runtime)
        _check_answers(engine, artefact)
        engine.warm()
        load_ms = (perf_counter() - begun) * 1e3
        invokes_ms = _time(engine, artefact)
    except ModelRefused:
        raise
    except Exception as error:  # a runtime raises what it likes; in this process it had nothing but the model
        raise ModelRefused("does-not-load", _one_line(error)) from error
    p50, p95 = statistics.median(invokes_ms), invokes_ms[math.ceil(0.95 * len(invokes_ms)) - 1]
    return Proved(f"{runtime} {versions()[runtime]}", load_ms, p50, p95)


class Prover:
    """Tries one model at a time in a child process. `cancel` may be called from any thread.

    `command` is what runs a proof; FILE and `--runtime R` are added to it. `overtaken` says that a cancel
    came before there was a child to end.
    """

    def __init__(
        self,
        runtime: str,
        timeout_s: float = 10.0,
        command: Sequence[str] | None = None,
        overtaken: Callable[[], bool] = lambda: False,
    ) -> None:
        self._timeout_s = timeout_s
        self._runtime = runtime
        self._command = command or (sys.executable, "-I", "-m", "inference.prove")
        self._overtaken = overtaken
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, path: Path) -> Proved:
        """Raises ModelRefused or ModelUnavailable. Takes timeout_s at most."""
        argv = [*self._command, str(path), "--runtime", self._runtime]
        try:
            # A session of its own: a Ctrl-C at the terminal is for the module, not for the proof.
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise ModelUnavailable("no-proof", f"the proof did not start: {error.strerror}") from error
        with self._lock:
            self._child = child
        if self._overtaken():
            child.kill()
        try:
            output, _ = child.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired as error:
            child.kill()
            child.communicate()
            raise ModelRefused("hangs-runtime", f"no answer within {self._timeout_s:g} s") from error
        finally:
            with self._lock:
                self._child = None
        return _judge(child.returncode, output)

    def cancel(self) -> None:
        """End the proof under way, if there is one: run() then raises ModelUnavailable."""
        with self._lock:
            if self._child is not None:
                self._child.kill()


def main(argv: Sequence[str]) -> int:
    """The child's whole life."""
    parser = argparse.ArgumentParser(prog="python -m inference.prove", description="Try one model artefact.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--runtime", default="auto")
    options = parser.parse_args(argv)
    confine()
    status, result = _result(options.file, options.runtime)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    return status


def _result(path: Path, runtime: str) -> tuple[int, dict[str, object]]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ARTEFACT_BYTES + 1)
        return 0, {"proved": asdict(prove(data, runtime))}
    except ModelRefused as error:
        return 1, {"refused": error.code, "message": str(error)}
    except ModelUnavailable as error:
        return 1, {"unavailable": error.code, "message": str(error)}
    except OSError as error:
        return 1, {"unavailable": "no-proof", "message": f"{path.name}: {error.strerror}"}


def confine() -> None:
    """Whatever the model does to this process, it does it to this process only."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Dies with the thread that started it: a module that is killed leaves nothing behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _environment() -> dict[str, str]:
    # One thread for numpy: its pools would reserve gigabytes of addresses on a machine with many cores.
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _judge(returncode: int, output: bytes) -> Proved:
    """The child's end in our words. Raises ModelRefused or ModelUnavailable."""
    if -returncode in _CRASHES:
        name = signal.Signals(-returncode).name
        raise ModelRefused("crashes-runtime", f"the process that tried it died of {name}")
    if -returncode == signal.SIGXCPU:
        raise ModelRefused("hangs-runtime", f"no answer within {_CPU_S} s of processor time")
    match _last_line(output):
        case {"proved": dict(figures)} if returncode == 0:
            return Proved(**figures)
        case {"refused": str(code), "message": str(message)}:
            raise ModelRefused(code, message)
        case {"unavailable": str(code), "message": str(message)}:
            raise ModelUnavailable(code, message)
    raise ModelUnavailable("no-proof", f"the proof ended with status {returncode} and no result")


def _last_line(output: bytes) -> Any:
    try:
        return json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        return None


def _runtime(runtime: str) -> str:
    try:
        return chosen(runtime)
    except EngineError as error:
        raise ModelUnavailable("no-runtime", _one_line(error)) from error


def check_runtime(runtime: str, minimum: Mapping[str, str]) -> None:
    """Raise ModelRefused when `runtime` is older than `minimum` says: name → lowest version that will do.

    A runtime that it does not name will do.
    """
    have, lowest = versions()[runtime], minimum.get(runtime)
    if lowest is not None and _parts(have) < _parts(lowest):
        raise ModelRefused("runtime-too-old", f"needs {runtime} {lowest[:32]}, this image has {have}")


def _parts(version: str) -> tuple[int, ...]:
    """2.14.0rc1 → (2, 14, 0): enough to say older or newer."""
    digits = ("".join(c for c in part[:9] if c.isdecimal()) for part in version.split(".")[:4])
    return tuple(int(part or 0) for part in digits)


def _check_answers(engine: Engine, artefact: Artefact) -> None:
    spec, probes = artefact.manifest.input, artefact.probes
    pictures = np.frombuffer(probes.images, np.uint8).reshape(-1, spec.height, spec.width, spec.channels)
    wrong = []
    for picture, expected in zip(pictures, probes.expected, strict=True):
        answer = engine.infer(picture)
        if not np.isfinite(answer).all():
            raise ModelRefused("wrong-answers", "a probe is answered with numbers that are not finite")
        got = artefact.labels[int(answer.argmax())]
        if got != expected:
            wrong.append(f"{expected!r} is taken for {got!r}")
    if wrong:
        raise ModelRefused("wrong-answers", f"{len(wrong)} of {probes.count} probes: {wrong[0]}")


def _time(engine: Engine, artefact: Artefact) -> list[float]:
    """Sorted times of up to _TIMED invokes, in ms."""
    spec = artefact.manifest.input
    picture = np.frombuffer(artefact.probes.images[: spec.pixels], np.uint8)
    picture = picture.reshape(spec.height, spec.width, spec.channels)
    times_ms: list[float] = []
    while len(times_ms) < _TIMED and sum(times_ms) < _TIMED_S * 1e3:
        begun = perf_counter()
        engine.infer(picture)
        times_ms.append((perf_counter() - begun) * 1e3)
    return sorted(times_ms)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
