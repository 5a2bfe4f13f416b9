"""Reads a TFLite file without a runtime: inputs, outputs, how it ends, and its TFLite Model Metadata.

The field numbers are those of TensorFlow's `schema.fbs` and tflite-support's `metadata_schema.fbs`. Files
that the metadata names (labels) are in a zip archive behind the flatbuffer.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Final

from inference import artefact as artefacts
from inference.artefact import BadArtefact
from twinship.packaging import NotPackaged
from twinship.packaging.flatbuffer import BadFlatbuffer, Table, root

MAX_TEXT_BYTES: Final = 256 * 1024
METADATA: Final = "TFLITE_METADATA"
SSD_OPERATOR: Final = "TFLite_Detection_PostProcess"
_IMAGE_NORMALISATION: Final = 1  # ProcessUnitOptions.NormalizationOptions
_AXIS_LABELS, _VALUE_LABELS = 2, 3  # AssociatedFileType
_TYPES: Final = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    9: "int8",
}
_CUSTOM: Final = 32  # BuiltinOperator
#: BuiltinOperator → its name: how a classifier ends, and the operators that do not change what it says.
_ENDINGS: Final = {14: "LOGISTIC", 25: "SOFTMAX", 9: "FULLY_CONNECTED", 3: "CONV_2D", 40: "MEAN"}
_PASS_THROUGH: Final = frozenset({6, 22, 43, 114})  # DEQUANTIZE, RESHAPE, SQUEEZE, QUANTIZE


@dataclass(frozen=True)
class TensorInfo:
    """One input or output. `signature` has -1 for a size that changes; scale 0: not quantised."""

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Ssd:
    """The operator TFLite_Detection_PostProcess: its output tensors (boxes, classes, scores, count)."""

    outputs: tuple[int, ...]
    classes: int  # without the background; 0: unknown


@dataclass(frozen=True)
class Described:
    """What the TFLite Model Metadata of a file says; empty where it says nothing."""

    name: str = ""
    description: str = ""
    author: str = ""
    license: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    label_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelFile:
    """A TFLite file. `flatbuffer` is the file without the zip archive behind it."""

    flatbuffer: bytes = field(repr=False)
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ending: str  # the operator that makes the first output, as "SOFTMAX"; "" if it is another one
    ssd: Ssd | None
    metadata: Described
    labels: str | None  # the text of the label file
    labels_file: str = ""
    uint8_weights: bool = False  # as TensorFlow 1 quantised


def read(data: bytes) -> ModelFile:
    """Read a file. Raises NotPackaged if it is not a TFLite model, or is damaged."""
    if len(data) > artefacts.MAX_ARTEFACT_BYTES:
        raise NotPackaged(f"{len(data):,} bytes; an artefact has at most {artefacts.MAX_ARTEFACT_BYTES:,}")
    if data[4:8] != artefacts.TFLITE_IDENTIFIER:
        raise NotPackaged("not a TFLite model: no TFL3 at byte 4; cure: convert the model to TFLite first")
    start, texts = _trailer(data)
    if "manifest.json" in texts:
        raise NotPackaged("this is an artefact already; cure: `twinship publish` it as it is")
    flatbuffer = data[:start]
    try:
        return _model(flatbuffer, root(flatbuffer), texts)
    except BadFlatbuffer as error:
        raise NotPackaged(f"the flatbuffer is damaged: {error}") from error


def _trailer(data: bytes) -> tuple[int, dict[str, str]]:
    """The start of the zip archive behind the flatbuffer, and its text files; all of the file without one."""
    if b"PK\5\6" not in data[-22:]:
        return len(data), {}
    try:
        artefacts.check_directory(data)
        with zipfile.ZipFile(io.BytesIO(data)) as trailer:
            infos = trailer.infolist()
            texts = {
                info.filename: artefacts.read_member(trailer, info, MAX_TEXT_BYTES).decode(errors="replace")
                for info in infos
                if info.filename.endswith((".txt", ".json"))
            }
            return min((info.header_offset for info in infos), default=len(data) - 22), texts
    except (
        BadArtefact,
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        ValueError,
        RuntimeError,
        EOFError,
    ) as error:
        raise NotPackaged(f"the zip archive behind the flatbuffer: {' '.join(str(error).split())}") from error


def _model(data: bytes, model: Table, texts: dict[str, str]) -> ModelFile:
    graphs = model.tables(2)
    if not graphs:
        raise NotPackaged("the model has no graph")
    graph = graphs[0]
    tensors, operators = graph.tables(0), graph.tables(3)
    codes = [(_builtin(code), code.text(1)) for code in model.tables(1)]
    inputs, outputs = (
        tuple(_tensor(tensors, index) for index in graph.numbers(field, "i")) for field in (1, 2)
    )
    described = _described(model)
    files = [name for name in described.label_files if name in texts] or [
        name for name in texts if name.endswith(".txt")
    ]
    named = files[0] if files and (len(files) == 1 or described.label_files) else ""
    return ModelFile(
        data,
        inputs,
        outputs,
        _ending(operators, codes, outputs[0].index) if outputs else "",
        _ssd(operators, codes, tensors),
        described,
        texts.get(named),
        named,
        _uint8_weights(model, tensors),
    )


def _uint8_weights(model: Table, tensors: list[Table]) -> bool:
    buffers = model.tables(4)
    stored = (each.number(2, "I") for each in tensors if _TYPES.get(each.number(1, "b")) == "uint8")
    return any(number < len(buffers) and buffers[number].bytes(0) for number in stored)


def _builtin(code: Table) -> int:
    # The first field has one byte; the schema added a larger one when there were more operators.
    return max(code.number(0, "b"), code.number(3, "i"))


def _tensor(tensors: list[Table], index: int) -> TensorInfo:
    if not 0 <= index < len(tensors):
        raise BadFlatbuffer(f"tensor {index} of {len(tensors)} does not exist")
    tensor = tensors[index]
    shape = tuple(tensor.numbers(0, "i"))
    quantised = tensor.table(4)
    scales = quantised.numbers(2, "f") if quantised else ()
    zeros = quantised.numbers(3, "q") if quantised else ()
    return TensorInfo(
        index,
        tensor.text(3),
        shape,
        tuple(tensor.numbers(7, "i")) or shape,
        _TYPES.get(tensor.number(1, "b"), "another type"),
        scales[0] if scales else 0.0,
        zeros[0] if zeros else 0,
    )


def _code(operator: Table, codes: list[tuple[int, str]]) -> tuple[int, str]:
    index = operator.number(0, "I")
    return codes[index] if index < len(codes) else (-1, "")


def _ending(operators: list[Table], codes: list[tuple[int, str]], output: int) -> str:
    """Go back from an output over operators that only change its form."""
    makers = {made: operator for operator in operators for made in operator.numbers(2, "i")}
    for _ in range(8):
        maker = makers.get(output)
        if maker is None:
            return ""
        builtin, _name = _code(maker, codes)
        if builtin not in _PASS_THROUGH:
            return _ENDINGS.get(builtin, "")
        sources = maker.numbers(1, "i")
        output = sources[0] if sources else -1
    return ""


def _ssd(operators: list[Table], codes: list[tuple[int, str]], tensors: list[Table]) -> Ssd | None:
    for operator in operators:
        if _code(operator, codes) == (_CUSTOM, SSD_OPERATOR):
            sources = operator.numbers(1, "i")
            scores = (
                tensors[sources[1]].numbers(0, "i") if len(sources) > 1 and sources[1] < len(tensors) else ()
            )
            return Ssd(tuple(operator.numbers(2, "i")), max(0, scores[-1] - 1) if scores else 0)
    return None


def _described(model: Table) -> Described:
    buffers = model.tables(4)
    for entry in model.tables(6):
        index = entry.number(1, "I")
        if entry.text(0) == METADATA and index < len(buffers):
            return _model_metadata(buffers[index].bytes(0))
    return Described()


def _model_metadata(data: bytes) -> Described:
    if data[4:8] != b"M001":
        return Described()
    model = root(data)
    graphs = model.tables(3)
    inputs = graphs[0].tables(2) if graphs else []
    outputs = graphs[0].tables(3) if graphs else []
    mean, std = _normalisation(inputs[0]) if inputs else ((), ())
    files = [file for output in outputs for file in output.tables(6)]
    return Described(
        model.text(0),
        model.text(1),
        model.text(4),
        model.text(5),
        mean,
        std,
        tuple(file.text(0) for file in files if file.number(2, "b") in {_AXIS_LABELS, _VALUE_LABELS}),
    )


def _normalisation(tensor: Table) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in tensor.tables(4):
        options = unit.table(1)
        if unit.number(0, "B") == _IMAGE_NORMALISATION and options is not None:
            return options.numbers(0, "f"), options.numbers(1, "f")
    return (), ()
