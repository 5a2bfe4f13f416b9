"""The desired section `model` of the module twin, and the names of the states that a device reports about it.

The module and the operator's tools share this file, so it imports no numpy.

>>> ref = ModelRef("digits", "1.0.0", size=3, sha256="aa" * 32)
>>> section = section_for(ref, b"abc")
>>> parse(section).source.inflate(ref.size)
b'abc'
>>> parse({**section, "size": 0})
Traceback (most recent call last):
inference.model_section.InvalidSection: size: Input should be greater than or equal to 1
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
MAX_CHUNK_BYTES = 4096  # IoT Hub's limit for one string (ref 4.9)
CHUNK_CHARACTERS = 4000
_MAX_CHUNKS = 100  # two digits
_BASE64_CHARACTERS = re.compile(r"[A-Za-z0-9+/]*={0,2}")


class ModelState(StrEnum):
    """`modelStatus.state`: how far the device is with the model that the twin names."""

    STARTING = "starting"  # loads the last good model from disk
    EMPTY = "empty"  # no model on disk, and no twin read yet
    UNASSIGNED = "unassigned"  # the twin names no model: the serving model goes on
    CHECKING = "checking"  # size, signature, digest; includes the download
    PROVING = "proving"  # in a child process
    LOADING = "loading"  # in this process, beside the serving model
    PROBATION = "probation"  # it serves the frames, and may still be withdrawn
    ACTIVE = "active"  # it serves the frames
    REFUSED = "refused"  # the model's fault: not tried again until the section changes
    UNAVAILABLE = "unavailable"  # not the model's fault: tried again
    WITHDRAWN = "withdrawn"  # it served and was replaced; not tried again until the section changes


class InvalidSection(ValueError):
    """The section cannot be understood; `errors` maps the path of a field to its error."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        shown = [f"{path}: {what}" for path, what in list(errors.items())[:6]]
        more = [f"and {len(errors) - 6} more"] if len(errors) > 6 else []
        super().__init__("; ".join(shown + more))
        self.errors = dict(errors)


class DoesNotFit(ValueError):
    """The artefact is too large for the twin: it takes `characters`, but `limit` is the maximum."""

    def __init__(self, characters: int, limit: int = MAX_INLINE_CHARACTERS) -> None:
        super().__init__(f"the model takes {characters} characters inline, {limit} fit into a twin")
        self.characters, self.limit = characters, limit


@dataclass(frozen=True)
class ModelRef:
    """Identifies one model. `sha256` (lower-case hex) and `size` cover the whole artefact.

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
        """Name, version and sha256, as the twin reports them."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class Inline:
    """The artefact inside the twin: zlib, then base64, cut into chunks."""

    chunks: tuple[str, ...] = field(repr=False)

    def inflate(self, size: int) -> bytes:
        """The artefact's bytes, at most size + 1 of them. Raises InvalidSection.

        The one byte more makes the size check fail. The limit protects against decompression bombs.
        """
        path = "source.inline.parts"
        try:
            packed = base64.b64decode("".join(self.chunks), validate=True)
            return zlib.decompressobj().decompress(packed, size + 1)
        except binascii.Error as error:
            raise InvalidSection({path: f"not base64: {error}"}) from error
        except zlib.error as error:
            raise InvalidSection({path: f"not zlib: {error}"}) from error


@dataclass(frozen=True)
class Uri:
    """The artefact at an https address. The query of the address may hold a secret."""

    uri: str = field(repr=False)


@dataclass(frozen=True)
class ModelSection:
    """One readable `model` section."""

    ref: ModelRef
    attempt: int  # the operator raises it to request a refused model again
    source: Inline | Uri


_Word = Annotated[str, Field(pattern=WORD_PATTERN)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _InlineShape(_Shape):
    encoding: Literal["zlib+base64"]
    count: int = Field(ge=1, le=_MAX_CHUNKS)
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
    uri: Annotated[str, Field(max_length=MAX_CHUNK_BYTES), AfterValidator(_https)] | None = None


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
    cuts = range(0, len(text), CHUNK_CHARACTERS)
    parts = {f"{index:02}": text[cut : cut + CHUNK_CHARACTERS] for index, cut in enumerate(cuts)}
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


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # JSON can hold a lone surrogate


def twin_bytes(section: object) -> int:
    """The size that IoT Hub counts (ref 4.9): keys and strings in UTF-8, 8 for a number, 4 for a boolean."""
    match section:
        case None:
            return 0
        case bool():
            return 4
        case int() | float():
            return 8
        case str():
            return len(_utf8(section))
        case Mapping():
            return sum(len(_utf8(str(key))) + twin_bytes(value) for key, value in section.items())
        case list() | tuple():
            return sum(twin_bytes(value) for value in section)
    raise TypeError(f"a twin holds no {type(section).__name__}")


def digest(section: object) -> str:
    """The digest of the exact desired section, the key of a stored verdict. Ignores the order of keys."""
    text = json.dumps(section, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def key_id(public_key: bytes) -> str:
    """The id of a signing key: the first 16 hex digits of the raw public key's sha256."""
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
    if errors := _chunk_errors(shape.inline.count, shape.inline.parts):
        raise InvalidSection(errors)
    return Inline(tuple(shape.inline.parts[name] for name in _chunk_names(shape.inline.count)))


def _chunk_names(count: int) -> list[str]:
    return [f"{index:02}" for index in range(count)]


def _chunk_errors(count: int, parts: Mapping[str, str]) -> dict[str, str]:
    path = "source.inline.parts"
    names = _chunk_names(count)
    errors = {f"{path}.{name}": "missing" for name in names if name not in parts}
    # A merge patch keeps the chunks of a longer model before this one unless it sets them to null.
    errors |= {f"{path}.{name}": f"extra: count is {count}" for name in sorted(set(parts) - set(names))}
    for name in names:
        text = parts.get(name, "")
        if len(_utf8(text)) > MAX_CHUNK_BYTES:
            errors[f"{path}.{name}"] = f"overlong: more than {MAX_CHUNK_BYTES} bytes"
        elif not _BASE64_CHARACTERS.fullmatch(text) or (text.endswith("=") and name != max(parts)):
            errors[f"{path}.{name}"] = "not base64"
    return errors
