"""Harmful TFLite models, built from real operators: always the same bytes, without random mutation.

Each has the SPEC and LABELS of `tiny_model`, so its manifest is right and only the model is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from inference.artefact import InputSpec, Manifest, Probes, pack
from tests.unit.inference.tiny_model import LABELS

#: Pixels as they are, so that a model can look something up by one.
SPEC = InputSpec(height=6, width=4, channels=1, scale=1.0)
SHAPE = (1, SPEC.height, SPEC.width, SPEC.channels)

# schema.BuiltinOperator
_FULLY_CONNECTED, _RELU, _CUSTOM, _GATHER, _CAST, _WHILE = 9, 19, 32, 36, 53, 119
_GREATER, _REDUCE_MAX = 61, 82
_FLOAT, _INT32, _BOOL = schema.TensorType.FLOAT32, schema.TensorType.INT32, schema.TensorType.BOOL


def artefact(
    flatbuffer: bytes,
    *,
    version: str = "1.0.0",
    budget_ms: float = 1e3,
    labels: Sequence[str] = LABELS,
    expected: str = LABELS[0],
) -> bytes:
    """An artefact named `bands` with one probe: a black picture, which `throws` answers correctly."""
    manifest = Manifest(
        name="bands", version=version, architecture="harmful", input=SPEC, latencyBudgetMs=budget_ms
    )
    return pack(flatbuffer, manifest, labels, Probes(bytes(SPEC.pixels), (expected,)))


def hangs() -> bytes:
    """A while loop whose condition is the constant true: invoke never returns."""
    model = _Model()
    main, condition, body = model.graph(), model.graph(), model.graph()
    condition.ends([condition.tensor(_FLOAT, SHAPE)], condition.constant(_BOOL, np.ones((1,), np.bool_)))
    inside, outside = body.tensor(_FLOAT, SHAPE), body.tensor(_FLOAT, SHAPE)
    body.operator(_RELU, [inside], outside)
    body.ends([inside], outside)
    source, looped = main.tensor(_FLOAT, SHAPE), main.tensor(_FLOAT, SHAPE)
    options: Any = main.operator(_WHILE, [source], looped, "WhileOptions")
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    main.ends([source], main.scores(looped))
    return model.packed()


def hangs_on_bright(limit: float = 200.0) -> bytes:
    """A while loop that ends only if no pixel is brighter than `limit`: it passes its proof."""
    model = _Model()
    main, condition, body = model.graph(), model.graph(), model.graph()
    seen, brightest, bright = (
        condition.tensor(_FLOAT, SHAPE),
        condition.tensor(_FLOAT, ()),
        condition.tensor(_BOOL, ()),
    )
    axes = condition.constant(_INT32, np.arange(len(SHAPE), dtype=np.int32))
    condition.operator(_REDUCE_MAX, [seen, axes], brightest, "ReducerOptions")
    threshold = condition.constant(_FLOAT, np.array(limit, np.float32))
    condition.operator(_GREATER, [brightest, threshold], bright, "GreaterOptions")
    condition.ends([seen], bright)
    inside, outside = body.tensor(_FLOAT, SHAPE), body.tensor(_FLOAT, SHAPE)
    body.operator(_RELU, [inside], outside)
    body.ends([inside], outside)
    source, looped = main.tensor(_FLOAT, SHAPE), main.tensor(_FLOAT, SHAPE)
    options: Any = main.operator(_WHILE, [source], looped, "WhileOptions")
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    main.ends([source], main.scores(looped))
    return model.packed()


def crashes() -> bytes:
    """A while loop whose body is the loop itself: preparing it overflows the stack (SIGSEGV)."""
    model = _Model()
    main, condition = model.graph(), model.graph()
    condition.ends([condition.tensor(_FLOAT, SHAPE)], condition.constant(_BOOL, np.ones((1,), np.bool_)))
    source, looped = main.tensor(_FLOAT, SHAPE), main.tensor(_FLOAT, SHAPE)
    options: Any = main.operator(_WHILE, [source], looped, "WhileOptions")
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 0
    main.ends([source], main.scores(looped))
    return model.packed()


def throws() -> bytes:
    """Looks up each pixel in a table of one entry: any pixel but black is out of bounds."""
    model = _Model()
    main = model.graph()
    source, indices, found = (main.tensor(kind, SHAPE) for kind in (_FLOAT, _INT32, _FLOAT))
    cast: Any = main.operator(_CAST, [source], indices, "CastOptions")
    cast.inDataType, cast.outDataType = _FLOAT, _INT32
    table = main.constant(_FLOAT, np.ones((1,), np.float32))
    main.operator(_GATHER, [table, indices], found, "GatherOptions")
    main.ends([source], main.scores(found))
    return model.packed()


def unknown_operator() -> bytes:
    """An unknown operator."""
    model = _Model()
    main = model.graph()
    source, made = main.tensor(_FLOAT, SHAPE), main.tensor(_FLOAT, SHAPE)
    main.operator(_CUSTOM, [source], made)
    main.ends([source], main.scores(made))
    return model.packed()


def harmless(shape: Sequence[int] = SHAPE, kind: int = _FLOAT) -> bytes:
    """A good model; with another input shape or type than SPEC it does not match its manifest."""
    model = _Model()
    main = model.graph()
    source, real = main.tensor(kind, shape), main.tensor(_FLOAT, shape)
    cast: Any = main.operator(_CAST, [source], real, "CastOptions")
    cast.inDataType, cast.outDataType = kind, _FLOAT
    main.ends([source], main.scores(real))
    return model.packed()


class _Model:
    def __init__(self) -> None:
        self.model: Any = schema.ModelT()
        self.model.version, self.model.operatorCodes, self.model.subgraphs = 3, [], []
        self.model.buffers = [schema.BufferT()]  # the first is empty, for tensors without data

    def graph(self) -> _Graph:
        return _Graph(self.model)

    def packed(self) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class _Graph:
    def __init__(self, model: Any) -> None:
        self._model = model
        self._graph: Any = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        model.subgraphs.append(self._graph)

    def tensor(self, kind: int, shape: Sequence[int], buffer: int = 0) -> int:
        tensor: Any = schema.TensorT()
        tensor.type, tensor.shape, tensor.buffer = kind, list(shape), buffer
        tensor.name = f"tensor{len(self._graph.tensors)}"
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, kind: int, values: NDArray[Any]) -> int:
        buffer: Any = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self.tensor(kind, values.shape, len(self._model.buffers) - 1)

    def operator(self, code: int, inputs: Sequence[int], output: int, options: str = "") -> Any:
        kind: Any = schema.OperatorCodeT()
        kind.builtinCode = kind.deprecatedBuiltinCode = code
        kind.version = 1
        kind.customCode = "NoRuntimeHasThis" if code == _CUSTOM else None
        self._model.operatorCodes.append(kind)
        operator: Any = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), [output]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
        self._graph.operators.append(operator)
        return operator.builtinOptions

    def scores(self, source: int) -> int:
        """One number for each label, the first one the largest."""
        weights = np.zeros((len(LABELS), SPEC.pixels), np.float32)
        biases = np.array([1, *[0] * (len(LABELS) - 1)], np.float32)
        inputs = [source, self.constant(_FLOAT, weights), self.constant(_FLOAT, biases)]
        result = self.tensor(_FLOAT, (1, len(LABELS)))
        self.operator(_FULLY_CONNECTED, inputs, result, "FullyConnectedOptions")
        return result

    def ends(self, inputs: Sequence[int], output: int) -> None:
        self._graph.inputs, self._graph.outputs = list(inputs), [output]
