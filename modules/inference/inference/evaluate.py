"""Evaluate an artefact on every TFLite runtime: make the device's proof, then count right predictions.

Each runtime evaluates in a process of its own (`python -m inference.evaluate FOLDER RUNTIME SCORE`). A
training has TensorFlow loaded, whose libraries break tflite-runtime in the same process ("vector::reserve").
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference import heads
from inference.artefact import MAX_ARTEFACT_BYTES, Artefact, BadArtefact, Found, Head, read
from inference.dataset.pictures import Pictures
from inference.drift.measures import of_frame
from inference.engine import Engine
from inference.frames.preprocess import prepare
from inference.metrics_model import Cost
from inference.models.errors import ModelRefused, ModelUnavailable
from inference.models.prove import Proved, Prover, check_runtime
from inference.runtimes import EngineError, interpreter, one_line, versions

ARTEFACT: Final = "model.tflite"
PICTURES: Final = "pictures.npy"
SCORE_MARGIN: Final = 0.05  # above the threshold: a runtime may score a little lower than another one
SAME_IOU: Final = 0.95  # of two runtimes' detections; a device's proof asks for less
PROOF_TIMEOUT_S: Final = 60.0  # a device allows 10; a machine that trains is busy


class NotVerified(Exception):
    """The model is not good enough, or not valid; the message is one line with the cure."""


class NotEvaluated(Exception):
    """A runtime cannot load or run the model; the message is one line."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one runtime predicted for the pictures, in their order."""

    labels: NDArray[np.int64]  # (count,), indices of the artefact's labels
    confidence: NDArray[np.float32]  # (count,)
    cost: Cost
    tensors: str  # the types of input and output, as "int8": of both, or "int8/float32" where they differ
    detections: tuple[NDArray[np.float32], ...] = ()  # of a detector, one answer for each picture
    measures: NDArray[np.float64] | None = None  # (count, `drift.measures` of the task), for a reference


@dataclass(frozen=True)
class Evaluation:
    """How good the predictions are."""

    accuracy: Mapping[str, float]  # runtime → share of right predictions
    confusion: tuple[tuple[int, ...], ...]  # true label → predicted label → count, on the first runtime

    @property
    def worst(self) -> float:
        """The accuracy on the worst runtime."""
        return min(self.accuracy.values())


def verify_file(path: Path, labels: Sequence[str], test: Pictures) -> Evaluation:
    """Prove the artefact in a file as a device does, then evaluate it on `test`, whose classes are `labels`.

    Every runtime that is new enough takes part. Raises NotVerified and NotEvaluated.
    """
    artefact = read_file(path)
    if artefact.labels != tuple(labels):
        known, wanted = ", ".join(artefact.labels[:5]), ", ".join(labels[:5])
        raise NotVerified(
            f"{path}: the model has the labels {known} …, the data set {wanted} …: use another --dataset"
        )
    skip = too_old(artefact.manifest.minimumRuntime)
    prove(path, skip)
    return count(evaluate(artefact.data, test.images, skip), test.labels, len(artefact.labels))


def read_file(path: Path) -> Artefact:
    """The artefact in a file. Raises NotVerified."""
    try:
        with path.open("rb") as file:
            return read(file.read(MAX_ARTEFACT_BYTES + 1))
    except (OSError, BadArtefact) as error:
        raise NotVerified(f"{path}: {error}") from error


def too_old(minimum: Mapping[str, str]) -> dict[str, str]:
    """Installed runtime → why it cannot load a model that needs these versions; empty when all can."""
    found = {}
    for runtime in versions():
        try:
            check_runtime(runtime, minimum)
        except ModelRefused as error:
            found[runtime] = str(error)
    return found


def prove(path: Path, skip: Collection[str] = ()) -> dict[str, Proved]:
    """Runtime → the result of the proof that a device makes before it loads a model. Raises NotVerified."""
    runtimes = [runtime for runtime in versions() if runtime not in skip]
    try:
        return {runtime: Prover(runtime, PROOF_TIMEOUT_S).run(path) for runtime in runtimes}
    except (ModelRefused, ModelUnavailable) as error:
        raise NotVerified(f"{path}: a device would refuse it: {error}") from error


def count(predictions: Mapping[str, Predictions], truth: NDArray[np.int64], classes: int) -> Evaluation:
    """Compare each runtime's predictions with the true labels, (count,)."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, next(iter(predictions.values())).labels), 1)
    return Evaluation(
        {runtime: float((each.labels == truth).mean()) for runtime, each in predictions.items()},
        tuple(tuple(int(number) for number in row) for row in table),
    )


def agreed(labels: Sequence[str], head: Head, answers: Sequence[NDArray[np.float32]]) -> tuple[Found, ...]:
    """The detections of one picture that every runtime makes, well above the threshold of the head."""
    first, *others = answers
    kept = []
    for row in first[first[:, 1] >= head.scoreThreshold + SCORE_MARGIN]:
        same = [other[other[:, 0] == row[0], 2:] for other in others]
        if all((heads.iou(row[2:], boxes) >= SAME_IOU).any() for boxes in same):
            left, top, right, bottom = row[2:].tolist()
            kept.append(Found(label=labels[int(row[0])], box=(left, top, right, bottom)))
    return tuple(kept)


def evaluate(
    artefact: bytes,
    images: NDArray[np.uint8],
    skip: Collection[str] = (),
    timeout_s: float | None = None,
    measured_from: float = 0.0,
) -> dict[str, Predictions]:
    """Runtime → its predictions for images, uint8 (count, H, W, C), on all installed runtimes but `skip`.

    The preferred runtime is first. Of a detector, labels and confidence are 0, and `measures` leaves out
    detections with a score below `measured_from`. Raises NotEvaluated.
    """
    runtimes = [runtime for runtime in versions() if runtime not in skip]
    if not runtimes:
        raise NotEvaluated("no installed TFLite runtime can load the model: install a newer ai-edge-litert")
    with tempfile.TemporaryDirectory(prefix="twinship-evaluate-") as name, ExitStack() as running:
        folder = Path(name)
        (folder / ARTEFACT).write_bytes(artefact)
        np.save(folder / PICTURES, images)
        children = {
            runtime: running.enter_context(_child(folder, runtime, measured_from)) for runtime in runtimes
        }
        return {runtime: _result(folder, runtime, child, timeout_s) for runtime, child in children.items()}


@contextmanager
def _child(folder: Path, runtime: str, measured_from: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "inference.evaluate", str(folder), runtime, str(measured_from)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()  # does nothing when the child has ended


def _result(folder: Path, runtime: str, child: subprocess.Popen[str], timeout_s: float | None) -> Predictions:
    try:
        _, stderr = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise NotEvaluated(f"{runtime}: no answer within {timeout_s:.0f} s") from error
    if child.returncode:
        last = (stderr.strip().splitlines() or [f"the process ended with {child.returncode}"])[-1]
        raise NotEvaluated(f"{runtime}: {last}")
    with np.load(_result_file(folder, runtime)) as found:
        cost = Cost(p50_ms=round(float(found["p50_ms"]), 4), memory_bytes=int(found["memory_bytes"]))
        ends = np.cumsum(found["counts"])[:-1]
        detections = tuple(np.split(found["detections"], ends)) if len(found["counts"]) else ()
        tensors, measures = str(found["tensors"]), found["measures"]
        return Predictions(found["labels"], found["confidence"], cost, tensors, detections, measures)


def _result_file(folder: Path, runtime: str) -> Path:
    return folder / f"{runtime}.npz"


def main() -> int:
    """The child process. Exit status 1 and one line on stderr when the model does not run."""
    folder, runtime, measured_from = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    try:
        artefact = read((folder / ARTEFACT).read_bytes())
        tensors = _tensors(artefact, runtime)  # imports the runtime, whose memory is not the model's cost
        images = np.load(folder / PICTURES)
        before = _resident_bytes()
        engine = Engine(artefact, runtime=runtime)
        engine.warm()
        memory_bytes = max(0, _resident_bytes() - before)
        outputs, p50_ms = _outputs(engine, images)
        detects = engine.task == "detection"
        answers = [each[each[:, 1] >= measured_from] for each in outputs] if detects else outputs
        measured = _measures(engine, images, answers)
    except (BadArtefact, EngineError, OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 1
    np.savez(
        _result_file(folder, runtime),
        labels=np.array([0 if detects else each.argmax() for each in outputs], np.int64),
        confidence=np.array([0 if detects else each.max() for each in outputs], np.float32),
        detections=np.concatenate(outputs) if detects else [],
        counts=[len(each) for each in outputs] if detects else [],
        measures=measured,
        p50_ms=p50_ms,
        memory_bytes=memory_bytes,
        tensors=tensors,
    )
    return 0


def _tensors(artefact: Artefact, runtime: str) -> str:
    loaded = interpreter(runtime, artefact.tflite, 1)
    sides = [*loaded.get_input_details(), *loaded.get_output_details()]
    return "/".join(dict.fromkeys(np.dtype(side["dtype"]).name for side in sides))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _outputs(engine: Engine, images: NDArray[np.uint8]) -> tuple[list[NDArray[np.float32]], float]:
    """The model's answer to each picture, and the median time of one picture in ms."""
    rows, times = [], []
    for image in images:
        pixels = prepare(image, engine.input)
        begun = perf_counter()
        rows.append(engine.infer(pixels))
        times.append(perf_counter() - begun)
    return rows, 1e3 * statistics.median(times)


def _measures(
    engine: Engine, images: NDArray[np.uint8], answers: Sequence[NDArray[np.float32]]
) -> list[list[float]]:
    """What a device would measure of each picture and its answer."""
    pictures = (prepare(image, engine.input) for image in images)
    return [of_frame(engine.task, *each) for each in zip(pictures, answers, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
