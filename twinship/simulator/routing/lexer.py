"""Splits the text of a route into tokens by the rules of edgeHub's lexer (ref 4.6).

The longest match wins, on a tie the earlier rule. A name may contain `+ - * | ! . '`, so `a || b` is three
tokens and `a||b` is one name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

MAX_CHARACTERS = 8192  # twice the limit of a twin's string; keeps the time to read a text short
_NAME_STOPS = r'()<>@,;:\\"/?={} \t\n\r'
_ESCAPE = r"\\(?:[\"'\\]|u[0-9a-fA-F]{4})"


class ConditionError(Exception):
    """The text is not a route or a condition. `column` counts from 1."""

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(f"column {column}: {reason}")
        self.column = column
        self.reason = reason


class Kind(Enum):
    """The kind of a token; each key word has its own."""

    SELECT = auto()
    FROM = auto()
    WHERE = auto()
    INTO = auto()
    STRING = auto()
    UNTERMINATED = auto()
    INTEGER = auto()
    HEX = auto()
    REAL = auto()
    TRUE = auto()
    FALSE = auto()
    NULL = auto()
    UNDEFINED = auto()
    SYMBOL = auto()
    AND = auto()
    OR = auto()
    NOT = auto()
    SYSTEM = auto()
    NAME = auto()
    PATH = auto()
    SPACE = auto()
    COMMENT = auto()
    END = auto()


@dataclass(frozen=True)
class Token:
    """One token and its position; `column` counts from 1."""

    kind: Kind
    text: str
    column: int

    def __str__(self) -> str:
        return "the end" if self.kind is Kind.END else repr(self.text)


# In the order that decides a tie.
_RULES = [
    (kind, re.compile(pattern, re.DOTALL))
    for kind, pattern in [
        (Kind.SELECT, r"(?i:select)"),
        (Kind.FROM, r"(?i:from)"),
        (Kind.WHERE, r"(?i:where)"),
        (Kind.INTO, r"(?i:into)"),
        (Kind.STRING, rf'"(?:{_ESCAPE}|[^"\\])*"|\'(?:{_ESCAPE}|[^\'\\])*\''),
        (Kind.UNTERMINATED, rf'"(?:{_ESCAPE}|[^"\\])*|\'(?:{_ESCAPE}|[^\'\\])*'),
        (Kind.INTEGER, r"-?[0-9]+"),
        (Kind.HEX, r"0[xX][0-9a-fA-F]+"),
        (Kind.REAL, r"-?[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|-?[0-9]*[eE][+-]?[0-9]+"),
        (Kind.TRUE, r"true"),
        (Kind.FALSE, r"false"),
        (Kind.NULL, r"null"),
        (Kind.UNDEFINED, r"undefined"),
        (Kind.SYMBOL, r"!=|<>|<=|>=|\|\||\?\?|[(),+\-*/%=<>{}]"),
        (Kind.AND, r"(?i:and)"),
        (Kind.OR, r"(?i:or)"),
        (Kind.NOT, r"(?i:not)"),
        (Kind.SYSTEM, rf"\$[^{_NAME_STOPS}]+"),
        (Kind.NAME, rf"[^{_NAME_STOPS}\[\]]+"),
        (Kind.PATH, rf"[^{_NAME_STOPS}]+"),
        (Kind.SPACE, r"[ \t\r\n]+"),
        (Kind.COMMENT, r"/\*.*?\*/"),
    ]
]
_RULES_BUT_COMMENT = _RULES[:-1]


def tokenise(text: str) -> list[Token]:
    """All tokens without spaces and comments; the last is END. Raises ConditionError."""
    if len(text) > MAX_CHARACTERS:
        raise ConditionError(1, f"the text has {len(text)} characters, at most {MAX_CHARACTERS}")
    tokens: list[Token] = []
    last_comment_ends = text.rfind("*/")  # looking for it at each /* would take quadratic time
    at = 0
    while at < len(text):
        kind, end = _longest(text, at, _RULES if at + 2 <= last_comment_ends else _RULES_BUT_COMMENT)
        if kind is Kind.UNTERMINATED:
            raise ConditionError(at + 1, f"string {text[at : at + 20]!r} is not closed")
        if kind not in (Kind.SPACE, Kind.COMMENT):
            tokens.append(Token(kind, text[at:end], at + 1))
        at = end
    return [*tokens, Token(Kind.END, "", len(text) + 1)]


def unquote(literal: str) -> str:
    """The text of a STRING token without quotes and escapes."""
    plain = re.sub(r"\\[uU]([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), literal[1:-1])
    return re.sub(r"\\([\"'\\])", r"\1", plain)


def _longest(text: str, at: int, rules: Sequence[tuple[Kind, re.Pattern[str]]]) -> tuple[Kind, int]:
    best, end = Kind.END, at
    for kind, pattern in rules:
        match = pattern.match(text, at)
        if match is not None and match.end() > end:
            best, end = kind, match.end()
    if best is Kind.END:
        raise ConditionError(at + 1, f"{text[at]!r} has no meaning here")
    return best, end
