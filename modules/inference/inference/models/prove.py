"""The proof: a model loads, matches its manifest and answers its probes, in a child process.

The rule that must hold: no model is loaded into the module's process before its proof, because a damaged
flatbuffer can kill or hang the runtime. `python -m inference.models.prove FILE` is the child. It writes one
JSON line and exits with 0, or with 1 if there is no proof. Prover runs it.
"""

import argparse
import math
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from inference import heads
from inference.artefact import MAX_ARTEFACT_BYTES, Artefact, BadArtefact, Manifest, read
from inference.engine import Engine, EngineError, NeedsDelegate
from inference.models.child_process import (
    ONE_THREAD,
    ChildProcess,
    Ended,
    TookTooLong,
    confine,
    module_command,
    outcome,
    print_result,
    raise_verdict,
)
from inference.models.errors import ModelRefused, ModelUnavailable
from inference.runtimes import chosen, one_line, versions

MAX_MEMORY_BYTES = 1024**3  # of addresses; LiteRT with numpy takes 150 MB of them without a model
MIN_IOU = 0.9  # of a detection in a probe and of the device's own
_CPU_S = 10
_TIMED = 50
_TIMED_S = 1.0  # at most this long, however slow the model is
# Signals by which a broken model ends a process. SIGKILL and SIGTERM come from outside and prove nothing.
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
    """The figures of a proof. They come from a niced process, so they indicate only."""

    runtime: str  # "litert 2.3.0"
    load_ms: float
    p50_ms: float
    p95_ms: float


def prove(data: bytes, runtime: str, delegate: str = "", name: str = "") -> Proved:
    """In the child. Raises ModelRefused or ModelUnavailable; may crash or never return.

    `name` is the signed `name:version`; empty: any.
    """
    runtime = _runtime(runtime)
    try:
        artefact = read(data)
    except BadArtefact as error:
        raise ModelRefused("bad-artefact", error.reason) from error
    if name:
        check_name(artefact.manifest, name)
    check_runtime(runtime, artefact.manifest.minimumRuntime)
    began = perf_counter()
    try:
        engine = Engine(artefact, runtime=runtime, delegate=delegate)
        _check_answers(engine, artefact)
        engine.warm()
        load_ms = (perf_counter() - began) * 1e3
        invokes_ms = _time(engine, artefact)
        _check_speed(invokes_ms[0], artefact.manifest.latencyBudgetMs)
    except ModelRefused:
        raise
    except NeedsDelegate as error:
        raise ModelRefused("needs-delegate", one_line(error)) from error
    except Exception as error:  # runtimes raise any class; the model is the only cause here
        raise ModelRefused("does-not-load", one_line(error)) from error
    p50, p95 = statistics.median(invokes_ms), invokes_ms[math.ceil(0.95 * len(invokes_ms)) - 1]
    return Proved(f"{runtime} {versions()[runtime]}", load_ms, p50, p95)


class Prover:
    """Proves one model at a time in a child process.

    `command` runs a proof; FILE, `--runtime R`, `--delegate D` and `--name N` are added to it.
    """

    def __init__(
        self,
        runtime: str,
        timeout_s: float = 10.0,
        command: Sequence[str] | None = None,
        child: ChildProcess | None = None,
        delegate: str = "",
    ) -> None:
        self._timeout_s = timeout_s
        self._options = ["--runtime", runtime, *(["--delegate", delegate] if delegate else [])]
        self._command = command or module_command("inference.models.prove")
        self._child = child or ChildProcess()

    def run(self, path: Path, name: str = "") -> Proved:
        """Raises ModelRefused or ModelUnavailable. `name`: the artefact's own `name:version`; empty: any."""
        argv = [*self._command, str(path), *self._options, *(["--name", name] if name else [])]
        try:
            return _judge(self._yielding(argv))
        except OSError as error:
            raise ModelUnavailable("no-proof", f"the proof did not start: {error.strerror}") from error
        except TookTooLong as error:
            if error.starved:  # the device is at fault, not the model
                raise ModelUnavailable("no-proof", f"{error}: the device is too busy") from error
            raise ModelRefused("hangs-runtime", str(error)) from error

    def _yielding(self, argv: Sequence[str]) -> Ended:
        """Run at SCHED_IDLE; if that starves the proof, run it again at nice +10."""
        run = partial(self._child.run, argv, timeout_s=self._timeout_s, environment=ONE_THREAD)
        try:
            return run(idle=True)
        except TookTooLong as error:
            if not error.starved:
                raise
            return run()


def main(argv: Sequence[str]) -> int:
    """The child process."""
    parser = argparse.ArgumentParser(
        prog="python -m inference.models.prove", description="Try one model artefact."
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--delegate", default="", metavar="LIBRARY")
    parser.add_argument("--name", default="", metavar="NAME:VERSION")
    options = parser.parse_args(argv)
    confine(MAX_MEMORY_BYTES, _CPU_S)
    return print_result(
        outcome(
            lambda: {
                "proved": asdict(_prove_file(options.file, options.runtime, options.delegate, options.name))
            }
        )
    )


def _prove_file(path: Path, runtime: str, delegate: str, name: str) -> Proved:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ARTEFACT_BYTES + 1)
    except OSError as error:
        raise ModelUnavailable("no-proof", f"{path.name}: {error.strerror}") from error
    return prove(data, runtime, delegate, name)


def _judge(ended: Ended) -> Proved:
    """Translate the end of the child. Raises ModelRefused or ModelUnavailable."""
    if -ended.status in _CRASHES:
        name = signal.Signals(-ended.status).name
        raise ModelRefused("crashes-runtime", f"the process that tried it died of {name}")
    if -ended.status == signal.SIGXCPU:
        raise ModelRefused("hangs-runtime", f"no answer within {_CPU_S} s of processor time")
    match ended.result:
        case {"proved": dict(figures)} if ended.status == 0:
            return Proved(**figures)
    raise_verdict(ended.result)
    raise ModelUnavailable("no-proof", f"the proof ended with status {ended.status} and no result")


def _runtime(runtime: str) -> str:
    try:
        return chosen(runtime)
    except EngineError as error:
        raise ModelUnavailable("no-runtime", one_line(error)) from error


def check_name(manifest: Manifest, name: str) -> None:
    """Raise ModelRefused unless the artefact's own name and version are these, `name:version`."""
    own_name = f"{manifest.name}:{manifest.version}"
    if own_name != name:
        raise ModelRefused("wrong-name", f"{name}: the artefact calls itself {own_name}")


def check_runtime(runtime: str, minimum: Mapping[str, str]) -> None:
    """Raise ModelRefused if `runtime` is older than in `minimum`, which maps names to the lowest version.

    A runtime that `minimum` does not name passes.
    """
    have, lowest = versions()[runtime], minimum.get(runtime)
    if lowest is not None and _parts(have) < _parts(lowest):
        raise ModelRefused("runtime-too-old", f"needs {runtime} {lowest[:32]}, this image has {have}")


def _parts(version: str) -> tuple[int, ...]:
    """2.14.0rc1 → (2, 14, 0), to compare versions."""
    digits = ("".join(c for c in part[:9] if c.isdecimal()) for part in version.split(".")[:4])
    return tuple(int(part or 0) for part in digits)


def _check_answers(engine: Engine, artefact: Artefact) -> None:
    spec, probes = artefact.manifest.input, artefact.probes
    pictures = np.frombuffer(probes.images, np.uint8).reshape(-1, spec.height, spec.width, spec.channels)
    wrong = []
    for index, picture in enumerate(pictures):
        answer = engine.infer(picture)
        if not np.isfinite(answer).all():
            raise ModelRefused("wrong-answers", "a probe is answered with numbers that are not finite")
        compare = _wrong_detection if probes.detections else _wrong_label
        wrong += compare(answer, index, artefact)
    if wrong:
        raise ModelRefused("wrong-answers", f"{len(wrong)} of {probes.count} probes: {wrong[0]}")


def _wrong_label(scores: NDArray[np.float32], index: int, artefact: Artefact) -> list[str]:
    expected, got = artefact.probes.expected[index], artefact.labels[int(scores.argmax())]
    return [] if got == expected else [f"{expected!r} is taken for {got!r}"]


def _wrong_detection(found: NDArray[np.float32], index: int, artefact: Artefact) -> list[str]:
    """Each detection that the probe shows must be found: the same label, IoU of the boxes at least MIN_IOU.

    More than these may be found: a score beside the threshold differs a little between runtimes.
    """
    for expected in artefact.probes.detections[index]:
        same = found[found[:, 0] == artefact.labels.index(expected.label), 2:]
        if not (heads.iou(np.array(expected.box, np.float32), same) >= MIN_IOU).any():
            return [f"{expected.label!r} of probe {index} is not found where it is"]
    return []


def _check_speed(fastest_ms: float, budget_ms: float) -> None:
    """A niced proof says little about p95, so only the fastest invoke is compared with the budget."""
    if fastest_ms > budget_ms:
        message = f"the quickest of its probes took {fastest_ms:.3g} ms; its budget is {budget_ms:g} ms"
        raise ModelRefused("over-budget", message)


def _time(engine: Engine, artefact: Artefact) -> list[float]:
    """Sorted times of up to _TIMED invokes, in ms."""
    spec = artefact.manifest.input
    pixels = np.frombuffer(artefact.probes.images[: spec.pixels], np.uint8)
    picture = pixels.reshape(spec.height, spec.width, spec.channels)
    times_ms: list[float] = []
    while len(times_ms) < _TIMED and sum(times_ms) < _TIMED_S * 1e3:
        began = perf_counter()
        engine.infer(picture)
        times_ms.append((perf_counter() - began) * 1e3)
    return sorted(times_ms)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
