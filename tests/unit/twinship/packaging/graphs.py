"""Foreign TFLite models for the tests, built in a millisecond with LiteRT's own schema, all float32.

Each takes pictures whose pixels are divided by 255 (mean 0, std 255).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from numpy.typing import NDArray

CUSTOM, FULLY_CONNECTED, LOGISTIC, RESHAPE, SOFTMAX = 32, 9, 14, 22, 25  # schema.BuiltinOperator
SIDE = 8


class Graph:
    """A model with one subgraph; tensors are named by their index."""

    def __init__(self) -> None:
        self._graph: Any = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model: Any = schema.ModelT()
        self._model.version, self._model.operatorCodes = 3, []
        self._model.buffers = [schema.BufferT()]

    def tensor(self, *shape: int, values: NDArray[Any] | None = None, kind: str = "FLOAT32") -> int:
        tensor: Any = schema.TensorT()
        tensor.shape, tensor.name = list(shape), f"tensor{len(self._graph.tensors)}"
        tensor.type = getattr(schema.TensorType, kind)
        if values is not None:
            buffer: Any = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def operator(
        self,
        code: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        custom: tuple[str, bytes] = ("", b""),
    ) -> Any:
        kind: Any = schema.OperatorCodeT()
        kind.builtinCode = kind.deprecatedBuiltinCode = code
        kind.version, kind.customCode = 1, custom[0].encode() or None
        self._model.operatorCodes.append(kind)
        operator: Any = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if custom[1]:
            operator.customOptions = np.frombuffer(custom[1], np.uint8)
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
        self._graph.operators.append(operator)
        return operator.builtinOptions

    def pack(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)
        self._model.subgraphs = [self._graph]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def dense(graph: Graph, picture: int, weights: NDArray[np.float32]) -> int:
    """A fully connected layer over the whole picture; weights (outputs, SIDE * SIDE * 3)."""
    made = graph.tensor(1, len(weights))
    graph.operator(
        FULLY_CONNECTED,
        [picture, graph.tensor(*weights.shape, values=weights), -1],
        [made],
        "FullyConnectedOptions",
    )
    return made


def halves() -> NDArray[np.float32]:
    """Weights whose two outputs are the brightness of the left and of the right half, 0 to 1."""
    weights = np.zeros((2, SIDE, SIDE, 3), np.float32)
    weights[0, :, : SIDE // 2] = weights[1, :, SIDE // 2 :] = 1 / (SIDE * SIDE * 3 / 2)
    return weights.reshape(2, -1)


def classifier(ending: int = SOFTMAX, *, inputs: int = 1, channels_first: bool = False) -> bytes:
    """Which half is brighter. `ending` FULLY_CONNECTED: logits; `inputs` 0: numbers, not a picture."""
    graph = Graph()
    shape = (1, 3, SIDE, SIDE) if channels_first else (1, SIDE, SIDE, 3)
    picture = graph.tensor(*shape) if inputs else graph.tensor(1, SIDE * SIDE * 3)
    others = [graph.tensor(1, SIDE, SIDE, 3) for _ in range(inputs - 1)]
    made = dense(graph, picture, 8 * halves())
    if ending in (SOFTMAX, LOGISTIC):
        answer = graph.tensor(1, 2)
        options = graph.operator(ending, [made], [answer], "SoftmaxOptions" if ending == SOFTMAX else "")
        if options is not None:
            options.beta = 1.0
        made = answer
    return graph.pack([picture, *others], [made])


def reshaped(*shape: int) -> bytes:
    """A model whose one output has this shape; the values are those of the two halves, repeated."""
    graph = Graph()
    picture = graph.tensor(1, SIDE, SIDE, 3)
    size = int(np.prod(shape))
    weights = np.resize(halves(), (size, SIDE * SIDE * 3)).astype(np.float32)
    made = dense(graph, picture, weights)
    return graph.pack([picture], [_reshape(graph, made, shape)])


def _reshape(graph: Graph, source: int, shape: tuple[int, ...]) -> int:
    made = graph.tensor(*shape)
    target = graph.tensor(len(shape), values=np.array(shape, np.int32), kind="INT32")
    options = graph.operator(RESHAPE, [source, target], [made], "ReshapeOptions")
    options.newShape = list(shape)
    return made


def ssd(*, shuffled: bool = False) -> bytes:
    """Two anchors, the left and the right half; a bright half is a "left" or a "right" there.

    `shuffled`: the outputs in another order, as TensorFlow 2 exports them.
    """
    graph = Graph()
    picture = graph.tensor(1, SIDE, SIDE, 3)
    scores = np.zeros((2, 3, SIDE * SIDE * 3), np.float32)  # anchor, background and two classes
    scores[0, 1], scores[1, 2] = halves()
    classes = _reshape(graph, dense(graph, picture, scores.reshape(6, -1)), (1, 2, 3))
    encodings = graph.tensor(1, 2, 4, values=np.zeros((1, 2, 4), np.float32))
    # Anchors: centre y, centre x, height, width.
    anchors = graph.tensor(2, 4, values=np.array([[0.5, 0.25, 1, 0.5], [0.5, 0.75, 1, 0.5]], np.float32))
    outputs = [graph.tensor() for _ in range(4)]
    graph.operator(
        CUSTOM,
        [encodings, classes, anchors],
        outputs,
        custom=("TFLite_Detection_PostProcess", _ssd_options()),
    )
    order = [outputs[at] for at in (2, 0, 3, 1)] if shuffled else outputs
    return graph.pack([picture], order)


def _ssd_options() -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, count in (("max_detections", 10), ("max_classes_per_detection", 1), ("num_classes", 2)):
            builder.Int(name, count)
        for name, number in (("nms_score_threshold", 0.1), ("nms_iou_threshold", 0.5)):
            builder.Float(name, number)
        for name in ("y_scale", "x_scale", "h_scale", "w_scale"):
            builder.Float(name, 1.0)
        builder.Bool("use_regular_nms", False)
    return bytes(builder.Finish())


def with_zip(model: bytes, files: Mapping[str, str]) -> bytes:
    """The model with a zip archive behind it, as TFLite Model Metadata has it."""
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def picture(left: int, right: int) -> NDArray[np.uint8]:
    """A picture with these brightnesses of its halves."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:, : SIDE // 2], pixels[:, SIDE // 2 :] = left, right
    return pixels
