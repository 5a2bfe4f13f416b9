"""Packs and reads an artefact: one model in one file, a TFLite flatbuffer with a zip trailer.

The trailer follows the TFLite metadata convention: any TFLite runtime loads the file, and `unzip -l` lists
`manifest.json`, `labels.txt`, `probes.bin` and `probes.json`. This module must work without numpy and without
a TFLite runtime, because the operator's commands use it. `models.verification` checks the signature.

>>> manifest = Manifest(
...     name="digits",
...     version="1.0.0",
...     architecture="micro",
...     input=InputSpec(height=2, width=2, channels=1),
...     latencyBudgetMs=5,
... )
>>> flatbuffer = b"....TFL3" + bytes(16)
>>> data = pack(flatbuffer, manifest, labels=["cat", "dog"], probes=Probes(bytes(4), expected=("cat",)))
>>> artefact = read(data)
>>> artefact.labels, artefact.manifest.version, artefact.tflite == flatbuffer
(('cat', 'dog'), '1.0.0', True)
>>> read(data[:-1])
Traceback (most recent call last):
inference.artefact.BadArtefact: trailer: not a zip file, or one with a comment
"""

import hashlib
import io
import itertools
import json
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekit.frame import boxes

MAX_ARTEFACT_BYTES = 32 * 1024 * 1024
MAX_LABELS = 4096
MAX_PROBES = 10
#: Names and versions: safe in signed lines, file names, twin values and message properties.
WORD_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"

# Largest inflated size of each member. Ten probes of 512 × 512 × 3 have 7.9 MB.
_MAX_MEMBER_BYTES = {
    "manifest.json": 64 * 1024,
    "labels.txt": 256 * 1024,
    "probes.json": 64 * 1024,
    "probes.bin": 8 * 1024 * 1024,
}
_END = struct.Struct("<4s4H2LH")  # the end record of a zip file (APPNOTE 4.3.16)
_END_SIGNATURE = b"PK\x05\x06"
_LOCATOR_BYTES, _LOCATOR_SIGNATURE = 20, b"PK\x06\x07"  # of ZIP64, right before the end record
_MAX_DIRECTORY_BYTES = 16 * 1024
_MAX_MEMBERS = 16  # read() ignores other names, because a later version may add members
MAX_LABEL_CHARACTERS = boxes.MAX_LABEL_CHARACTERS
MAX_DETECTIONS = boxes.MAX_BOXES  # of one frame: their message stays below the largest body
MAX_EDGES = 32
MAX_CLASS_GROUPS = 64
TFLITE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite flatbuffer
Task = Literal["classification", "detection"]
Resize = Literal["stretch", "crop", "letterbox"]
HeadKind = Literal["softmax", "logits", "sigmoid", "ssd", "yolo", "centers"]
TASKS: Final[dict[HeadKind, Task]] = {
    "softmax": "classification",
    "logits": "classification",
    "sigmoid": "classification",
    "ssd": "detection",
    "yolo": "detection",
    "centers": "detection",
}
_Word = Annotated[str, Field(pattern=WORD_PATTERN)]
_Document = TypeVar("_Document", bound=BaseModel)


#: Fields of later versions: an artefact that does not need them is the same bytes as before.
_ADDED = ("task", "head", "temperature", "reference")
_INPUT_ADDED = ("resize", "mean", "std", "order")


class BadArtefact(ValueError):
    """The bytes are not a valid artefact; `reason` is one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InputSpec(BaseModel):
    """The model's input: uint8 pixels (height, width, channels); real value = pixel × scale + offset.

    With `mean` and `std`, one number or one for each channel: real value = (pixel − mean) / std. A picture of
    another shape is stretched, cut to the shape around its centre, or padded to it (letterbox). `order` is
    the order of the model's channels; mean and std are in that order too.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    height: int = Field(ge=1, le=1024)
    width: int = Field(ge=1, le=1024)
    channels: Literal[1, 3]
    scale: float = 1 / 255
    offset: float = 0.0
    invert: bool = False
    resize: Resize = "stretch"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    order: Literal["rgb", "bgr"] = "rgb"

    @model_validator(mode="after")
    def _check_normalisation(self) -> "InputSpec":
        if len(self.mean) != len(self.std) or len(self.mean) not in {0, 1, self.channels}:
            raise ValueError(f"mean and std need 1 or {self.channels} numbers each, for the channels")
        if any(std <= 0 for std in self.std):
            raise ValueError("std: a standard deviation is above 0")
        return self

    @property
    def pixels(self) -> int:
        """The number of bytes of one prepared picture."""
        return self.height * self.width * self.channels


class Head(BaseModel):
    """How the output tensors become predictions; `inference.heads` has the definition of each kind.

    `outputs` are the positions of the tensors in the model's outputs, in the order that the kind names;
    empty: that order itself. `pixels`: a yolo head counts its boxes in pixels, not in shares of the input.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    kind: HeadKind = "softmax"
    scoreThreshold: float = Field(default=0.3, ge=0, le=1)
    iouThreshold: float = Field(default=0.5, ge=0, le=1)
    maxDetections: int = Field(default=100, ge=1, le=MAX_DETECTIONS)
    outputs: tuple[Annotated[int, Field(ge=0, lt=16)], ...] = Field(default=(), max_length=4)
    pixels: bool = False


class Histogram(BaseModel):
    """Of one measure: `shares` of the bins below, between and from the ascending `edges` on."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    edges: tuple[float, ...] = Field(max_length=MAX_EDGES)
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...]

    @model_validator(mode="after")
    def _check_bins(self) -> "Histogram":
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError("a histogram has one share more than edges")
        if any(a >= b for a, b in itertools.pairwise(self.edges)):
            raise ValueError("the edges of a histogram ascend")
        return self


class Reference(BaseModel):
    """What validation pictures looked like to the model, for the detection of drift (inference.drift).

    `measures`: the name of a measure and its histogram; unknown names, of later versions, are ignored.
    `classes`: the share of each label as top answer, of a detector also of "nothing found"; of more than
    MAX_CLASS_GROUPS, index modulo that (nothing found: the last).
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    frames: int = Field(ge=1)
    measures: dict[str, Histogram] = Field(max_length=16)
    classes: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(max_length=MAX_CLASS_GROUPS)


class Manifest(BaseModel):
    """The description of the model. Unknown fields, of later versions, are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True)

    schema_: Literal["twinship.model.v1"] = Field(default="twinship.model.v1", alias="schema")
    name: _Word
    version: _Word
    architecture: str = Field(max_length=64)
    input: InputSpec
    task: Task = "classification"
    head: Head = Head()
    temperature: float = Field(default=1.0, gt=0)  # divides the logits of a classifier
    latencyBudgetMs: float = Field(gt=0)
    minimumRuntime: dict[str, str] = Field(
        default_factory=dict
    )  # runtime name → lowest version that runs the model
    metrics: dict[str, Any] = Field(default_factory=dict)
    dataset: str = ""
    weightsSha256: str = ""  # digest of the float weights before conversion
    created: str = ""
    reference: Reference | None = None

    @model_validator(mode="after")
    def _check_head(self) -> "Manifest":
        if TASKS[self.head.kind] != self.task:
            raise ValueError(f"the task is {self.task}, and a head {self.head.kind} does not do that")
        return self


class Found(BaseModel):
    """A detection in a probe; the box is left, top, right, bottom in shares of the model's input."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    label: str
    box: tuple[float, float, float, float]


class _ProbeAnswers(BaseModel):
    expected: tuple[str, ...]
    detections: tuple[Annotated[tuple[Found, ...], Field(max_length=MAX_DETECTIONS)], ...] = ()


@dataclass(frozen=True)
class Probes:
    """Pictures with known answers: a device uses them to prove that the model works on it.

    `images` holds count × H × W × C uint8 pixels, prepared for the model. A classifier has one label for each
    in `expected`, a detector has in `detections` what each picture shows.
    """

    images: bytes = field(repr=False)
    expected: tuple[str, ...] = ()
    detections: tuple[tuple[Found, ...], ...] = ()

    @property
    def count(self) -> int:
        return len(self.expected) or len(self.detections)


@dataclass(frozen=True)
class Artefact:
    """A valid artefact: `data` is the whole file, `tflite` the flatbuffer before the trailer."""

    data: bytes = field(repr=False)
    tflite: bytes = field(repr=False)
    manifest: Manifest
    labels: tuple[str, ...]
    probes: Probes

    @cached_property
    def sha256(self) -> str:
        """The digest of the whole file, in lower-case hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def size(self) -> int:
        return len(self.data)


def pack(tflite: bytes, manifest: Manifest, labels: Sequence[str], probes: Probes) -> bytes:
    """Return the bytes of an artefact; the same input gives the same bytes.

    Raises BadArtefact for input that read() would refuse.
    """
    if _has_zip(tflite):
        raise BadArtefact("the flatbuffer has a zip trailer already")
    buffer = io.BytesIO()
    buffer.write(tflite)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as trailer:
        for name, content in _members(manifest, labels, probes).items():
            # Stored, not deflated: the twin section compresses the whole file, which saves more.
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16
            trailer.writestr(member, content)
    return read(buffer.getvalue()).data


def read(data: bytes) -> Artefact:
    """Parse an artefact. Raises BadArtefact; never inflates a member beyond its size limit."""
    if len(data) > MAX_ARTEFACT_BYTES:
        raise BadArtefact(f"{len(data)} bytes, more than the {MAX_ARTEFACT_BYTES} that are allowed")
    if data[4:8] != TFLITE_IDENTIFIER:
        raise BadArtefact("not a TFLite flatbuffer: no TFL3 at byte 4")
    try:
        start, members = _unzip(data)
    except (BadArtefact, MemoryError):  # too little memory is not the fault of the file
        raise
    except Exception as error:  # zipfile raises many types: BadZipFile, zlib.error, struct.error, KeyError …
        raise BadArtefact(f"trailer: {_one_line(error)}") from error
    manifest = _parsed(Manifest, "manifest.json", members["manifest.json"])
    answers = _parsed(_ProbeAnswers, "probes.json", members["probes.json"])
    labels = _labels(members["labels.txt"])
    probes = Probes(members["probes.bin"], answers.expected, answers.detections)
    _check_probes(probes, manifest, labels)
    return Artefact(data, data[:start], manifest, labels, probes)


def _has_zip(data: bytes) -> bool:
    try:
        return zipfile.is_zipfile(io.BytesIO(data))
    except zipfile.BadZipFile:  # its end names several disks
        return True


def _members(manifest: Manifest, labels: Sequence[str], probes: Probes) -> dict[str, bytes]:
    return {
        "manifest.json": _json_bytes(manifest.model_dump(by_alias=True, exclude=_defaults(manifest))),
        "labels.txt": "".join(f"{label}\n" for label in labels).encode(),
        "probes.json": _json_bytes(_probe_answers(probes)),
        "probes.bin": probes.images,
    }


def _defaults(manifest: Manifest) -> dict[str, Any]:
    """The optional fields of later versions that have their defaults."""
    added = [name for name in _ADDED if getattr(manifest, name) == Manifest.model_fields[name].default]
    same = [
        name for name in _INPUT_ADDED if getattr(manifest.input, name) == InputSpec.model_fields[name].default
    ]
    return {**dict.fromkeys(added, True), "input": dict.fromkeys(same, True)}


def _probe_answers(probes: Probes) -> dict[str, Any]:
    detections = [[found.model_dump() for found in each] for each in probes.detections]
    return {"expected": list(probes.expected), **({"detections": detections} if detections else {})}


def _json_bytes(value: object) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BadArtefact(f"manifest.json: {_one_line(error)}") from error


def _unzip(data: bytes) -> tuple[int, dict[str, bytes]]:
    """Return the start of the trailer and its known members. Raises BadArtefact and what zipfile raises."""
    check_directory(data)
    with zipfile.ZipFile(io.BytesIO(data)) as trailer:
        infos = trailer.infolist()
        if len(infos) > _MAX_MEMBERS:
            raise BadArtefact(f"trailer: {len(infos)} members, more than {_MAX_MEMBERS}")
        names = [info.filename for info in infos]
        for name in _MAX_MEMBER_BYTES:
            if names.count(name) != 1:
                raise BadArtefact(f"trailer: {names.count(name)} members named {name}, not one")
        members = {
            info.filename: read_member(trailer, info, _MAX_MEMBER_BYTES[info.filename])
            for info in infos
            if info.filename in _MAX_MEMBER_BYTES
        }
        return min(info.header_offset for info in infos), members


def check_directory(data: bytes) -> None:
    """Raise BadArtefact for a large directory: zipfile reads all of it, whatever number it declares.

    zipfile finds the same end record: at the very end, without a comment and without ZIP64.
    """
    end = data[-_END.size :]
    if len(end) < _END.size or end[:4] != _END_SIGNATURE or end[-2:] != b"\0\0":
        raise BadArtefact("trailer: not a zip file, or one with a comment")
    locator = len(data) - _END.size - _LOCATOR_BYTES
    if data[max(0, locator) :][:4] == _LOCATOR_SIGNATURE:
        raise BadArtefact("trailer: ZIP64 is not allowed")
    _, _, _, _, members, size, _, _ = _END.unpack(end)
    if members > _MAX_MEMBERS:
        raise BadArtefact(f"trailer: {members} members, more than {_MAX_MEMBERS}")
    if size > _MAX_DIRECTORY_BYTES:
        raise BadArtefact(f"trailer: a directory of {size} bytes, more than {_MAX_DIRECTORY_BYTES}")


def read_member(trailer: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Inflate a member of at most `limit` bytes. Raises BadArtefact and what zipfile raises."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArtefact(f"{info.filename}: compression {info.compress_type} is not allowed")
    with trailer.open(info) as member:
        content = member.read(limit + 1)
    if len(content) > limit:
        raise BadArtefact(f"{info.filename}: more than {limit} bytes")
    return content


def _parsed(document: type[_Document], name: str, content: bytes) -> _Document:
    try:
        return document.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(key) for key in first["loc"]) or "document"
        raise BadArtefact(f"{name}: {path}: {_one_line(first['msg'])}") from error


def _labels(content: bytes) -> tuple[str, ...]:
    try:
        labels = tuple(content.decode().removesuffix("\n").split("\n"))
    except UnicodeDecodeError as error:
        raise BadArtefact("labels.txt: not UTF-8") from error
    if len(labels) > MAX_LABELS:
        raise BadArtefact(f"labels.txt: {len(labels)} labels, more than {MAX_LABELS}")
    for label in labels:
        if not label.isprintable() or not 1 <= len(label) <= MAX_LABEL_CHARACTERS:
            raise BadArtefact(f"labels.txt: not a label: {label[:40]!r}")
    if len(set(labels)) != len(labels):
        raise BadArtefact("labels.txt: a label occurs twice")
    return labels


def _check_probes(probes: Probes, manifest: Manifest, labels: tuple[str, ...]) -> None:
    spec, detects = manifest.input, manifest.task == "detection"
    if not 1 <= probes.count <= MAX_PROBES:
        raise BadArtefact(f"probes.json: {probes.count} probes, not 1 to {MAX_PROBES}")
    if bool(probes.expected) == detects or bool(probes.detections) != detects:
        what = "detections" if detects else "expected labels"
        raise BadArtefact(
            f"probes.json: the probes of a model for {manifest.task} have {what}, and only those"
        )
    if len(probes.images) != probes.count * spec.pixels:
        expected = f"{probes.count} × {spec.pixels} for this input"
        raise BadArtefact(f"probes.bin: {len(probes.images)} bytes, not {expected}")
    named = {*probes.expected, *(found.label for each in probes.detections for found in each)}
    if unknown := sorted(named - set(labels)):
        raise BadArtefact(f"probes.json: {unknown[0][:40]!r} is not a label of this model")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
