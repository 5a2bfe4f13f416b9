"""The operators of conditions, compiled to closures over their operands (ref 4.6).

Types are checked during compilation, as edgeHub does. AND, OR and NOT have three values.
"""

from __future__ import annotations

from twinship.simulator.common.tokens import ExpressionError, Token
from twinship.simulator.routing.functions import ARITHMETIC, COMPARISONS, Type, compare, fits
from twinship.simulator.routing.message import UNDEFINED, RoutedMessage, Value
from twinship.simulator.routing.terms import Evaluate, Term, call, combined, constant, first_defined

_LOGICAL = (Type.BOOL, Type.UNDEFINED)


def negated(token: Token, operand: Term) -> Term:
    """`- operand`; raises ExpressionError unless the operand is a number."""
    if operand.type is not Type.NUMBER:
        raise _mismatch(token, "a number", operand)
    read = operand.evaluate

    def evaluate(message: RoutedMessage) -> Value:
        value = read(message)
        return -value if type(value) is float else UNDEFINED

    return combined(token, Type.NUMBER, evaluate, operand)


def inverted(token: Token, operand: Term) -> Term:
    """`NOT operand`; raises ExpressionError unless it can be a boolean. NOT null is true."""
    if operand.type is Type.NULL:
        return constant(Type.BOOL, True)
    if not fits(Type.BOOL, operand.type):
        raise _mismatch(token, "a boolean", operand)
    read = operand.evaluate

    def evaluate(message: RoutedMessage) -> Value:
        value = read(message)
        return not value if type(value) is bool else UNDEFINED

    return combined(token, Type.BOOL, evaluate, operand)


def binary(operator: Token, left: Term, right: Term) -> Term:
    """`left operator right`; raises ExpressionError if the types do not fit."""
    text = operator.text
    if operator.key == "and":
        return _and(operator, left, right)
    if operator.key == "or":
        return _or(operator, left, right)
    if text in ARITHMETIC:
        return _arithmetic(operator, left, right)
    if text == "||":
        return call(operator, "concat", [left, right])
    if not fits(left.type, right.type):
        raise _pair_mismatch(operator, left, right)
    if text == "??":
        type_ = Type.ANY if Type.ANY in (left.type, right.type) else left.type
        return combined(operator, type_, first_defined(left.evaluate, right.evaluate), left, right)
    return _comparison(operator, left, right)


def _arithmetic(operator: Token, left: Term, right: Term) -> Term:
    body = Type.ANY in (left.type, right.type)
    numbers = fits(Type.NUMBER, left.type) and fits(Type.NUMBER, right.type)
    if not numbers or (body and operator.text == "%"):  # edgeHub has no remainder for body values
        raise _pair_mismatch(operator, left, right)
    read_left, read_right, calculate = left.evaluate, right.evaluate, ARITHMETIC[operator.text]

    def evaluate(message: RoutedMessage) -> Value:
        one, other = read_left(message), read_right(message)
        if type(one) is float and type(other) is float:
            return calculate(one, other)
        return UNDEFINED

    return combined(operator, Type.ANY if body else Type.NUMBER, evaluate, left, right)


def _comparison(operator: Token, left: Term, right: Term) -> Term:
    read_left, read_right, holds = left.evaluate, right.evaluate, COMPARISONS[operator.text]

    def evaluate(message: RoutedMessage) -> Value:
        order = compare(read_left(message), read_right(message))
        return UNDEFINED if order is None else holds(order, 0)

    return combined(operator, Type.BOOL, evaluate, left, right)


def _and(operator: Token, left: Term, right: Term) -> Term:
    types = (left.type, right.type)
    if Type.NULL in types and all(kind in (Type.NULL, Type.BOOL) for kind in types):
        return constant(Type.NULL, None)
    if Type.NULL in types:
        raise _pair_mismatch(operator, left, right)
    return _logical(operator, left, right, decides=False)


def _or(operator: Token, left: Term, right: Term) -> Term:
    match left.type, right.type:
        case Type.NULL, (Type.NULL | Type.BOOL):
            return right
        case Type.BOOL, Type.NULL:
            return left
    return _logical(operator, left, right, decides=True)


def _logical(operator: Token, left: Term, right: Term, *, decides: bool) -> Term:
    """AND (decided by False) or OR (decided by True), with three values."""
    read_left, read_right = left.evaluate, right.evaluate
    if left.type is Type.ANY:  # edgeHub: undefined unless both values are booleans
        return combined(operator, Type.BOOL, _strict(read_left, read_right, decides), left, right)
    if left.type not in _LOGICAL or right.type not in _LOGICAL:
        raise _pair_mismatch(operator, left, right)

    def evaluate(message: RoutedMessage) -> Value:
        one = read_left(message)
        if one is decides:
            return decides
        other = read_right(message)
        if other is decides:
            return decides
        return UNDEFINED if UNDEFINED in (one, other) else not decides

    return combined(operator, Type.BOOL, evaluate, left, right)


def _strict(left: Evaluate, right: Evaluate, decides: bool) -> Evaluate:
    def evaluate(message: RoutedMessage) -> Value:
        one, other = left(message), right(message)
        if type(one) is bool and type(other) is bool:
            return decides if decides in (one, other) else not decides
        return UNDEFINED

    return evaluate


def _mismatch(token: Token, wanted: str, operand: Term) -> ExpressionError:
    return ExpressionError(token.column, f"{token.text} takes {wanted}, found: {operand.type.value}")


def _pair_mismatch(operator: Token, left: Term, right: Term) -> ExpressionError:
    reason = f"{operator.text} does not take {left.type.value} and {right.type.value}"
    types = {left.type, right.type}
    if types == {Type.STRING, Type.NUMBER}:
        reason += "; a property is always a string, as_number(...) makes it a number"
    elif right.type is Type.ANY and operator.key in ("and", "or"):
        reason += "; put the body value on the left, or compare it: $body.x = true"
    elif operator.text == "%":
        reason += "; as_number(...) makes a body value a number"
    return ExpressionError(operator.column, reason)
