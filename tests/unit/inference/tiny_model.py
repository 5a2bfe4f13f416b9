"""A TFLite model that is built in a millisecond. It answers which band of rows is the brightest.

The tests of training have models of their own.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from inference.artefact import Artefact, InputSpec, Manifest, Probes, pack, read

LABELS = ("top", "middle", "bottom")
SPEC = InputSpec(height=6, width=4, channels=1)

_FULLY_CONNECTED, _SOFTMAX, _CUSTOM = 9, 25, 32  # schema.BuiltinOperator
_GAIN = 12.0  # of the logits: a band of white against black ones is sure to 0.9999

Kind = Literal["int8", "float32"]


def band(place: int, spec: InputSpec = SPEC, labels: Sequence[str] = LABELS) -> NDArray[np.uint8]:
    """The picture of labels[place]: that band white, the rest black."""
    pixels = np.zeros((spec.height, spec.width, spec.channels), np.uint8)
    pixels[_rows(place, spec.height, len(labels))] = 255
    return pixels


def artefact(
    *,
    spec: InputSpec = SPEC,
    labels: Sequence[str] = LABELS,
    kind: Kind = "int8",
    version: str = "1.0.0",
    flatbuffer: bytes | None = None,
) -> Artefact:
    """The model as an artefact; `flatbuffer` replaces the model but not the manifest."""
    manifest = Manifest.model_validate(
        {
            "name": "bands",
            "version": version,
            "architecture": "hand-made",
            "input": spec,
            "latencyBudgetMs": 50,
            "weightsSha256": "c0ffee",
        }
    )
    probes = Probes(band(0, spec, labels).tobytes(), (labels[0],))
    return read(pack(flatbuffer or tflite(spec, tuple(labels), kind), manifest, labels, probes))


@cache
def tflite(spec: InputSpec, labels: tuple[str, ...], kind: Kind = "int8") -> bytes:
    """Softmax over one fully connected layer: each label's weight is 1/n over the n pixels of its band."""
    model = _Model(kind)
    pixels = model.tensor((1, spec.height, spec.width, spec.channels), scale=1 / 255, zero_point=-128)
    weights = model.constant(_weights(spec, len(labels)), _weight_scale(spec, len(labels)))
    logits = model.tensor((1, len(labels)), scale=_GAIN / 255, zero_point=-128)
    scores = model.tensor((1, len(labels)), scale=1 / 256, zero_point=-128)
    model.operator(_FULLY_CONNECTED, "FullyConnectedOptions", [pixels, weights, -1], logits)
    softmax = model.operator(_SOFTMAX, "SoftmaxOptions", [logits], scores)
    softmax.beta = 1.0
    return model.pack(pixels, scores)


def for_edge_tpu(spec: InputSpec = SPEC, labels: Sequence[str] = LABELS) -> bytes:
    """A model as edgetpu_compiler writes it: one custom operator, which only its delegate has."""
    model = _Model("int8")
    pixels = model.tensor((1, spec.height, spec.width, spec.channels), scale=1 / 255, zero_point=-128)
    scores = model.tensor((1, len(labels)), scale=1 / 256, zero_point=-128)
    model.custom_operator(b"edgetpu-custom-op", [pixels], scores)
    return model.pack(pixels, scores)


def _rows(place: int, height: int, count: int) -> slice:
    return slice(place * height // count, (place + 1) * height // count)


def _weights(spec: InputSpec, count: int) -> NDArray[np.float32]:
    weights = np.zeros((count, spec.height, spec.width, spec.channels), np.float32)
    for place in range(count):
        rows = weights[place, _rows(place, spec.height, count)]
        rows[:] = _GAIN / rows.size
    return weights.reshape(count, -1)


def _weight_scale(spec: InputSpec, count: int) -> float:
    return float(_weights(spec, count).max()) / 127


class _Model:
    """The object tree of the flatbuffer, for LiteRT's own schema."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._graph: Any = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model: Any = schema.ModelT()
        self._model.version = 3
        self._model.buffers = [schema.BufferT()]  # the first is empty, for tensors without data
        self._model.operatorCodes = []

    def tensor(self, shape: tuple[int, ...], scale: float, zero_point: int = 0, buffer: int = 0) -> int:
        tensor: Any = schema.TensorT()
        tensor.shape, tensor.buffer = list(shape), buffer
        tensor.name = f"tensor{len(self._graph.tensors)}"
        tensor.type = schema.TensorType.INT8 if self._kind == "int8" else schema.TensorType.FLOAT32
        if self._kind == "int8":
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, values: NDArray[np.float32], scale: float) -> int:
        stored = np.rint(values / scale).astype(np.int8) if self._kind == "int8" else values
        buffer: Any = schema.BufferT()
        buffer.data = np.frombuffer(stored.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self.tensor(values.shape, scale, buffer=len(self._model.buffers) - 1)

    def operator(self, code: int, options: str, inputs: list[int], output: int) -> Any:
        kind: Any = schema.OperatorCodeT()
        kind.builtinCode = kind.deprecatedBuiltinCode = code
        kind.version = 4 if (code, self._kind) == (_FULLY_CONNECTED, "int8") else 1
        kind.version = 2 if (code, self._kind) == (_SOFTMAX, "int8") else kind.version
        self._model.operatorCodes.append(kind)
        operator: Any = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        operator.builtinOptions = getattr(schema, f"{options}T")()
        self._graph.operators.append(operator)
        return operator.builtinOptions

    def custom_operator(self, name: bytes, inputs: list[int], output: int) -> None:
        kind: Any = schema.OperatorCodeT()
        kind.builtinCode = kind.deprecatedBuiltinCode = _CUSTOM
        kind.customCode, kind.version = name, 1
        self._model.operatorCodes.append(kind)
        operator: Any = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [output]
        self._graph.operators.append(operator)

    def pack(self, source: int, sink: int) -> bytes:
        self._graph.inputs, self._graph.outputs = [source], [sink]
        self._model.subgraphs = [self._graph]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
