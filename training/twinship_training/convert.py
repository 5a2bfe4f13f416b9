"""From a trained Keras model to a TFLite flatbuffer, in one of four optimisations.

Whether it still answers well is `verify`'s to say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.models.errors import ModelRefused
from inference.models.prove import check_runtime
from inference.runtimes import versions
from twinship_training.fit import real
from twinship_training.strip_metadata import MINIMUM_RUNTIME, slim
from twinship_training.tf_import import silenced, tensorflow

REPRESENTATIVE: Final = 300  # pictures of the training data, from which the range of every tensor is taken

Samples = Callable[[], Iterator[list[NDArray[np.float32]]]]


def _int8(tf: Any, converter: Any, samples: Samples) -> None:
    # int8 in, int8 out, and int8 operators only: the converter raises where there is none for a layer.
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8


def _float16(tf: Any, converter: Any, samples: Samples) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _dynamic(tf: Any, converter: Any, samples: Samples) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _float32(tf: Any, converter: Any, samples: Samples) -> None:
    converter.optimizations = []


@dataclass(frozen=True)
class Optimisation:
    """What is made of the float model; after https://ai.google.dev/edge/litert/models/model_optimization."""

    about: str
    tensors: str  # the type of its input and output
    prepare: Callable[[Any, Any, Samples], None]  # the converter, by means of tensorflow


OPTIMISATIONS: Final[Mapping[str, Optimisation]] = {
    "int8": Optimisation("weights, activations, input and output int8", "int8", _int8),
    "float16": Optimisation("weights float16, computed in float32", "float32", _float16),
    "dynamic": Optimisation("weights int8, activations as they come", "float32", _dynamic),
    "float32": Optimisation("nothing but the conversion", "float32", _float32),
}


def converted(model: Any, optimisation: str, representative: NDArray[np.uint8]) -> bytes:
    """The flatbuffer; `representative` is uint8 (count, H, W, C), taken from the training data."""
    tf, _ = tensorflow()

    def samples() -> Iterator[list[NDArray[np.float32]]]:
        for picture in real(representative):
            yield [picture[np.newaxis]]

    with silenced(), tempfile.TemporaryDirectory(prefix="twinship-convert-") as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        OPTIMISATIONS[optimisation].prepare(tf, converter, samples)
        return slim(converter.convert())


def minimum_runtime(tflite: bytes) -> dict[str, str]:
    """Runtime name → lowest version that has every operator, as the converter wrote it into the flatbuffer.

    tflite-runtime is numbered as TensorFlow is; LiteRT's 1.0 came after TensorFlow 2.17.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(tflite, 0)
    for place in range(model.MetadataLength()):
        entry = model.Metadata(place)
        if entry.Name() == MINIMUM_RUNTIME:
            version = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().rstrip(b"\0").decode()
            return {"litert": "1.0.0", "tflite_runtime": version}
    return {}


def too_old(minimum: Mapping[str, str]) -> dict[str, str]:
    """Runtime of this machine → why it cannot load a model that asks for these versions; often empty."""
    found = {}
    for runtime in versions():
        try:
            check_runtime(runtime, minimum)
        except ModelRefused as error:
            found[runtime] = str(error)
    return found
