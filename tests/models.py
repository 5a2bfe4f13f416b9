"""A tiny TFLite model as an artefact. TensorFlow converts it once, into build/test-models/.

The model predicts which quadrant of 8 × 8 grey pixels is the brightest. `python -m tests.models FILE`
converts it in a process of its own, so that the tests do not load TensorFlow.
"""

import fcntl
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.artefact import InputSpec, Manifest, Probes, pack

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "test-models"
#: Models and photographs of others, which most machines do not have.
REAL_DATA = Path(os.environ.get("TWINSHIP_TEST_DATA", ROOT.parent / "shared" / "data"))
LABELS = ("north-west", "north-east", "south-west", "south-east")
NEEDS_TFLITE_RUNTIME = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="tflite-runtime has wheels for Python 3.11 only"
)
#: For parametrize: each runtime that this Python can have.
RUNTIMES = ("litert", pytest.param("tflite_runtime", marks=NEEDS_TFLITE_RUNTIME))
SPEC = InputSpec(height=8, width=8, channels=1)


def quadrant(place: int) -> NDArray[np.uint8]:
    """A picture for which the model predicts LABELS[place]: that quadrant white, the rest black."""
    pixels = np.zeros((8, 8, 1), np.uint8)
    row, column = divmod(place, 2)
    pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
    return pixels


def tiny_artefact(
    name: str = "tiny",
    version: str = "1.0.0",
    *,
    tflite: bytes | None = None,
    labels: Sequence[str] = LABELS,
    expected: Sequence[str] = LABELS,
    latency_budget_ms: float = 1000.0,
    minimum_runtime: Mapping[str, str] | None = None,
) -> bytes:
    """The packed artefact. An argument replaces the right value."""
    manifest = Manifest(
        name=name,
        version=version,
        architecture="quadrants",
        input=SPEC,
        latencyBudgetMs=latency_budget_ms,
        minimumRuntime=dict(minimum_runtime or {}),
        metrics={"accuracy": 1.0},
        dataset="quadrants",
        weightsSha256=hashlib.sha256(version.encode()).hexdigest(),
        created="2024-01-01T00:00:00Z",
    )
    images = b"".join(quadrant(LABELS.index(label) if label in LABELS else 0).tobytes() for label in LABELS)
    return pack(tflite or tiny_tflite(), manifest, labels, Probes(images, tuple(expected)))


@cache
def tiny_tflite() -> bytes:
    """The int8 flatbuffer, converted by the first process that needs it and then read from the cache."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    path = FOLDER / f"quadrants-{recipe}.tflite"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            temporary = path.with_suffix(f".{os.getpid()}")
            command = [sys.executable, "-m", "tests.models", str(temporary)]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
            os.replace(temporary, path)
    return path.read_bytes()


def deadly_tflite() -> bytes:
    """The flatbuffer with its root 2 GB behind its end: the older runtime always dies of SIGSEGV.

    What it does with a truncated file depends on what lies behind the buffer.
    """
    return struct.pack("<I", 0x7FFFFFF0) + tiny_tflite()[4:]


def _convert(path: Path) -> None:
    import tensorflow as tf

    model = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 1)),
            tf.keras.layers.AveragePooling2D(4),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(4),
            tf.keras.layers.Softmax(),
        ]
    )
    model.set_weights([8 * np.eye(4, dtype=np.float32), np.zeros(4, np.float32)])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    samples = [quadrant(place)[np.newaxis].astype(np.float32) / 255 for place in range(4)]
    converter.representative_dataset = lambda: ([sample] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())


if __name__ == "__main__":
    _convert(Path(sys.argv[1]))
