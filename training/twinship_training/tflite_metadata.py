"""TFLite Model Metadata, by which other tools find the labels and the normalisation of a model.

https://ai.google.dev/edge/litert/models/metadata. The field numbers are those of tflite-support's
`metadata_schema.fbs`. The labels are in `labels.txt`, in the zip archive behind the flatbuffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from inference.artefact import InputSpec

NAME: Final = "TFLITE_METADATA"
LABELS: Final = "labels.txt"
IDENTIFIER: Final = b"M001"
PARSER: Final = "1.0.0"  # the first version of the schema that has every field used here
IMAGE, NORMALISATION, AXIS_LABELS = 2, 1, 2  # ContentProperties, ProcessUnitOptions, AssociatedFileType
RGB, GREY = 1, 2  # ColorSpaceType

Field = int | tuple[str, int]
"""What a field has: the place of an object that is written already, or a number with its type."""


def described(spec: InputSpec) -> bytes:
    """The metadata of a model: a picture of this size and normalisation in, one value for each label out.

    Normalised is (pixel - mean) / std, which is pixel * scale + offset of `spec`.
    """
    import flatbuffers  # type: ignore[import-untyped]

    builder = flatbuffers.Builder(512)
    mean = _floats(builder, [0.0 - spec.offset / spec.scale] * spec.channels)
    std = _floats(builder, [1 / spec.scale] * spec.channels)
    size = _table(builder, {0: ("Uint32", spec.width), 1: ("Uint32", spec.height)})
    image = _table(builder, {0: ("Int8", GREY if spec.channels == 1 else RGB), 1: size})
    content = _table(builder, {0: ("Uint8", IMAGE), 1: image})
    unit = _table(builder, {0: ("Uint8", NORMALISATION), 1: _table(builder, {0: mean, 1: std})})
    source = _table(builder, {3: content, 4: _tables(builder, [unit])})
    file = _table(builder, {0: builder.CreateString(LABELS), 2: ("Int8", AXIS_LABELS)})
    answer = _table(builder, {6: _tables(builder, [file])})
    graph = _table(builder, {2: _tables(builder, [source]), 3: _tables(builder, [answer])})
    version = builder.CreateString(PARSER)
    model = _table(builder, {3: _tables(builder, [graph]), 7: version})
    builder.Finish(model, IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, fields: Mapping[int, Field]) -> int:
    builder.StartObject(max(fields) + 1)
    for number, value in fields.items():
        if isinstance(value, int):
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
        else:
            kind, content = value
            getattr(builder, f"Prepend{kind}Slot")(number, content, 0)
    return int(builder.EndObject())


def _tables(builder: Any, places: Sequence[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())


def _floats(builder: Any, numbers: Sequence[float]) -> int:
    builder.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        builder.PrependFloat32(number)
    return int(builder.EndVector())
