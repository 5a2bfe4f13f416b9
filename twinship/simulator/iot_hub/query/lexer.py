"""Splits the text of a twin query into tokens, each with its column.

routing/lexer.py follows edgeHub's lexer, which reads `['a'` as one name, so it cannot read lists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class QueryError(ValueError):
    """The text is not a query or condition of this language. `column` counts from 1."""

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(f"column {column}: {reason}")
        self.column = column
        self.reason = reason


class Kind(Enum):
    """The kind of a token. Key words are names, because a tag may have the same name."""

    NAME = "name"
    STRING = "string"
    NUMBER = "number"
    SYMBOL = "symbol"
    END = "end"


@dataclass(frozen=True)
class Token:
    """One token and its position; `column` counts from 1."""

    kind: Kind
    text: str
    column: int

    @property
    def word(self) -> str:
        """The text in lower case if it may be a key word, else empty."""
        return self.text.lower() if self.kind is Kind.NAME else ""

    def __str__(self) -> str:
        return "the end" if self.kind is Kind.END else repr(self.text)


MAX_CHARACTERS: Final = 8192  # keeps the time to parse a text short
# One segment of a path. Other than plain names stand in [[...]]: configurations.[[my-id]].status
_PLAIN: Final = r"[^\W\d][\w$-]*|\$[\w$-]*"
_QUOTED: Final = r"\[\[[^\[\]]+\]\]"
_NEXT: Final = rf"\.(?:[\w$-]+|{_QUOTED})"
_TOKEN: Final = re.compile(
    rf"""
    (?P<space>\s+)
  | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
  | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
  | (?P<name>(?:{_PLAIN}|{_QUOTED})(?:{_NEXT})*)
  | (?P<symbol>!=|<>|<=|>=|[=<>()\[\],*])
    """,
    re.VERBOSE | re.DOTALL,
)
_SEGMENT: Final = re.compile(rf"({_QUOTED})|([^.]+)")


def tokenise(text: str) -> list[Token]:
    """All tokens, ending with END. Raises QueryError."""
    if len(text) > MAX_CHARACTERS:
        raise QueryError(1, f"the text has {len(text)} characters, at most {MAX_CHARACTERS}")
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryError(at + 1, _unreadable(text, at))
        if match.lastgroup != "space":
            tokens.append(Token(Kind(match.lastgroup), match[0], at + 1))
        at = match.end()
    return [*tokens, Token(Kind.END, "", len(text) + 1)]


def unquote(literal: str) -> str:
    """The text of a STRING token without its quotes; a backslash keeps the next character as it is."""
    return re.sub(r"\\(.)", r"\1", literal[1:-1], flags=re.DOTALL)


def segments(path: str) -> tuple[str, ...]:
    """The names in the text of a NAME token: `a.[[b c]].d` is a, b c, d."""
    return tuple(quoted[2:-2] if quoted else plain for quoted, plain in _SEGMENT.findall(path))


def _unreadable(text: str, at: int) -> str:
    if text[at] in "'\"":
        return f"string {text[at : at + 20]!r} is not closed"
    return f"{text[at : at + 10]!r} has no meaning here"
