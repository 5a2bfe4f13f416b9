"""From a trained Keras model to a TFLite flatbuffer, in one of four optimisations.

`strip_metadata` then removes the names of inner tensors and the converter's notes. No runtime needs them, and
they are a tenth of a small model's file. `with_metadata` adds normalisation and labels for other tools.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import InputSpec
from twinship_training import tflite_metadata
from twinship_training.fit import scaled
from twinship_training.tf_import import silenced, tensorflow

REPRESENTATIVE: Final = 300  # training pictures from which the converter takes the range of every tensor
IDENTIFIER: Final = b"TFL3"
ALIGNMENT: Final = 16  # bytes: `force_align` of Buffer.data in TFLite's schema.fbs, which Pack() ignores
MINIMUM_RUNTIME: Final = b"min_runtime_version"  # the converter's note: the first TensorFlow that can load it


@dataclass(frozen=True)
class Optimisation:
    """A way to convert; see https://ai.google.dev/edge/litert/models/model_optimization."""

    about: str
    tensors: str  # the type of input and output


OPTIMISATIONS: Final[Mapping[str, Optimisation]] = {
    "int8": Optimisation("weights, activations, input and output int8", "int8"),
    "float16": Optimisation("weights float16, computed in float32", "float32"),
    "dynamic": Optimisation("weights int8, activations quantised while they are computed", "float32"),
    "float32": Optimisation("only converted", "float32"),
}


def convert(model: Any, optimisation: str, representative: NDArray[np.uint8], spec: InputSpec) -> bytes:
    """The flatbuffer. `representative` holds training pictures, uint8 (count, H, W, C)."""
    tf, _ = tensorflow()
    with silenced(), tempfile.TemporaryDirectory(prefix="twinship-convert-") as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [] if optimisation == "float32" else [tf.lite.Optimize.DEFAULT]
        if optimisation == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if optimisation == "int8":
            # int8 input, output and operators only: the converter raises if a layer has no int8 operator.
            converter.representative_dataset = lambda: (
                [scaled(one[np.newaxis], spec)] for one in representative
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return with_metadata(strip_metadata(converter.convert()), spec)


def minimum_runtime(tflite: bytes) -> dict[str, str]:
    """Runtime name → lowest version that has every operator, as the converter wrote it into the flatbuffer.

    tflite-runtime has TensorFlow's version numbers; LiteRT's 1.0 came after TensorFlow 2.17.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(tflite, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == MINIMUM_RUNTIME:
            version = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().rstrip(b"\0").decode()
            return {"litert": "1.0.0", "tflite_runtime": version}
    return {}


def strip_metadata(tflite: bytes) -> bytes:
    """The same model; input and output are named "input" and "output", inner tensors have no name.

    Several outputs come in the order of the Keras model's, which are output_0, output_1 … in the
    signature: the converter leaves them in an order of its own.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    for signature in model.signatureDefs or ():
        named = sorted(signature.outputs, key=lambda each: each.name)
        model.subgraphs[signature.subgraphIndex].outputs = [each.tensorIndex for each in named]
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = b""
        for name, indices in ((b"input", graph.inputs), (b"output", graph.outputs)):
            for index in indices:
                graph.tensors[index].name = name
    for note in [each for each in model.metadata or () if each.name != MINIMUM_RUNTIME]:
        model.buffers[note.buffer].data = None
        model.metadata.remove(note)
    model.description = None
    return _packed(schema, model, len(tflite))


def with_metadata(tflite: bytes, spec: InputSpec) -> bytes:
    """The same model with TFLite Model Metadata, for the tools of others."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    note, buffer = schema.MetadataT(), schema.BufferT()
    note.name, note.buffer = tflite_metadata.NAME, len(model.buffers)
    buffer.data = np.frombuffer(tflite_metadata.described(spec), np.uint8)
    model.metadata = [*(model.metadata or ()), note]
    model.buffers.append(buffer)
    return _packed(schema, model, len(tflite))


def _packed(schema: Any, model: Any, size: int) -> bytes:
    import flatbuffers  # type: ignore[import-untyped]

    model.buffers = [_aligned(schema, buffer) for buffer in model.buffers]
    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _aligned(schema: Any, buffer: Any) -> Any:
    class Aligned(schema.BufferT):  # type: ignore[misc]
        """A buffer that packs its data at a multiple of ALIGNMENT, so that a runtime can use it in place."""

        def Pack(self, builder: Any) -> int:
            if self.data is None or not len(self.data):
                return int(super().Pack(builder))
            builder.StartVector(1, len(self.data), ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = bytes(self.data)
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            return int(schema.BufferEnd(builder))

    return Aligned(buffer.data, buffer.offset, buffer.size)
