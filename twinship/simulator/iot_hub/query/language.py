"""IoT Hub's query language for twins: text to a compiled query (ref 5.2). Grammar only.

    SELECT [TOP n] * | column, ... FROM devices | devices.modules [WHERE condition] [GROUP BY path, ...]

A column is a path or COUNT/SUM/AVG/MIN/MAX, with AS and a name. Conditions have = != <> < <= > >=, AND, OR,
NOT, IN [...], NIN [...] and the functions of query_terms.py. What rows come out is query_rows.py's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from twinship.simulator.iot_hub.query import terms
from twinship.simulator.iot_hub.query.lexer import Kind, QueryError, Token, segments, tokenise, unquote
from twinship.simulator.iot_hub.query.terms import Evaluate

__all__ = ["Column", "Query", "QueryError", "parse_condition", "parse_query"]

MAX_NESTING: Final = 50  # keeps parsing far from Python's recursion limit
AGGREGATES: Final = ("count", "sum", "avg", "min", "max")
MODULES: Final = "devices.modules"
_SOURCES: Final = ("devices", MODULES)
_COMPARISONS: Final = ("=", "!=", "<>", "<", "<=", ">", ">=")
_WORDS: Final = {"true": True, "false": False, "null": None}

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Column:
    """One column of a projection. `aggregate` is one of AGGREGATES or nothing; `path` None: COUNT()."""

    name: str
    path: tuple[str, ...] | None
    aggregate: str = ""


@dataclass(frozen=True)
class Query:
    """What to take of which twins. `columns` None: whole twins; `where` is true for those that count."""

    source: str
    columns: tuple[Column, ...] | None
    where: Evaluate
    groups: tuple[tuple[str, ...], ...] = ()
    top: int | None = None

    @property
    def aggregated(self) -> bool:
        """Whether rows are groups of twins and not twins."""
        return bool(self.groups) or any(column.aggregate for column in self.columns or ())


def parse_query(text: str) -> Query:
    """Compile a query; raises QueryError."""
    parser = _Parser(tokenise(text))
    query = parser.query()
    parser.end()
    return query


def parse_condition(text: str) -> Evaluate:
    """Compile a condition that stands alone; raises QueryError."""
    parser = _Parser(tokenise(text))
    condition = parser.condition()
    parser.end()
    return condition


class _Parser:
    """Recursive descent; one method a rule."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.nesting = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.next
        if token.kind is not Kind.END:
            self.at += 1
        return token

    def found(self, *wanted: str) -> bool:
        """Take the next token if it is one of these key words or symbols."""
        token = self.next
        here = token.word in wanted or (token.kind is Kind.SYMBOL and token.text in wanted)
        self.at += here
        return here

    def expect(self, wanted: str) -> None:
        if not self.found(wanted):
            raise QueryError(self.next.column, f"expected {wanted.upper()!r}, found {self.next}")

    def end(self) -> None:
        if self.next.word == "order":
            raise QueryError(self.next.column, "IoT Hub's queries have no ORDER BY")
        if self.next.kind is not Kind.END:
            raise QueryError(self.next.column, f"expected the end, found {self.next}")

    def listed(self, one: Callable[[], Parsed]) -> list[Parsed]:
        items = [one()]
        while self.found(","):
            items.append(one())
        return items

    # the query

    def query(self) -> Query:
        self.expect("select")
        top = self.top() if self.found("top") else None
        placed = None if self.found("*") else self.listed(self.column)
        self.expect("from")
        source = self.source()
        where = self.condition() if self.found("where") else terms.constant(True)
        groups = self.groups() if self.found("group") else ()
        columns = _columns(placed, groups)
        if columns is None and groups:
            raise QueryError(self.next.column, "SELECT * does not go with GROUP BY")
        return Query(source, columns, where, groups, top)

    def top(self) -> int:
        token = self.take()
        if not re.fullmatch(r"[1-9][0-9]{0,8}", token.text):
            raise QueryError(token.column, f"TOP takes a whole number above 0, found {token}")
        return int(token.text)

    def source(self) -> str:
        token = self.take()
        if token.word == "devices.jobs":
            raise QueryError(token.column, "devices.jobs is not in this simulator, it has no jobs")
        if token.word not in _SOURCES:
            raise QueryError(token.column, f"expected {' or '.join(_SOURCES)}, found {token}")
        return token.word

    def groups(self) -> tuple[tuple[str, ...], ...]:
        self.expect("by")
        return tuple(self.listed(lambda: terms.path_of(self.name())))

    def column(self) -> tuple[Token, Column]:
        token = self.name()
        aggregate, path = "", None
        if self.found("("):
            aggregate, path = self.aggregate(token)
        else:
            path = terms.path_of(token)
        if self.found("as"):
            return token, Column(".".join(segments(self.name().text)), path, aggregate)
        return token, Column("" if aggregate or path is None else path[-1], path, aggregate)

    def aggregate(self, token: Token) -> tuple[str, tuple[str, ...] | None]:
        if token.word not in AGGREGATES:
            raise QueryError(token.column, f"SELECT has no function {token.text!r}; it has {_listed()}")
        everything = token.word == "count" and (self.found("*") or self.next.text == ")")
        path = None if everything else terms.path_of(self.name())
        self.expect(")")
        return token.word, path

    def name(self) -> Token:
        token = self.take()
        if token.kind is not Kind.NAME:
            raise QueryError(token.column, f"expected a name, found {token}")
        return token

    # conditions

    def condition(self) -> Evaluate:
        parts = [self.conjunction()]
        while self.found("or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else terms.some(parts)

    def conjunction(self) -> Evaluate:
        parts = [self.negation()]
        while self.found("and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else terms.every(parts)

    def negation(self) -> Evaluate:
        odd = False
        while self.found("not"):
            odd = not odd
        found = self.compared()
        return terms.inverted(found) if odd else found

    def compared(self) -> Evaluate:
        left = self.operand()
        symbol = self.next.text
        if self.found(*_COMPARISONS):
            return terms.comparison(symbol, left, self.operand())
        if self.found("in"):
            return terms.member(left, self.members())
        if self.found("nin"):
            return terms.inverted(terms.member(left, self.members()))
        return left

    def operand(self) -> Evaluate:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise QueryError(self.next.column, f"nested deeper than {MAX_NESTING}")
        found = self.value()
        self.nesting -= 1
        return found

    def value(self) -> Evaluate:
        if self.found("("):
            inner = self.condition()
            self.expect(")")
            return inner
        token = self.take()
        if token.kind is not Kind.NAME or token.word in _WORDS:
            return terms.constant(_literal(token))
        if self.found("("):
            return terms.call(token, self.arguments())
        return terms.value_at(terms.path_of(token))

    def arguments(self) -> list[Evaluate]:
        found = [] if self.next.text == ")" else self.listed(self.operand)
        self.expect(")")
        return found

    def members(self) -> list[Any]:
        self.expect("[")
        members = self.listed(lambda: _literal(self.take()))
        self.expect("]")
        return members


def _literal(token: Token) -> Any:
    if token.kind is Kind.STRING:
        return unquote(token.text)
    if token.kind is Kind.NUMBER:
        return float(token.text)  # equals the same number of a twin, whole or not
    if token.word in _WORDS:
        return _WORDS[token.word]
    raise QueryError(token.column, f"expected a value, found {token}")


def _columns(
    placed: list[tuple[Token, Column]] | None, groups: tuple[tuple[str, ...], ...]
) -> tuple[Column, ...] | None:
    """Names for columns that have none; raises QueryError for what cannot be told apart or grouped."""
    if placed is None:
        return None
    grouped = bool(groups) or any(column.aggregate for _, column in placed)
    columns: dict[str, Column] = {}
    for number, (token, column) in enumerate(placed, 1):
        name = column.name or f"${number}"
        if name in columns:
            raise QueryError(token.column, f"two columns are called {name!r}; name one with AS")
        if grouped and not column.aggregate and column.path not in groups:
            raise QueryError(token.column, f"{token.text} is neither in GROUP BY nor in an aggregate")
        columns[name] = replace(column, name=name)
    return tuple(columns.values())


def _listed() -> str:
    return ", ".join(name.upper() for name in AGGREGATES)
