"""Checks the limits of twin sections: names, values, depth and size (ref 4.9).

edgeHub's limits apply to a module's report, IoT Hub's to the writes of the service. Inside arrays the rules
are the same for both: the real edgeHub checks less there, and IoT Hub refuses the report later.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 10
MAX_NAME_BYTES = 1024
MAX_STRING_BYTES = 4096
MIN_INTEGER, MAX_INTEGER = -(2**52), 2**52 - 1
MAX_SECTION_BYTES = 32 * 1024
MAX_TAGS_BYTES = 8 * 1024
_NUMBER_BYTES, _BOOLEAN_BYTES = 8, 4


class TwinRefused(Exception):
    """The section breaks a limit: status 400. Sending it again does not help."""


def validate_reported(section: object) -> None:
    """Raise TwinRefused unless edgeHub accepts this as a reported patch."""
    _REPORTED.check(section)


def validate_reported_whole(section: object) -> None:
    """Raise TwinRefused unless IoT Hub accepts this as the whole reported section of a module.

    The real edgeHub answers 204 and fails later in the background; the simulator refuses the patch at once.
    """
    _REPORTED_WHOLE.check(section)


def validate_desired(section: object) -> None:
    """Raise TwinRefused unless IoT Hub accepts this as desired properties or a patch of them."""
    _DESIRED.check(section)


def validate_tags(section: object) -> None:
    """Raise TwinRefused unless IoT Hub accepts this as tags or a patch of them."""
    _TAGS.check(section)


def counted_bytes(value: object) -> int:
    """Size as IoT Hub counts it: names and strings in UTF-8, numbers 8 bytes, booleans 4, brackets 0."""
    match value:
        case Mapping():
            return sum(_utf8(key) + counted_bytes(inner) for key, inner in value.items())
        case list() | tuple():
            return sum(map(counted_bytes, value))
        case str():
            return _utf8(value)
        case bool():
            return _BOOLEAN_BYTES
        case None:
            return 0
    return _NUMBER_BYTES


def json_bytes(value: object) -> int:
    """Size as edgeHub counts a reported patch: its JSON text in UTF-8 without spaces."""
    return _utf8(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@dataclass(frozen=True)
class _Limits:
    section: str
    max_bytes: int
    measure: Callable[[object], int]
    forbidden: Callable[[str], bool]  # True for a character that is not allowed in names

    def check(self, section: object) -> None:
        """Check the shape before the size: measuring recurses as deep as the document."""
        if not isinstance(section, Mapping):
            raise TwinRefused(f"{self.section} is not a JSON object")
        self._check_object(section, self.section, level=0, in_array=False)
        if (size := self.measure(section)) > self.max_bytes:
            raise TwinRefused(f"{self.section} has {size} bytes, {self.max_bytes} allowed")

    def _check_object(self, section: Mapping[Any, Any], path: str, *, level: int, in_array: bool) -> None:
        if level > MAX_DEPTH:
            raise TwinRefused(f"{path} is deeper than {MAX_DEPTH} levels")
        for name, value in section.items():
            self._check_name(name, path)
            self._check_value(value, f"{path}.{name}", level=level, in_array=in_array)

    def _check_name(self, name: object, path: str) -> None:
        if not isinstance(name, str):
            raise TwinRefused(f"{path} has a name that is not a string")
        if (size := _utf8(name)) > MAX_NAME_BYTES:
            raise TwinRefused(f"{path}.{name[:10]}... is a name of {size} bytes, {MAX_NAME_BYTES} allowed")
        if wrong := next(filter(self.forbidden, name), None):
            raise TwinRefused(f"{path} has the name {name!r}: {wrong!r} is not allowed in a name")

    def _check_value(self, value: object, path: str, *, level: int, in_array: bool) -> None:
        match value:
            case Mapping():
                self._check_object(value, path, level=level + 1, in_array=in_array)
            case list() | tuple():
                # the limit counts objects, and arrays only inside arrays
                if (inner := level + in_array) > MAX_DEPTH:
                    raise TwinRefused(f"{path} is deeper than {MAX_DEPTH} levels")
                for index, item in enumerate(value):
                    self._check_value(item, f"{path}[{index}]", level=inner, in_array=True)
            case None if in_array:
                raise TwinRefused(f"{path} is null: not allowed in an array")
            case _:
                _check_scalar(value, path)


def _check_scalar(value: object, path: str) -> None:
    match value:
        case None | bool():
            return
        case str():
            if (size := _utf8(value)) > MAX_STRING_BYTES:
                raise TwinRefused(f"{path} is a string of {size} bytes, {MAX_STRING_BYTES} allowed")
        case int():
            if not MIN_INTEGER <= value <= MAX_INTEGER:
                raise TwinRefused(f"{path} is outside -2^52 ... 2^52-1")
        case float():
            if not math.isfinite(value):
                raise TwinRefused(f"{path} is not a JSON number")
        case _:
            raise TwinRefused(f"{path} is not a JSON value: {type(value).__name__}")


def _utf8(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))  # JSON can contain a lone surrogate


def _control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def _forbidden_at_edge_hub(character: str) -> bool:
    return character in ".$#" or character.isspace() or _control(character)


def _forbidden_at_iot_hub(character: str) -> bool:
    return character in ".$ " or _control(character)


_REPORTED = _Limits("reported", MAX_SECTION_BYTES, json_bytes, _forbidden_at_edge_hub)
_REPORTED_WHOLE = _Limits("reported", MAX_SECTION_BYTES, counted_bytes, _forbidden_at_edge_hub)
_DESIRED = _Limits("desired", MAX_SECTION_BYTES, counted_bytes, _forbidden_at_iot_hub)
_TAGS = _Limits("tags", MAX_TAGS_BYTES, counted_bytes, _forbidden_at_iot_hub)
