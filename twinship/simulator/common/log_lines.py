"""Log lines that no client can forge: whatever a client sent is shown as printable text on one line.

>>> printable("x\\n2026-01-01 INFO forged\\x1b[31m")
'x\\\\n2026-01-01 INFO forged\\\\x1b[31m'
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Final, TypeAlias

from aiohttp.http_exceptions import HttpProcessingError

MAX_CHARACTERS: Final = 2000  # of a line
FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"

_ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def printable(text: str) -> str:
    """The text on one line: other characters than printable ones are escaped, and a long text is cut."""
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]}… ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


class LineFormatter(logging.Formatter):
    """A record is one printable line; the lines of a traceback follow it and are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # the name is logging's
        return printable(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


def configure() -> None:
    """Log to stderr in this form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.getLogger("aiohttp.server").addFilter(_malformed_request)


def _malformed_request(record: logging.LogRecord) -> bool:
    """aiohttp reports a request that is not HTTP with a traceback; one line says as much."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = "a request is not HTTP: %s", (error.message,)
        record.exc_info = record.exc_text = None
    return True


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
