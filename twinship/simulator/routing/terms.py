"""The terms of conditions, compiled to closures over a message: literals, names and calls (ref 4.6).

Types are checked during compilation, as edgeHub does: a condition that edgeHub refuses is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twinship.simulator.common.tokens import ExpressionError, Kind, Token
from twinship.simulator.routing.functions import FUNCTIONS, INQUIRIES, Function, Type
from twinship.simulator.routing.lexer import unquote
from twinship.simulator.routing.message import UNDEFINED, JsonPath, RoutedMessage, Value, parse_path

Evaluate = Callable[[RoutedMessage], Value]

MAX_DEPTH = 200  # each level is a closure: keeps evaluation far from Python's recursion limit
_BODY = "$body."
_TWIN_PREFIXES = ("properties.reported.", "properties.desired.", "tags.")
_PYTHON_TYPE = {Type.STRING: str, Type.NUMBER: float, Type.BOOL: bool}


@dataclass(frozen=True)
class Term:
    """A compiled term: its type, the closure that evaluates it, and the depth of nested closures."""

    type: Type
    evaluate: Evaluate
    depth: int = 1


def combined(token: Token, type_: Type, evaluate: Evaluate, *parts: Term) -> Term:
    """A term over other terms; raises ExpressionError at `token` if the closures get too deep."""
    depth = 1 + max(part.depth for part in parts)
    if depth > MAX_DEPTH:
        raise ExpressionError(token.column, f"more than {MAX_DEPTH} operations in a chain")
    return Term(type_, evaluate, depth)


def constant(type_: Type, value: Value) -> Term:
    """A term with a fixed value."""
    return Term(type_, lambda _message: value)


_UNDEFINED = constant(Type.UNDEFINED, UNDEFINED)
_CONSTANTS = {
    "true": constant(Type.BOOL, True),
    "false": constant(Type.BOOL, False),
    "null": constant(Type.NULL, None),
    "undefined": _UNDEFINED,
}


def literal(token: Token) -> Term:
    """The value of a literal; raises ExpressionError if the token is not a literal."""
    text = token.text
    match token.kind:
        case Kind.STRING:
            return constant(Type.STRING, unquote(text))
        case Kind.NUMBER:
            return _decimal(text)
        case Kind.HEX:
            return _hex(text)
        case Kind.WORD if text in _CONSTANTS:
            return _CONSTANTS[text]
    raise token.instead_of("a value")


def _decimal(text: str) -> Term:
    try:
        return constant(Type.NUMBER, float(text))
    except ValueError:  # edgeHub's lexer reads "e5" as a number, which has no value
        return _UNDEFINED


def _hex(text: str) -> Term:
    """At most 64 bits in two's complement, as edgeHub reads it; a longer number is undefined."""
    digits = text[2:].lstrip("0") or "0"
    if len(digits) > 16:
        return _UNDEFINED
    value = int(digits, 16)
    return constant(Type.NUMBER, float(value - 2**64 if value >= 2**63 else value))


def application_property(name: str) -> Term:
    """A bare name: an application property, always a string."""
    return Term(Type.STRING, lambda message: message.application_property(name))


def system_property(name: str) -> Term:
    """The system property; a name with brackets is undefined."""
    if "[" in name or "]" in name:
        return _UNDEFINED
    return Term(Type.STRING, lambda message: message.system_property(name))


def system_name(token: Token) -> Term:
    """`$name`: an application property of that name first, then the body or the system property.

    edgeHub looks for an application property called `$name`; by statement 51 one called `name` also has
    precedence. Both have it here.
    """
    name = token.text
    body = body_value(token)
    if "[" in name or "]" in name:
        return body or _UNDEFINED
    if body is not None:
        return Term(
            Type.ANY, first_defined(lambda message: message.application_property(name), body.evaluate)
        )
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
    """`$body.<path>`, None for any other `$name`; raises ExpressionError for a bad path."""
    if not token.text.lower().startswith(_BODY):
        return None
    path = _path(token, token.text[len(_BODY) :])
    return Term(Type.ANY, lambda message: message.body_value(path))


def _path(token: Token, text: str) -> JsonPath:
    try:
        return parse_path(text)
    except ValueError as error:
        raise ExpressionError(token.column, str(error)) from None


def first_defined(left: Evaluate, right: Evaluate) -> Evaluate:
    """The left value, or the right one if the left is undefined."""

    def evaluate(message: RoutedMessage) -> Value:
        value = left(message)
        return right(message) if value is UNDEFINED else value

    return evaluate


def call(name: Token, function: str, arguments: Sequence[Term]) -> Term:
    """A function call; raises ExpressionError if no signature accepts these types."""
    given = tuple(argument.type for argument in arguments)
    if function in INQUIRIES:
        if len(given) != 1:
            raise ExpressionError(name.column, f"{name.text} takes one value, found {len(given)}")
        inquire, known, read = INQUIRIES[function], given[0], arguments[0].evaluate
        return combined(name, Type.BOOL, lambda message: inquire(read(message), known), arguments[0])
    signatures = [signature for signature in FUNCTIONS[function] if signature.accepts(given)]
    if not signatures:
        wanted = " or ".join(map(str, FUNCTIONS[function]))
        found = ", ".join(kind.value for kind in given)
        raise ExpressionError(name.column, f"{name.text} takes {wanted}, found ({found})")
    evaluate = _apply(signatures, [argument.evaluate for argument in arguments])
    return combined(name, signatures[0].gives, evaluate, *arguments)


def _apply(signatures: Sequence[Function], reads: Sequence[Evaluate]) -> Evaluate:
    # With a body value among the arguments, the message decides which signature applies.
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


def twin_change(token: Token) -> Term:
    """twin_change_includes, whose argument is a path into the notification and not a value."""
    if token.kind is not Kind.NAME or not token.text.lower().startswith(_TWIN_PREFIXES):
        raise ExpressionError(token.column, f"expected a path below {', '.join(_TWIN_PREFIXES)}")
    path = _path(token, token.text)
    return Term(Type.BOOL, lambda message: message.body_has(path))
