"""The twin's `model` section, both ways: what the cloud asks for, and the words in which a device answers.

Pure and without numpy, because the operator's side reads and writes the same section. It decides on no trust
and installs nothing: `trust` verifies, `delivery` installs.
"""

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from inference.artefact import WORD_PATTERN

MAX_INLINE_CHARACTERS = 28_000  # leaves the other sections 4 KB of the twin's 32 KB
MAX_PART_BYTES = 4096  # IoT Hub's limit for one string (ref 4.9)
PART_CHARACTERS = 4000
_MAX_PARTS = 100  # two digits
_BASE64_CHARACTERS = re.compile(r"[A-Za-z0-9+/]*={0,2}")


class ModelState(StrEnum):
    """`modelStatus.state`: what the device is doing about the model that the twin names."""

    STARTING = "starting"  # looking for the last good model on disk
    EMPTY = "empty"  # nothing on disk, and no twin read yet
    UNASSIGNED = "unassigned"  # the twin names no model: what runs keeps running
    CHECKING = "checking"  # size, signature, digest; a download is part of it
    PROVING = "proving"  # in a child process
    LOADING = "loading"  # in this process, beside the model that answers
    PROBATION = "probation"  # it answers the frames, and is watched
    ACTIVE = "active"  # it answers the frames
    REFUSED = "refused"  # the model's fault: not tried again until the section changes
    UNAVAILABLE = "unavailable"  # not the model's fault: tried again
    WITHDRAWN = "withdrawn"  # it ran and was taken back; not tried again until the section changes


class InvalidSection(ValueError):
    """The section cannot be understood; `errors` maps the path of a field to what is wrong with it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        shown = [f"{path}: {what}" for path, what in list(errors.items())[:6]]
        more = [f"and {len(errors) - 6} more"] if len(errors) > 6 else []
        super().__init__("; ".join(shown + more))
        self.errors = dict(errors)


class DoesNotFit(ValueError):
    """The artefact is too large for the twin: it needs `characters`, `limit` are allowed."""

    def __init__(self, characters: int, limit: int = MAX_INLINE_CHARACTERS) -> None:
        super().__init__(f"the model takes {characters} characters inline, {limit} fit into a twin")
        self.characters, self.limit = characters, limit


@dataclass(frozen=True)
class ModelRef:
    """Which model exactly: `sha256` (lower-case hex) and `size` cover the whole artefact.

    `signature` is base64 of Ed25519 over signed_bytes(), `key_id` names the key; both empty = unsigned.
    """

    name: str
    version: str
    size: int
    sha256: str
    signature: str = field(default="", repr=False)
    key_id: str = ""

    def signed_bytes(self) -> bytes:
        return f"twinship-model-v1\n{self.name}\n{self.version}\n{self.size}\n{self.sha256}\n".encode()

    def reported(self) -> dict[str, str]:
        """How the twin's reported side names this model."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class Inline:
    """The artefact inside the twin: zlib, then base64, cut into parts in order."""

    data_parts: tuple[str, ...] = field(repr=False)

    def inflate(self, size: int) -> bytes:
        """The artefact's bytes, at most size + 1 of them. Raises InvalidSection.

        size + 1 bytes come back when there is more: the size check then says so, and a bomb stays small.
        """
        path = "source.inline.parts"
        try:
            packed = base64.b64decode("".join(self.data_parts), validate=True)
            return zlib.decompressobj().decompress(packed, size + 1)
        except binascii.Error as error:
            raise InvalidSection({path: f"not base64: {error}"}) from error
        except zlib.error as error:
            raise InvalidSection({path: f"not zlib: {error}"}) from error


@dataclass(frozen=True)
class Uri:
    """The artefact behind an https address, whose query may hold a secret."""

    uri: str = field(repr=False)


@dataclass(frozen=True)
class ModelSection:
    """One readable `model` section."""

    ref: ModelRef
    attempt: int  # raised by the operator to ask again for a model that was refused
    source: Inline | Uri


_Word = Annotated[str, Field(pattern=WORD_PATTERN)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _InlineShape(_Shape):
    encoding: Literal["zlib+base64"]
    count: int = Field(ge=1, le=_MAX_PARTS)
    parts: dict[str, str]


def _https(uri: str) -> str:
    if not re.fullmatch(r"https://[!-~]+", uri):
        raise PydanticCustomError("uri", "not an https address")
    parts = urlsplit(uri)
    if not parts.hostname or parts.port == 0:
        raise PydanticCustomError("uri", "not an https address")
    if "@" in parts.netloc:
        raise PydanticCustomError("uri", "a user's name in an address is not allowed")
    return uri


class _SourceShape(_Shape):
    inline: _InlineShape | None = None
    uri: Annotated[str, Field(max_length=MAX_PART_BYTES), AfterValidator(_https)] | None = None


class _SectionShape(_Shape):
    name: _Word
    version: _Word
    size: int = Field(ge=1, lt=2**52)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    signature: str = Field(default="", max_length=128)
    keyId: str = Field(default="", max_length=64)
    attempt: int = Field(default=1, ge=0, lt=2**52)
    source: _SourceShape


def parse(section: object) -> ModelSection:
    """Read the twin's desired `model` section. Raises InvalidSection with an error for each field."""
    try:
        shape = _SectionShape.model_validate(section)
    except ValidationError as error:
        raise InvalidSection(_field_errors(error)) from error
    ref = ModelRef(shape.name, shape.version, shape.size, shape.sha256, shape.signature, shape.keyId)
    return ModelSection(ref, shape.attempt, _source(shape.source))


def section_for(ref: ModelRef, artefact: bytes, attempt: int = 1) -> dict[str, Any]:
    """The desired `model` section with the artefact inline. Raises DoesNotFit."""
    text = base64.b64encode(zlib.compress(artefact, 9)).decode()
    if len(text) > MAX_INLINE_CHARACTERS:
        raise DoesNotFit(len(text))
    cuts = range(0, len(text), PART_CHARACTERS)
    parts = {f"{index:02}": text[cut : cut + PART_CHARACTERS] for index, cut in enumerate(cuts)}
    inline = {"encoding": "zlib+base64", "count": len(parts), "parts": parts}
    return _section(ref, {"inline": inline}, attempt)


def section_at(ref: ModelRef, uri: str, attempt: int = 1) -> dict[str, Any]:
    """The desired `model` section with the artefact behind an https address. Raises InvalidSection."""
    section = _section(ref, {"uri": uri}, attempt)
    parse(section)
    return section


def _section(ref: ModelRef, source: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    signed = {"signature": ref.signature, "keyId": ref.key_id} if ref.signature else {}
    return {
        "name": ref.name,
        "version": ref.version,
        "size": ref.size,
        "sha256": ref.sha256,
        **signed,
        "attempt": attempt,
        "source": dict(source),
    }


def twin_bytes(section: object) -> int:
    """What a twin document weighs for IoT Hub (ref 4.9): keys and strings in UTF-8, number 8, boolean 4."""
    match section:
        case None:
            return 0
        case bool():
            return 4
        case int() | float():
            return 8
        case str():
            return len(section.encode())
        case Mapping():
            return sum(len(str(key).encode()) + twin_bytes(value) for key, value in section.items())
        case list() | tuple():
            return sum(twin_bytes(value) for value in section)
    raise TypeError(f"a twin holds no {type(section).__name__}")


def digest(section: object) -> str:
    """Of the exact desired section: what a verdict is remembered under. The order of keys does not matter."""
    text = json.dumps(section, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def key_id(public_key: bytes) -> str:
    """The name of a signing key: the first 16 hex digits of the raw public key's sha256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _field_errors(error: ValidationError) -> dict[str, str]:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return {".".join(str(part) for part in each["loc"]) or "model": each["msg"] for each in found}


def _source(shape: _SourceShape) -> Inline | Uri:
    if (shape.inline is None) == (shape.uri is None):
        raise InvalidSection({"source": "needs exactly one of inline and uri"})
    if shape.uri is not None:
        return Uri(shape.uri)
    assert shape.inline is not None
    if errors := _part_errors(shape.inline.count, shape.inline.parts):
        raise InvalidSection(errors)
    return Inline(tuple(shape.inline.parts[name] for name in _part_names(shape.inline.count)))


def _part_names(count: int) -> list[str]:
    return [f"{index:02}" for index in range(count)]


def _part_errors(count: int, parts: Mapping[str, str]) -> dict[str, str]:
    path = "source.inline.parts"
    names = _part_names(count)
    errors = {f"{path}.{name}": "missing" for name in names if name not in parts}
    # A merge patch leaves what it does not null: the parts of a longer model before this one.
    errors |= {f"{path}.{name}": f"extra: count is {count}" for name in sorted(set(parts) - set(names))}
    for name in names:
        text = parts.get(name, "")
        if len(text.encode()) > MAX_PART_BYTES:
            errors[f"{path}.{name}"] = f"overlong: more than {MAX_PART_BYTES} bytes"
        elif not _BASE64_CHARACTERS.fullmatch(text) or (text.endswith("=") and name != max(parts)):
            errors[f"{path}.{name}"] = "not base64"
    return errors
