"""A message as routes see it: source, application and system properties, and a body that may be JSON.

No content of a message makes a read raise; a value that cannot be read is UNDEFINED.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Any, Final, Literal

JsonPath = tuple[str | int, ...]


class Absent(Enum):
    """The two kinds of absent values."""

    UNDEFINED = auto()
    #: The body has no such path: like null, except for is_null and twin_change_includes.
    MISSING = auto()


UNDEFINED: Final = Absent.UNDEFINED
MISSING: Final = Absent.MISSING
Undefined = Literal[Absent.UNDEFINED]
Value = str | float | bool | None | Absent

_ENCODINGS = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
_JSON = "application/json"
# edgeHub's JSON reader turns such a string into a date, which routes read as undefined.
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
_CONSTANTS: dict[str, float | Undefined] = {
    "NaN": UNDEFINED,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}
_PATH_ITEM = re.compile(r"([^\[\]*]+)(?:\[([0-9]{1,9})\])?")


@dataclass(frozen=True)
class RoutedMessage:
    """The input of routes. `system` has the names that routes use: contentType, connectionDeviceId, ..."""

    source: str  # "/messages/modules/m/outputs/o", "/messages/modules/m", "/twinChangeNotifications"
    properties: Mapping[str, str]
    system: Mapping[str, str]
    body: bytes

    def application_property(self, name: str) -> str | Undefined:
        """The application property of this name, in any letter case."""
        return _look_up(self.properties, name)

    def system_property(self, name: str) -> str | Undefined:
        """The system property of this name, in any letter case."""
        return _look_up(self.system, name)

    def body_value(self, path: JsonPath) -> Value:
        """The value at this path: a scalar, None or MISSING; UNDEFINED for an object or no JSON (ref 4.6)."""
        found = self._at(path)
        return UNDEFINED if _is_opaque(found) else found

    def body_has(self, path: JsonPath) -> bool | Undefined:
        """Whether the body has this path, also with null or an object as its value."""
        found = self._at(path)
        return UNDEFINED if found is UNDEFINED else found is not MISSING

    def _at(self, path: JsonPath) -> Any:
        at: Any = self._document
        if at is UNDEFINED:
            return UNDEFINED
        for step in path:
            if isinstance(step, str):
                if not isinstance(at, dict) or step not in at:
                    return MISSING
            elif not isinstance(at, list) or step >= len(at):
                return MISSING
            at = at[step]
        return at

    @cached_property
    def _document(self) -> dict[str, Any] | Undefined:
        """The parsed body: only a JSON object whose sender declared content type and encoding."""
        encoding = self.system_property("contentEncoding")
        codec = None if encoding is UNDEFINED else _ENCODINGS.get(encoding.lower())
        content_type = self.system_property("contentType")
        if codec is None or content_type is UNDEFINED or content_type.lower() != _JSON:
            return UNDEFINED
        try:
            # numbers become floats at once: int() of 5,000 digits raises
            text = self.body.decode(codec, "replace")
            document = json.loads(text, parse_int=float, parse_constant=_CONSTANTS.__getitem__)
        except (ValueError, RecursionError):
            return UNDEFINED
        return document if isinstance(document, dict) else UNDEFINED


def parse_path(text: str) -> JsonPath:
    """Parse a path such as `a.b[0].c`; raises ValueError with the reason."""
    path: list[str | int] = []
    for item in text.split("."):
        match = _PATH_ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{text!r} is not a path such as a.b[0].c")
        path.append(match[1])
        if match[2] is not None:
            path.append(int(match[2]))
    return tuple(path)


def _look_up(bag: Mapping[str, str], name: str) -> str | Undefined:
    value = bag.get(name)
    if value is not None:
        return value
    wanted = name.lower()
    return next((value for key, value in bag.items() if key.lower() == wanted), UNDEFINED)


def _is_opaque(value: Any) -> bool:
    return isinstance(value, dict | list) or (isinstance(value, str) and _DATE.fullmatch(value) is not None)
