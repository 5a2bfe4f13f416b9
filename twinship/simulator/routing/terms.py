"""The parts of a condition, each compiled to a closure: literals, names, operators, calls (ref 4.6).

Types are checked here, while compiling, as edgeHub does: what it would refuse is refused. Parses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twinship.simulator.routing.functions import (
    ARITHMETIC,
    COMPARISONS,
    FUNCTIONS,
    INQUIRIES,
    Function,
    Type,
    compare,
    fits,
)
from twinship.simulator.routing.lexer import ConditionError, Kind, Token, unquote
from twinship.simulator.routing.message import UNDEFINED, JsonPath, RoutedMessage, Value, parse_path

Evaluate = Callable[[RoutedMessage], Value]

MAX_DEPTH = 200  # a closure for each level: keeps evaluation far from Python's recursion limit
_BODY = "$body."
_TWIN_PREFIXES = ("properties.reported.", "properties.desired.", "tags.")
_PYTHON_TYPE = {Type.STRING: str, Type.NUMBER: float, Type.BOOL: bool}


@dataclass(frozen=True)
class Term:
    """A compiled part: what is known of its type, how to get its value, how many closures deep it goes."""

    type: Type
    evaluate: Evaluate
    depth: int = 1


def _term(token: Token, type_: Type, evaluate: Evaluate, *parts: Term) -> Term:
    """A term over others; raises ConditionError at `token` when the chain of closures gets too deep."""
    depth = 1 + max(part.depth for part in parts)
    if depth > MAX_DEPTH:
        raise ConditionError(token.column, f"more than {MAX_DEPTH} operations in a chain")
    return Term(type_, evaluate, depth)


def _constant(type_: Type, value: Value) -> Term:
    return Term(type_, lambda _message: value)


_UNDEFINED = _constant(Type.UNDEFINED, UNDEFINED)


def literal(token: Token) -> Term:
    """The value that a word stands for; raises ConditionError for a word that is none."""
    text = token.text
    match token.kind:
        case Kind.STRING:
            return _constant(Type.STRING, unquote(text))
        case Kind.INTEGER | Kind.REAL:
            return _decimal(text)
        case Kind.HEX:
            return _hex(text)
        case Kind.TRUE | Kind.FALSE:
            return _constant(Type.BOOL, token.kind is Kind.TRUE)
        case Kind.NULL:
            return _constant(Type.NULL, None)
        case Kind.UNDEFINED:
            return _UNDEFINED
    raise ConditionError(token.column, f"expected a value, found {token}")


def _decimal(text: str) -> Term:
    try:
        return _constant(Type.NUMBER, float(text))
    except ValueError:  # "e5" is a number to the lexer and none to anybody else
        return _UNDEFINED


def _hex(text: str) -> Term:
    """At most 64 bits, two's complement; longer is undefined (edgeHub reads a long)."""
    digits = text[2:].lstrip("0") or "0"
    if len(digits) > 16:
        return _UNDEFINED
    value = int(digits, 16)
    return _constant(Type.NUMBER, float(value - 2**64 if value >= 2**63 else value))


def application_property(name: str) -> Term:
    """A bare name: an application property, always a string."""
    return Term(Type.STRING, lambda message: message.application_property(name))


def system_property(name: str) -> Term:
    """The system property; a name with brackets is none."""
    if "[" in name or "]" in name:
        return _UNDEFINED
    return Term(Type.STRING, lambda message: message.system_property(name))


def system_name(token: Token) -> Term:
    """`$name`: an application property of that name first, then the body or the system property.

    edgeHub looks for an application property that is itself called `$name`; statement 51 of the reference has
    one called `name` shadow too. Both do here.
    """
    name = token.text
    body = body_value(token)
    if "[" in name or "]" in name:
        return body or _UNDEFINED
    if body is not None:
        return Term(Type.ANY, _first(lambda message: message.application_property(name), body.evaluate))
    bare = name[1:]

    def evaluate(message: RoutedMessage) -> Value:
        for read, key in (
            (message.application_property, name),
            (message.application_property, bare),
            (message.system_property, bare),
        ):
            if (value := read(key)) is not UNDEFINED:
                return value
        return UNDEFINED

    return Term(Type.STRING, evaluate)


def body_value(token: Token) -> Term | None:
    """`$body.<path>`, None for any other `$name`; raises ConditionError for a bad path."""
    if not token.text.lower().startswith(_BODY):
        return None
    path = _path(token, token.text[len(_BODY) :])
    return Term(Type.ANY, lambda message: message.body_value(path))


def _path(token: Token, text: str) -> JsonPath:
    try:
        return parse_path(text)
    except ValueError as error:
        raise ConditionError(token.column, str(error)) from None


def _first(left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(message: RoutedMessage) -> Value:
        value = left(message)
        return right(message) if value is UNDEFINED else value

    return evaluate


def call(name: Token, function: str, arguments: Sequence[Term]) -> Term:
    """A function call; raises ConditionError when no signature takes these types."""
    given = tuple(argument.type for argument in arguments)
    if function in INQUIRIES:
        if len(given) != 1:
            raise ConditionError(name.column, f"{name.text} takes one value, found {len(given)}")
        inquire, known, read = INQUIRIES[function], given[0], arguments[0].evaluate
        return _term(name, Type.BOOL, lambda message: inquire(read(message), known), arguments[0])
    signatures = [signature for signature in FUNCTIONS[function] if signature.accepts(given)]
    if not signatures:
        wanted = " or ".join(map(str, FUNCTIONS[function]))
        found = ", ".join(kind.value for kind in given)
        raise ConditionError(name.column, f"{name.text} takes {wanted}, found ({found})")
    evaluate = _apply(signatures, [argument.evaluate for argument in arguments])
    return _term(name, signatures[0].gives, evaluate, *arguments)


def _apply(signatures: Sequence[Function], reads: Sequence[Evaluate]) -> Evaluate:
    # With a body value among the arguments, only the message tells which signature it is.
    overloads = [(_python_types(signature, len(reads)), signature.call) for signature in signatures]

    def evaluate(message: RoutedMessage) -> Value:
        values = [read(message) for read in reads]
        found = [type(value) for value in values]
        for types, call in overloads:
            if found == types:
                return call(*values)
        return UNDEFINED

    return evaluate


def _python_types(signature: Function, count: int) -> list[type]:
    types = [_PYTHON_TYPE[kind] for kind in signature.takes]
    return types + [types[-1]] * (count - len(types))


def negated(token: Token, operand: Term) -> Term:
    """`- operand`; raises ConditionError unless it is a number."""
    if operand.type is not Type.NUMBER:
        raise _mismatch(token, "a number", operand)
    read = operand.evaluate

    def evaluate(message: RoutedMessage) -> Value:
        value = read(message)
        return -value if type(value) is float else UNDEFINED

    return _term(token, Type.NUMBER, evaluate, operand)


def inverted(token: Token, operand: Term) -> Term:
    """`NOT operand`; raises ConditionError unless it can be a boolean. NOT null is true."""
    if operand.type is Type.NULL:
        return _constant(Type.BOOL, True)
    if not fits(Type.BOOL, operand.type):
        raise _mismatch(token, "a boolean", operand)
    read = operand.evaluate

    def evaluate(message: RoutedMessage) -> Value:
        value = read(message)
        return not value if type(value) is bool else UNDEFINED

    return _term(token, Type.BOOL, evaluate, operand)


def binary(operator: Token, left: Term, right: Term) -> Term:
    """`left operator right`; raises ConditionError when the types do not go together."""
    text = operator.text
    if operator.kind is Kind.AND:
        return _and(operator, left, right)
    if operator.kind is Kind.OR:
        return _or(operator, left, right)
    if text in ARITHMETIC:
        return _arithmetic(operator, left, right)
    if text == "||":
        return call(operator, "concat", [left, right])
    if not fits(left.type, right.type):
        raise _pair_mismatch(operator, left, right)
    if text == "??":
        type_ = Type.ANY if Type.ANY in (left.type, right.type) else left.type
        return _term(operator, type_, _first(left.evaluate, right.evaluate), left, right)
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

    return _term(operator, Type.ANY if body else Type.NUMBER, evaluate, left, right)


def _comparison(operator: Token, left: Term, right: Term) -> Term:
    read_left, read_right, holds = left.evaluate, right.evaluate, COMPARISONS[operator.text]

    def evaluate(message: RoutedMessage) -> Value:
        order = compare(read_left(message), read_right(message))
        return UNDEFINED if order is None else holds(order, 0)

    return _term(operator, Type.BOOL, evaluate, left, right)


_LOGICAL = (Type.BOOL, Type.UNDEFINED)


def _and(operator: Token, left: Term, right: Term) -> Term:
    types = (left.type, right.type)
    if Type.NULL in types and all(kind in (Type.NULL, Type.BOOL) for kind in types):
        return _constant(Type.NULL, None)
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
    """AND (which False decides) or OR (which True decides), with three values."""
    read_left, read_right = left.evaluate, right.evaluate
    if left.type is Type.ANY:  # edgeHub: undefined unless both are booleans, whatever the right side's type
        return _term(operator, Type.BOOL, _strict(read_left, read_right, decides), left, right)
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

    return _term(operator, Type.BOOL, evaluate, left, right)


def _strict(left: Evaluate, right: Evaluate, decides: bool) -> Evaluate:
    def evaluate(message: RoutedMessage) -> Value:
        one, other = left(message), right(message)
        if type(one) is bool and type(other) is bool:
            return decides if decides in (one, other) else not decides
        return UNDEFINED

    return evaluate


def _mismatch(token: Token, wanted: str, operand: Term) -> ConditionError:
    return ConditionError(token.column, f"{token.text} takes {wanted}, found: {operand.type.value}")


def _pair_mismatch(operator: Token, left: Term, right: Term) -> ConditionError:
    reason = f"{operator.text} does not go with {left.type.value} and {right.type.value}"
    types = {left.type, right.type}
    if types == {Type.STRING, Type.NUMBER}:
        reason += "; a property is always a string, as_number(...) makes it a number"
    elif right.type is Type.ANY and operator.kind in (Kind.AND, Kind.OR):
        reason += "; put the body value on the left, or compare it: $body.x = true"
    elif operator.text == "%":
        reason += "; as_number(...) makes a number of a body value"
    return ConditionError(operator.column, reason)


def twin_change(token: Token) -> Term:
    """twin_change_includes: its argument is a path into the notification, not a value."""
    if token.kind is not Kind.NAME or not token.text.lower().startswith(_TWIN_PREFIXES):
        raise ConditionError(token.column, f"expected a path below {', '.join(_TWIN_PREFIXES)}")
    path = _path(token, token.text)
    return Term(Type.BOOL, lambda message: message.body_has(path))
