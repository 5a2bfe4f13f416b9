"""What a target is: a function of bytes that raises only the exceptions that it promises."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Case = Callable[[bytes], object]
Promised = tuple[type[Exception], ...]

SEPARATOR = b"\n----\n"  # between the parts of an input that has several


@dataclass(frozen=True)
class Target:
    """One parser.

    `prepare` imports the parser and returns the function and the exceptions that it promises. It imports
    inside, because atheris instruments the packages of `instrument` while they are imported.
    """

    prepare: Callable[[], tuple[Case, Promised]]
    instrument: tuple[str, ...]
    max_bytes: int = 4096  # of an input; less where a case would take over a millisecond


def parts(data: bytes, count: int) -> list[bytes]:
    """The first `count` parts of an input; a part that is not there is empty."""
    found = data.split(SEPARATOR, count - 1)
    return found + [b""] * (count - len(found))


def text_of(data: bytes) -> str:
    """Text with lone surrogates for bytes that are not UTF-8: JSON and HTTP headers can hold them."""
    return data.decode("utf-8", "surrogateescape")


def json_of(data: bytes) -> Any:
    """The JSON value, or the text itself for bytes that are not JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(data)
    return text_of(data)


def bag_of(data: bytes) -> dict[str, str]:
    """Properties from `name=value&name=value`."""
    pairs = (pair.partition("=") for pair in text_of(data).split("&"))
    return {name: value for name, _, value in pairs}


def check(right: bool, what: str) -> None:
    """Raise AssertionError, also where Python runs with -O."""
    if not right:
        raise AssertionError(what)
