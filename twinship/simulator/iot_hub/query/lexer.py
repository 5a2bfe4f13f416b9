"""The words of a twin query: text to tokens, each with its column. Knows no grammar.

condition_lexer.py follows edgeHub's route lexer, which makes one name of `['a'`, so it cannot serve lists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class QueryError(ValueError):
    """The text is no query or condition that this language has. `column` counts from 1."""

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(f"column {column}: {reason}")
        self.column = column
        self.reason = reason


class Kind(Enum):
    """What a token is. Key words are names: a tag may be called like one."""

    NAME = "name"
    STRING = "string"
    NUMBER = "number"
    SYMBOL = "symbol"
    END = "end"


@dataclass(frozen=True)
class Token:
    """One word and where it stands; `column` counts from 1."""

    kind: Kind
    text: str
    column: int

    @property
    def word(self) -> str:
        """In lower case, if it may be a key word; else nothing."""
        return self.text.lower() if self.kind is Kind.NAME else ""

    def __str__(self) -> str:
        return "the end" if self.kind is Kind.END else repr(self.text)


# One segment of a path; what is no plain name stands in [[...]], as in configurations.[[my-id]].status
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
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryError(at + 1, _nothing(text, at))
        if match.lastgroup != "space":
            tokens.append(Token(Kind(match.lastgroup), match[0], at + 1))
        at = match.end()
    return [*tokens, Token(Kind.END, "", len(text) + 1)]


def unquote(literal: str) -> str:
    """The text of a STRING token: quotes off, a backslash takes the next character as it is."""
    return re.sub(r"\\(.)", r"\1", literal[1:-1], flags=re.DOTALL)


def segments(path: str) -> tuple[str, ...]:
    """The names in the text of a NAME token: `a.[[b c]].d` is a, b c, d."""
    return tuple(quoted[2:-2] if quoted else plain for quoted, plain in _SEGMENT.findall(path))


def _nothing(text: str, at: int) -> str:
    if text[at] in "'\"":
        return f"string {text[at : at + 20]!r} is not closed"
    return f"{text[at : at + 10]!r} means nothing here"
