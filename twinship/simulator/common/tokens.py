r"""Splits a text into tokens and reads them one after another. Routes and twin queries have their own rules.

The longest match wins, on a tie the earlier rule. The time is linear in the length of the text.

>>> rules = compiled((Kind.NAME, "[a-z]+"), (Kind.SYMBOL, "[(),]"), (Kind.SPACE, r"\s+"))
>>> cursor = Cursor(tokenise("f (a, b", rules))
>>> cursor.take().text, cursor.found("("), [each.text for each in cursor.listed(cursor.take)]
('f', True, ['a', 'b'])
>>> cursor.expect(")")
Traceback (most recent call last):
    ...
twinship.simulator.common.tokens.ExpressionError: column 8: expected ')', found the end
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar

MAX_CHARACTERS: Final = 8192  # twice the limit of a twin's string; keeps the time to read a text short
MAX_NESTING: Final = 50  # brackets and unary operators: keeps parsing far from Python's recursion limit

Parsed = TypeVar("Parsed")


class ExpressionError(ValueError):
    """The text is not of this language. `column` counts from 1."""

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(f"column {column}: {reason}")
        self.column = column
        self.reason = reason


class Kind(Enum):
    """The kind of a token."""

    WORD = auto()  # a key word that is no name
    STRING = auto()
    UNTERMINATED = auto()  # a string without its closing quote, which is an error
    NUMBER = auto()
    HEX = auto()
    SYMBOL = auto()
    SYSTEM = auto()
    NAME = auto()
    PATH = auto()
    SPACE = auto()
    COMMENT = auto()
    END = auto()


_KEYED: Final = (Kind.WORD, Kind.NAME, Kind.SYMBOL)
Rules = Sequence[tuple[Kind, re.Pattern[str]]]


@dataclass(frozen=True)
class Token:
    """One token and its position; `column` counts from 1."""

    kind: Kind
    text: str
    column: int

    @property
    def key(self) -> str:
        """The text in lower case if it may be a key word or a symbol, else empty."""
        return self.text.lower() if self.kind in _KEYED else ""

    def __str__(self) -> str:
        return "the end" if self.kind is Kind.END else repr(self.text)

    def instead_of(self, wanted: str) -> ExpressionError:
        """The error that another token was expected here."""
        return ExpressionError(self.column, f"expected {wanted}, found {self}")


def compiled(*rules: tuple[Kind, str]) -> Rules:
    """Rules from patterns."""
    return [(kind, re.compile(pattern, re.DOTALL)) for kind, pattern in rules]


def tokenise(text: str, rules: Rules) -> list[Token]:
    """All tokens without spaces and comments; the last is END. Raises ExpressionError."""
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(1, f"the text has {len(text)} characters, at most {MAX_CHARACTERS}")
    without_comments = [rule for rule in rules if rule[0] is not Kind.COMMENT]
    last_comment_ends = text.rfind("*/")  # looking for it at each /* would take quadratic time
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        kind, end = _longest(text, at, rules if at + 2 <= last_comment_ends else without_comments)
        if kind not in (Kind.SPACE, Kind.COMMENT):
            tokens.append(Token(kind, text[at:end], at + 1))
        at = end
    return [*tokens, Token(Kind.END, "", len(text) + 1)]


def _longest(text: str, at: int, rules: Rules) -> tuple[Kind, int]:
    best, end = Kind.END, at
    for kind, pattern in rules:
        match = pattern.match(text, at)
        if match is not None and match.end() > end:
            best, end = kind, match.end()
    if best is Kind.UNTERMINATED:
        raise ExpressionError(at + 1, f"string {text[at : at + 20]!r} is not closed")
    if best is Kind.END:
        raise ExpressionError(at + 1, f"{text[at]!r} has no meaning here")
    return best, end


class Cursor:
    """Reads tokens; the base of a parser by recursive descent. Methods raise ExpressionError."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._nesting = 0

    @property
    def next(self) -> Token:
        """The token that take() returns next."""
        return self._tokens[self._at]

    def take(self) -> Token:
        """The next token; END stays."""
        token = self.next
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def found(self, *keys: str) -> bool:
        """Take the next token if it is one of these key words or symbols, in lower case."""
        here = self.next.key in keys
        self._at += here
        return here

    def expect(self, key: str, described: str = "") -> None:
        """Take this key word or symbol."""
        if not self.found(key):
            raise self.next.instead_of(described or repr(key.upper()))

    def end(self, described: str = "the end") -> None:
        """Check that nothing follows."""
        if self.next.kind is not Kind.END:
            raise self.next.instead_of(described)

    def listed(self, one: Callable[[], Parsed]) -> list[Parsed]:
        """One or more, with commas between them."""
        items = [one()]
        while self.found(","):
            items.append(one())
        return items

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Count a level of nesting."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise ExpressionError(self.next.column, f"nested deeper than {MAX_NESTING}")
        yield
        self._nesting -= 1
