"""IoT Hub's query language for twins: parses a text into a compiled query (ref 5.2).

    SELECT * | path [AS name], ... | COUNT() [AS name] FROM devices | devices.modules [WHERE condition]

A condition has = != <> < <= > >=, AND, OR, NOT, IN [...], NIN [...] and the functions of terms.py. IoT Hub
also has TOP, GROUP BY and other aggregates; the parser refuses them by name.

>>> query = parse_query("SELECT deviceId, tags.floor AS storey FROM devices WHERE tags.floor > 1")
>>> query.where({"deviceId": "a", "tags": {"floor": 2}})
True
>>> query.where({"deviceId": "b"})
undefined
>>> list(query.columns)
['deviceId', 'storey']
>>> parse_query("SELECT TOP 3 * FROM devices")
Traceback (most recent call last):
    ...
twinship.simulator.iot_hub.query.lexer.QueryError: column 8: TOP is not in this simulator; \
SELECT takes *, paths, or COUNT() alone
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from twinship.simulator.iot_hub.query import terms
from twinship.simulator.iot_hub.query.lexer import Kind, QueryError, Token, segments, tokenise, unquote
from twinship.simulator.iot_hub.query.terms import Evaluate

__all__ = ["Query", "QueryError", "parse_condition", "parse_query"]

MAX_NESTING: Final = 50  # keeps parsing far from Python's recursion limit
MODULES: Final = "devices.modules"
COUNT: Final = "$1"  # IoT Hub's name of the first column when the query gives it none
_SOURCES: Final = ("devices", MODULES)
_COMPARISONS: Final = ("=", "!=", "<>", "<", "<=", ">", ">=")
_WORDS: Final = {"true": True, "false": False, "null": None}

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Query:
    """A compiled query: a twin matches when `where` returns true for it."""

    source: str
    where: Evaluate
    columns: Mapping[str, Evaluate] | None = None  # by name; None: the whole twin
    count: str | None = None  # the name of COUNT(): the result is one row with the number of matches


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
        if self.next.word == "group":
            raise _not_supported(self.next, "GROUP BY")
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
        columns, count = self.selection()
        self.expect("from")
        source = self.source()
        where = self.condition() if self.found("where") else terms.constant(True)
        return Query(source, where, columns, count)

    def selection(self) -> tuple[dict[str, Evaluate] | None, str | None]:
        """The columns by name, or the name of COUNT(); neither for `*`."""
        if self.found("*"):
            return None, None
        if self.next.word == "top":
            raise _not_supported(self.next, "TOP")
        if self.next.word == "count":
            return {}, self.count()
        columns: dict[str, Evaluate] = {}
        for column, name, value in self.listed(self.column):
            if name in columns:
                raise QueryError(column, f"two columns are called {name!r}; name one with AS")
            columns[name] = value
        return columns, None

    def count(self) -> str:
        """COUNT() or COUNT(*), the only column; returns its name."""
        token = self.take()
        self.expect("(")
        self.found("*")
        if not self.found(")"):
            raise _not_supported(token, "COUNT() of a path")
        name = self.alias() or COUNT
        if self.next.text == ",":
            raise _not_supported(self.next, "COUNT() beside another column")
        return name

    def column(self) -> tuple[int, str, Evaluate]:
        """Where a column stands in the text, its name, and how to read it from a twin."""
        token = self.name()
        if self.next.text == "(":
            raise _not_supported(token, f"{token.text.upper()}() as a column")
        path = terms.path_of(token)
        return token.column, self.alias() or path[-1], terms.value_at(path)

    def alias(self) -> str:
        return ".".join(segments(self.name().text)) if self.found("as") else ""

    def source(self) -> str:
        token = self.take()
        if token.word == "devices.jobs":
            raise QueryError(token.column, "devices.jobs is not in this simulator, it has no jobs")
        if token.word not in _SOURCES:
            raise QueryError(token.column, f"expected {' or '.join(_SOURCES)}, found {token}")
        return token.word

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


def _not_supported(token: Token, what: str) -> QueryError:
    return QueryError(
        token.column, f"{what} is not in this simulator; SELECT takes *, paths, or COUNT() alone"
    )
