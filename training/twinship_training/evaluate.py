"""Put pictures to an artefact through the device's own code, in a process of its own for each runtime.

The child also says what an answer costs. What the answers are worth is `verify`'s to say.

Apart, because a device has no TensorFlow, and because TensorFlow's libraries, once loaded, break
tflite-runtime in the same process ("vector::reserve").
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import Artefact, BadArtefact, read
from inference.engine import Engine
from inference.frames.preprocess import prepare
from inference.runtimes import EngineError, interpreter, versions
from twinship_training import TrainingError

ARTEFACT: Final = "model.tflite"
PICTURES: Final = "pictures.npy"


class NotAnswered(TrainingError):
    """A runtime cannot load or run the model."""


@dataclass(frozen=True)
class Cost:
    """What one picture takes on this machine: an indication."""

    p50_ms: float  # the median time of an answer, one thread
    memory_bytes: int  # resident memory that the loaded model added to the process


@dataclass(frozen=True, eq=False)
class Answers:
    """What one runtime answered to the pictures, in their order."""

    predicted: NDArray[np.int64]  # (count,), a place in the labels
    confidence: NDArray[np.float32]  # (count,)
    cost: Cost
    tensors: str  # the types of input and output, as "int8": those of both, or of either joined by "/"

    def part(self, places: slice) -> Answers:
        return replace(self, predicted=self.predicted[places], confidence=self.confidence[places])


def ask(artefact: bytes, images: NDArray[np.uint8], besides: Collection[str] = ()) -> dict[str, Answers]:
    """Runtime → its answers to images, uint8 (count, H, W, C); every one installed, the preferred one first.

    Runtimes `besides` are left out. Raises NotAnswered.
    """
    runtimes = [runtime for runtime in versions() if runtime not in besides]
    if not runtimes:
        raise NotAnswered("no TFLite runtime here that loads it: install a newer ai-edge-litert")
    with tempfile.TemporaryDirectory(prefix="twinship-verify-") as name, ExitStack() as running:
        folder = Path(name)
        (folder / ARTEFACT).write_bytes(artefact)
        np.save(folder / PICTURES, images)
        children = {runtime: running.enter_context(_child(folder, runtime)) for runtime in runtimes}
        return {runtime: _answers(folder, runtime, child) for runtime, child in children.items()}


@contextmanager
def _child(folder: Path, runtime: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "twinship_training.evaluate", str(folder), runtime]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()  # nothing when it has ended


def _answers(folder: Path, runtime: str, child: subprocess.Popen[str]) -> Answers:
    _, said = child.communicate()
    if child.returncode:
        last = (said.strip().splitlines() or [f"it ended with {child.returncode}"])[-1]
        raise NotAnswered(f"{runtime}: {last}")
    with np.load(_result(folder, runtime)) as found:
        cost = Cost(float(found["p50_ms"]), int(found["memory_bytes"]))
        return Answers(found["predicted"], found["confidence"], cost, str(found["tensors"]))


def _result(folder: Path, runtime: str) -> Path:
    return folder / f"{runtime}.npz"


def main() -> int:
    """The child: FOLDER RUNTIME. One line on stderr and 1 when the model does not run."""
    folder, runtime = Path(sys.argv[1]), sys.argv[2]
    try:
        artefact = read((folder / ARTEFACT).read_bytes())
        tensors = _tensors(
            artefact, runtime
        )  # which imports the runtime, that no model is to be charged with
        images = np.load(folder / PICTURES)
        before = _resident_bytes()
        engine = Engine(artefact, runtime=runtime)
        engine.warm()
        memory_bytes = max(0, _resident_bytes() - before)
        outputs, p50_ms = _outputs(engine, images)
    except (BadArtefact, EngineError, OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    np.savez(
        _result(folder, runtime),
        predicted=outputs.argmax(axis=1),
        confidence=outputs.max(axis=1),
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


def _outputs(engine: Engine, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """One row for each picture, and the median time of one in ms."""
    rows, times = [], []
    for image in images:
        pixels = prepare(image, engine.input)
        begun = perf_counter()
        rows.append(engine.infer(pixels))
        times.append(perf_counter() - begun)
    return np.stack(rows), 1e3 * statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
