"""Parses the condition of a route (`WHERE ...`, ref 4.6) and compiles it to a predicate over messages.

A condition is true, false or undefined, and a message passes only if it is true. terms.py and operators.py
compile the parts.

>>> from twinship.simulator.common.tokens import tokenise
>>> from twinship.simulator.routing.lexer import RULES
>>> tokens = tokenise("as_number(temperature) > 30 AND NOT is_defined($body.quiet)", RULES)
>>> hot = ConditionParser(tokens).predicate(twin_source=False)
>>> hot(RoutedMessage("/messages/modules/m", {"temperature": "31"}, {}, b""))
True
>>> hot(RoutedMessage("/messages/modules/m", {}, {}, b""))
False
>>> ConditionParser(tokenise("temperature > 30", RULES)).predicate(twin_source=False)
Traceback (most recent call last):
    ...
twinship.simulator.common.tokens.ExpressionError: column 13: > does not take string and number; \
a property is always a string, as_number(...) makes it a number
"""

from __future__ import annotations

from collections.abc import Callable

from twinship.simulator.common.tokens import Cursor, ExpressionError, Kind, Token
from twinship.simulator.routing import operators, terms
from twinship.simulator.routing.functions import FUNCTIONS, INQUIRIES, Type
from twinship.simulator.routing.message import RoutedMessage
from twinship.simulator.routing.terms import Term

Predicate = Callable[[RoutedMessage], bool]

_TWIN_CHANGE = "twin_change_includes"
_UNARY_BINDS = 8
_BINDS = {"*": 7, "/": 7, "%": 7, "+": 6, "-": 6, "||": 6, "and": 3, "or": 2, "??": 1}
_BINDS |= {"<": 5, "<=": 5, ">": 5, ">=": 5, "=": 4, "!=": 4, "<>": 4}


def _never(_message: RoutedMessage) -> bool:
    return False


class ConditionParser(Cursor):
    """Precedence climbing over the tokens; every operator binds to the left."""

    _twin_source = False

    def predicate(self, *, twin_source: bool) -> Predicate:
        """Compile the condition that begins here.

        `twin_source`: the route's source is twin changes, the only one where twin_change_includes is allowed.
        """
        self._twin_source = twin_source
        term = self._expression(0)
        if term.type not in (Type.BOOL, Type.ANY):
            return _never
        evaluate = term.evaluate
        return lambda message: evaluate(message) is True

    def _expression(self, binds: int) -> Term:
        """A value and the operators after it that bind tighter than `binds`."""
        with self.nested():
            left = self._operand()
            while (strength := _BINDS.get(self.next.key, 0)) > binds:
                operator = self.take()
                left = operators.binary(operator, left, self._expression(strength))
        return left

    def _operand(self) -> Term:
        token = self.take()
        match token.kind, token.key:
            case _, "(":
                inner = self._expression(0)
                self.expect(")")
                return inner
            case _, "{":
                return self._escaped()
            case _, "-":
                return operators.negated(token, self._expression(_UNARY_BINDS))
            case _, "not":
                return operators.inverted(token, self._expression(_UNARY_BINDS))
            case Kind.SYSTEM, _:
                return terms.system_name(token)
            case Kind.NAME, _ if self.found("("):
                return self._call(token)
            case Kind.NAME, _:
                return terms.application_property(token.text)
        return terms.literal(token)

    def _escaped(self) -> Term:
        """`{$name}`: the body or the system property, even if an application property has this name."""
        token = self.take()
        if token.kind is not Kind.SYSTEM:
            raise token.instead_of("a $name")
        self.expect("}")
        return terms.body_value(token) or terms.system_property(token.text[1:])

    def _call(self, name: Token) -> Term:
        function = name.key
        if function == _TWIN_CHANGE and self._twin_source:
            found = terms.twin_change(self.take())
            self.expect(")")
            return found
        if function not in FUNCTIONS and function not in INQUIRIES:
            hint = "; it is for routes from /twinChangeNotifications" if function == _TWIN_CHANGE else ""
            raise ExpressionError(name.column, f"there is no function {name.text!r} here{hint}")
        arguments = [] if self.next.key == ")" else self.listed(lambda: self._expression(0))
        self.expect(")")
        return terms.call(name, function, arguments)
