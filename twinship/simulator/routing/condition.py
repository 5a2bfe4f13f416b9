"""Parses the condition of a route (`WHERE ...`, ref 4.6) and compiles it to a predicate over messages.

A condition is true, false or undefined, and a message passes only if it is true. terms.py and operators.py
compile the parts.

>>> hot = compile_condition("as_number(temperature) > 30 AND NOT is_defined($body.quiet)")
>>> hot(RoutedMessage("/messages/modules/m", {"temperature": "31"}, {}, b""))
True
>>> hot(RoutedMessage("/messages/modules/m", {}, {}, b""))
False
>>> compile_condition("temperature > 30")
Traceback (most recent call last):
    ...
twinship.simulator.routing.lexer.ConditionError: column 13: > does not take string and number; \
a property is always a string, as_number(...) makes it a number
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twinship.simulator.routing import operators, terms
from twinship.simulator.routing.functions import FUNCTIONS, INQUIRIES, Type
from twinship.simulator.routing.lexer import ConditionError, Kind, Token, tokenise
from twinship.simulator.routing.message import RoutedMessage
from twinship.simulator.routing.terms import Term

__all__ = ["ConditionError", "Predicate", "compile_condition", "parse_condition"]

Predicate = Callable[[RoutedMessage], bool]

MAX_NESTING = 50  # brackets and unary operators: keeps parsing far from Python's recursion limit
_TWIN_CHANGE = "twin_change_includes"
_UNARY_BINDS = 8
_BINDS = {"*": 7, "/": 7, "%": 7, "+": 6, "-": 6, "||": 6, "??": 1}
_BINDS |= {"<": 5, "<=": 5, ">": 5, ">=": 5, "=": 4, "!=": 4, "<>": 4}
_WORDS_BIND = {Kind.AND: 3, Kind.OR: 2}


def compile_condition(text: str, *, twin_source: bool = False) -> Predicate:
    """Compile the text of a condition; an empty one is never true. Raises ConditionError."""
    tokens = tokenise(text)
    if tokens[0].kind is Kind.END:
        return _never
    predicate, at = parse_condition(tokens, 0, twin_source=twin_source)
    if tokens[at].kind is not Kind.END:
        raise ConditionError(tokens[at].column, f"expected an operator, found {tokens[at]}")
    return predicate


def parse_condition(tokens: Sequence[Token], at: int, *, twin_source: bool) -> tuple[Predicate, int]:
    """Compile the condition that begins at tokens[at]; returns it and the index after it.

    `twin_source`: the route's source is twin changes, the only one where twin_change_includes is allowed.
    """
    parser = _Parser(tokens, at, twin_source)
    term = parser.expression(0)
    if term.type not in (Type.BOOL, Type.ANY):
        return _never, parser.at
    evaluate = term.evaluate
    return (lambda message: evaluate(message) is True), parser.at


def _never(_message: RoutedMessage) -> bool:
    return False


class _Parser:
    """Precedence climbing over the tokens; every operator binds to the left."""

    def __init__(self, tokens: Sequence[Token], at: int, twin_source: bool) -> None:
        self.tokens = tokens
        self.at = at
        self.twin_source = twin_source
        self.nesting = 0

    def take(self) -> Token:
        token = self.tokens[self.at]
        if token.kind is not Kind.END:
            self.at += 1
        return token

    def expect(self, text: str) -> None:
        token = self.take()
        if token.text != text:
            raise ConditionError(token.column, f"expected {text!r}, found {token}")

    def expression(self, binds: int) -> Term:
        """A value and the operators after it that bind tighter than `binds`."""
        token = self.tokens[self.at]
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise ConditionError(token.column, f"nested deeper than {MAX_NESTING}")
        left = self.operand()
        while _strength(operator := self.tokens[self.at]) > binds:
            self.at += 1
            right = self.expression(_strength(operator))
            left = operators.binary(operator, left, right)
        self.nesting -= 1
        return left

    def operand(self) -> Term:
        token = self.take()
        match token.kind, token.text:
            case Kind.SYMBOL, "(":
                inner = self.expression(0)
                self.expect(")")
                return inner
            case Kind.SYMBOL, "{":
                return self.escaped()
            case Kind.SYMBOL, "-":
                return operators.negated(token, self.expression(_UNARY_BINDS))
            case Kind.NOT, _:
                return operators.inverted(token, self.expression(_UNARY_BINDS))
            case Kind.SYSTEM, _:
                return terms.system_name(token)
            case Kind.NAME, name if self.tokens[self.at].text != "(":
                return terms.application_property(name)
            case Kind.NAME, _:
                return self.call(token)
        return terms.literal(token)

    def escaped(self) -> Term:
        """`{$name}`: the body or the system property, even if an application property has this name."""
        token = self.take()
        if token.kind is not Kind.SYSTEM:
            raise ConditionError(token.column, f"expected a $name, found {token}")
        self.expect("}")
        return terms.body_value(token) or terms.system_property(token.text[1:])

    def call(self, name: Token) -> Term:
        self.expect("(")
        function = name.text.lower()
        if function == _TWIN_CHANGE and self.twin_source:
            found = terms.twin_change(self.take())
            self.expect(")")
            return found
        if function not in FUNCTIONS and function not in INQUIRIES:
            hint = "; it is for routes from /twinChangeNotifications" if function == _TWIN_CHANGE else ""
            raise ConditionError(name.column, f"there is no function {name.text!r} here{hint}")
        return terms.call(name, function, self.arguments())

    def arguments(self) -> list[Term]:
        if self.tokens[self.at].text == ")":
            self.at += 1
            return []
        found = [self.expression(0)]
        while self.tokens[self.at].text == ",":
            self.at += 1
            found.append(self.expression(0))
        self.expect(")")
        return found


def _strength(token: Token) -> int:
    return _BINDS.get(token.text, 0) if token.kind is Kind.SYMBOL else _WORDS_BIND.get(token.kind, 0)
