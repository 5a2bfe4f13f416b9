"""Log lines: no text of a client begins a line of its own or controls a terminal."""

from __future__ import annotations

import logging
import sys

import pytest
from aiohttp.http_exceptions import BadStatusLine
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.common import log_lines
from twinship.simulator.common.log_lines import FORMAT, MAX_CHARACTERS, LineFormatter, printable


def formatted(message: str, *arguments: object, error: BaseException | None = None) -> list[str]:
    """The lines of one record."""
    raised = (type(error), error, None) if error is not None else None
    record = logging.LogRecord("n", logging.INFO, "", 0, message, arguments, raised)
    return LineFormatter(FORMAT).format(record).split("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grün 😀", "grün 😀"),
        ("a\nb\r\n", "a\\nb\\r\\n"),
        ("\x1b[31m\x00\x7f\x9b", "\\x1b[31m\\x00\\x7f\\x9b"),
        ("\u2028\u202e\ufeff", "\\u2028\\u202e\\ufeff"),
        ("\ud800", "\\ud800"),
    ],
)
def test_characters_that_are_not_printable_are_escaped(text: str, shown: str) -> None:
    """Line breaks, terminal sequences, directions of writing, lone surrogates."""
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_any_text_is_one_printable_line(text: str) -> None:
    """It can be written in UTF-8 too."""
    assert printable(text).isprintable()
    assert printable(text) == "" or printable(text).encode()


def test_a_long_text_is_cut() -> None:
    """Its length is shown."""
    assert printable("x" * 100_000).endswith("x… (100000 characters)")
    assert len(printable("x" * 100_000)) < MAX_CHARACTERS + 50


def test_a_record_is_one_line() -> None:
    """Whatever its arguments are."""
    (line,) = formatted("%s: closed: %s", "dev", "x\n2026-01-01 00:00:00,000 INFO forged")
    assert "dev: closed: x\\n2026" in line


def test_a_traceback_is_indented() -> None:
    """The text of an exception begins no line of its own."""
    first, *others = formatted("failed", error=ValueError("x\n2026-01-01 00:00:00,000 INFO forged"))
    assert first.endswith("failed")
    assert others
    assert all(line.startswith("  ") for line in others)


def test_a_request_that_is_not_http_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp logs it as an error with a traceback; other errors keep theirs."""
    seen: list[logging.LogRecord] = []
    logger = logging.getLogger("aiohttp.server")
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", seen.append)
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    log_lines.configure()
    for error in (BadStatusLine("GARBAGE\n"), ValueError("a defect")):
        try:
            raise error
        except Exception:
            logger.error("Error handling request", exc_info=sys.exc_info())
    first, second = (LineFormatter(FORMAT).format(record) for record in seen)
    assert "\n" not in first
    assert "a request is not HTTP" in first
    assert "a defect" in second
    assert "Traceback" in second
