"""IoT Hub's query language for twins: parses a text into a compiled query (ref 5.2).

    SELECT * | path [AS name], ... | COUNT() [AS name] FROM devices | devices.modules [WHERE condition]

A condition has = != <> < <= > >=, AND, OR, NOT, IN [...], NIN [...] and the functions of terms.py. IoT Hub
also has TOP, GROUP BY and other aggregates; the parser refuses them by name.

>>> query = parse_query("SELECT deviceId, tags.floor AS storey FROM devices WHERE tags.floor > 1")
>>> query.where({"deviceId": "a", "tags": {"floor": 2}})
True
>>> query.where({"deviceId": "b"})
<Absent.UNDEFINED: 1>
>>> list(query.columns)
['deviceId', 'storey']
>>> parse_query("SELECT TOP 3 * FROM devices")
Traceback (most recent call last):
    ...
twinship.simulator.common.tokens.ExpressionError: column 8: TOP is not in this simulator; \
SELECT takes *, paths, or COUNT() alone
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinship.simulator.common.tokens import Cursor, ExpressionError, Kind, Token, compiled, tokenise
from twinship.simulator.iot_hub.query import terms
from twinship.simulator.iot_hub.query.terms import QUOTED, Evaluate, segments
from twinship.simulator.routing.functions import COMPARISONS

MODULES: Final = "devices.modules"
COUNT: Final = "$1"  # IoT Hub's name of the first column when the query gives it none
_SOURCES: Final = ("devices", MODULES)
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_PLAIN: Final = r"[^\W\d][\w$-]*|\$[\w$-]*"
# Key words are names, because a tag may have the same name.
_RULES: Final = compiled(
    (Kind.SPACE, r"\s+"),
    (Kind.STRING, r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""),
    (Kind.UNTERMINATED, r"""'(?:[^'\\]|\\.)*|"(?:[^"\\]|\\.)*"""),
    (Kind.NUMBER, r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.])"),
    (Kind.NAME, rf"(?:{_PLAIN}|{QUOTED})(?:\.(?:[\w$-]+|{QUOTED}))*"),
    (Kind.SYMBOL, r"!=|<>|<=|>=|[=<>()\[\],*]"),
)


@dataclass(frozen=True)
class Query:
    """A compiled query: a twin matches when `where` returns true for it."""

    source: str
    where: Evaluate
    columns: Mapping[str, Evaluate] | None = None  # by name; None: the whole twin
    count: str | None = None  # the name of COUNT(): the result is one row with the number of matches


def parse_query(text: str) -> Query:
    """Compile a query; raises ExpressionError."""
    parser = _Parser(tokenise(text, _RULES))
    query = parser.query()
    parser.end()
    return query


def parse_condition(text: str) -> Evaluate:
    """Compile a condition that stands alone; raises ExpressionError."""
    parser = _Parser(tokenise(text, _RULES))
    condition = parser.condition()
    parser.end()
    return condition


class _Parser(Cursor):
    """Recursive descent; one method a rule."""

    def end(self, described: str = "the end") -> None:
        if self.next.key == "order":
            raise ExpressionError(self.next.column, "IoT Hub's queries have no ORDER BY")
        if self.next.key == "group":
            raise _not_supported(self.next, "GROUP BY")
        super().end(described)

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
        if self.next.key == "top":
            raise _not_supported(self.next, "TOP")
        if self.next.key == "count":
            return {}, self.count()
        columns: dict[str, Evaluate] = {}
        for column, name, value in self.listed(self.column):
            if name in columns:
                raise ExpressionError(column, f"two columns are called {name!r}; name one with AS")
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
        if self.next.key == ",":
            raise _not_supported(self.next, "COUNT() beside another column")
        return name

    def column(self) -> tuple[int, str, Evaluate]:
        """Where a column stands in the text, its name, and how to read it from a twin."""
        token = self.name()
        if self.next.key == "(":
            raise _not_supported(token, f"{token.text.upper()}() as a column")
        path = terms.path_of(token)
        return token.column, self.alias() or path[-1], terms.value_at(path)

    def alias(self) -> str:
        return ".".join(segments(self.name().text)) if self.found("as") else ""

    def source(self) -> str:
        token = self.take()
        if token.key == "devices.jobs":
            raise ExpressionError(token.column, "devices.jobs is not in this simulator, it has no jobs")
        if token.key not in _SOURCES:
            raise token.instead_of(" or ".join(_SOURCES))
        return token.key

    def name(self) -> Token:
        token = self.take()
        if token.kind is not Kind.NAME:
            raise token.instead_of("a name")
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
        symbol = self.next.key
        if self.found(*COMPARISONS):
            return terms.comparison(symbol, left, self.operand())
        if self.found("in"):
            return terms.member(left, self.members())
        if self.found("nin"):
            return terms.inverted(terms.member(left, self.members()))
        return left

    def operand(self) -> Evaluate:
        with self.nested():
            return self.value()

    def value(self) -> Evaluate:
        if self.found("("):
            inner = self.condition()
            self.expect(")")
            return inner
        token = self.take()
        if token.kind is not Kind.NAME or token.key in _CONSTANTS:
            return terms.constant(_literal(token))
        if self.found("("):
            arguments = [] if self.next.key == ")" else self.listed(self.operand)
            self.expect(")")
            return terms.call(token, arguments)
        return terms.value_at(terms.path_of(token))

    def members(self) -> list[Any]:
        self.expect("[")
        members = self.listed(lambda: _literal(self.take()))
        self.expect("]")
        return members


def _literal(token: Token) -> Any:
    if token.kind is Kind.STRING:
        # a backslash keeps the next character as it is
        return re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
    if token.kind is Kind.NUMBER:
        return float(token.text)  # equals the same number of a twin, whole or not
    if token.key in _CONSTANTS:
        return _CONSTANTS[token.key]
    raise token.instead_of("a value")


def _not_supported(token: Token, what: str) -> ExpressionError:
    return ExpressionError(
        token.column, f"{what} is not in this simulator; SELECT takes *, paths, or COUNT() alone"
    )
