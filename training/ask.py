"""Put pictures to an artefact through the device's own code, in a process of its own for each runtime.

Apart, because a device has no TensorFlow, and because TensorFlow's libraries, once loaded, break
tflite-runtime in the same process ("vector::reserve"). What the answers are worth is `verify`'s to say.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import Artefact, BadArtefact, read
from inference.engine import Engine
from inference.preprocess import prepare
from inference.runtimes import EngineError, interpreter, versions
from training import TrainingError

ARTEFACT: Final = "model.tflite"
PICTURES: Final = "pictures.npy"


class NotAnswered(TrainingError):
    """A runtime cannot load or run the model."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What one runtime answered to the pictures, in their order."""

    predicted: NDArray[np.int64]  # (count,), a place in the labels
    confidence: NDArray[np.float32]  # (count,)

    def part(self, places: slice) -> Answers:
        return Answers(self.predicted[places], self.confidence[places])


def ask(artefact: bytes, images: NDArray[np.uint8]) -> dict[str, Answers]:
    """Runtime → its answers to images, uint8 (count, H, W, C); every one installed, the preferred one first.

    Raises NotAnswered.
    """
    if not (runtimes := versions()):
        raise NotAnswered("no TFLite runtime here: install ai-edge-litert or tflite-runtime")
    with tempfile.TemporaryDirectory(prefix="twinship-verify-") as name, ExitStack() as running:
        folder = Path(name)
        (folder / ARTEFACT).write_bytes(artefact)
        np.save(folder / PICTURES, images)
        children = {runtime: running.enter_context(_child(folder, runtime)) for runtime in runtimes}
        return {runtime: _answers(folder, runtime, child) for runtime, child in children.items()}


@contextmanager
def _child(folder: Path, runtime: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "training.ask", str(folder), runtime]
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
        return Answers(found["predicted"], found["confidence"])


def _result(folder: Path, runtime: str) -> Path:
    return folder / f"{runtime}.npz"


def main() -> int:
    """The child: FOLDER RUNTIME. One line on stderr and 1 when the model does not run."""
    folder, runtime = Path(sys.argv[1]), sys.argv[2]
    try:
        artefact = read((folder / ARTEFACT).read_bytes())
        check_int8(artefact, runtime)
        outputs = _outputs(Engine(artefact, runtime=runtime), np.load(folder / PICTURES))
    except (BadArtefact, EngineError, OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    np.savez(_result(folder, runtime), predicted=outputs.argmax(axis=1), confidence=outputs.max(axis=1))
    return 0


def check_int8(artefact: Artefact, runtime: str) -> None:
    """Raise EngineError unless the model takes and gives int8."""
    loaded = interpreter(runtime, artefact.tflite, 1)
    sides: Mapping[str, list[dict[str, object]]] = {
        "input": loaded.get_input_details(),
        "output": loaded.get_output_details(),
    }
    for side, tensors in sides.items():
        if any(tensor["dtype"] != np.int8 for tensor in tensors):
            raise EngineError(f"the model's {side} is not int8")


def _outputs(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.stack([engine.infer(prepare(image, engine.input)) for image in images])


if __name__ == "__main__":
    sys.exit(main())
