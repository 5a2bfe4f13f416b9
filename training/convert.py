"""From a trained Keras model to a TFLite flatbuffer that holds and takes nothing but int8.

Whether it still answers well is `verify`'s to say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.fit import real
from training.quiet import silenced, tensorflow

REPRESENTATIVE: Final = 300  # pictures of the training data, from which the range of every tensor is taken
MINIMUM_RUNTIME: Final = (
    b"min_runtime_version"  # the converter's metadata: the first TensorFlow that loads it
)


def to_int8(model: Any, representative: NDArray[np.uint8]) -> bytes:
    """The int8 flatbuffer; `representative` is uint8 (count, H, W, C), taken from the training data.

    int8 in, int8 out, and int8 operators only: the converter raises where there is none for a layer.
    """
    tf, _ = tensorflow()

    def samples() -> Iterator[list[NDArray[np.float32]]]:
        for picture in real(representative):
            yield [picture[np.newaxis]]

    with silenced(), tempfile.TemporaryDirectory(prefix="twinship-convert-") as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())


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
