"""The terms of a twin query's condition: paths, operators and functions, compiled to closures over one twin.

A condition is true, false or undefined. A missing value or one of another type makes it undefined, and a twin
matches only when the condition is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twinship.simulator.common.tokens import ExpressionError, Token
from twinship.simulator.routing.functions import COMPARISONS
from twinship.simulator.routing.message import UNDEFINED

Evaluate = Callable[[Mapping[str, Any]], Any]


#: The attributes at the top of a twin (ref 5.3) by their lower-case names: letter case does not count there.
ATTRIBUTES: Final = {
    name.lower(): name
    for name in (
        *("deviceId", "moduleId", "etag", "version", "deviceEtag", "status", "statusReason"),
        *("statusUpdateTime", "connectionState", "lastActivityTime", "cloudToDeviceMessageCount"),
        *("authenticationType", "x509Thumbprint", "capabilities", "deviceScope", "parentScopes", "modelId"),
        *("tags", "properties", "configurations"),
    )
}


#: A segment of a path that is no plain name: configurations.[[my-id]].status
QUOTED: Final = r"\[\[[^\[\]]+\]\]"
_SEGMENT: Final = re.compile(rf"({QUOTED})|([^.]+)")


def segments(path: str) -> tuple[str, ...]:
    """The names in the text of a path: `a.[[b c]].d` is a, b c, d."""
    return tuple(quoted[2:-2] if quoted else plain for quoted, plain in _SEGMENT.findall(path))


def path_of(token: Token) -> tuple[str, ...]:
    """The path that a name stands for; its first part must be an attribute of twins, else ExpressionError."""
    first, *rest = segments(token.text)
    if first.lower() not in ATTRIBUTES:
        raise ExpressionError(
            token.column, f"a twin has no {first!r}; it has {', '.join(ATTRIBUTES.values())}"
        )
    return ATTRIBUTES[first.lower()], *rest


def value_at(path: Sequence[str]) -> Evaluate:
    """The value at a path of a twin."""

    def evaluate(twin: Mapping[str, Any]) -> Any:
        value: Any = twin
        for name in path:
            if not isinstance(value, Mapping) or name not in value:
                return UNDEFINED
            value = value[name]
        return value

    return evaluate


def constant(value: Any) -> Evaluate:
    """A literal."""
    return lambda _twin: value


def comparison(symbol: str, left: Evaluate, right: Evaluate) -> Evaluate:
    """`left symbol right`; undefined between different types and for values without an order."""
    if symbol in ("!=", "<>"):
        return inverted(lambda twin: equal(left(twin), right(twin)))
    if symbol == "=":
        return lambda twin: equal(left(twin), right(twin))
    holds = COMPARISONS[symbol]

    def evaluate(twin: Mapping[str, Any]) -> Any:
        one, other = left(twin), right(twin)
        if _type(one) is _type(other) and _type(one) in (float, str):
            return holds(one, other)
        return UNDEFINED

    return evaluate


def equal(one: Any, other: Any) -> Any:
    """Whether two values are equal; undefined between different types."""
    if UNDEFINED in (one, other) or _type(one) is not _type(other):
        return UNDEFINED
    return one == other


def member(value: Evaluate, members: Sequence[Any]) -> Evaluate:
    """`value IN [members]`."""

    def evaluate(twin: Mapping[str, Any]) -> Any:
        found = value(twin)
        return UNDEFINED if found is UNDEFINED else any(equal(found, each) is True for each in members)

    return evaluate


def inverted(term: Evaluate) -> Evaluate:
    """NOT."""

    def evaluate(twin: Mapping[str, Any]) -> Any:
        value = term(twin)
        return not value if isinstance(value, bool) else UNDEFINED

    return evaluate


def every(terms: Sequence[Evaluate]) -> Evaluate:
    """AND: false as soon as one term is false."""
    return _decided(terms, by=False)


def some(terms: Sequence[Evaluate]) -> Evaluate:
    """OR: true as soon as one term is true."""
    return _decided(terms, by=True)


def _decided(terms: Sequence[Evaluate], *, by: bool) -> Evaluate:
    def evaluate(twin: Mapping[str, Any]) -> Any:
        values = [term(twin) for term in terms]
        if any(value is by for value in values):
            return by
        return (not by) if all(isinstance(value, bool) for value in values) else UNDEFINED

    return evaluate


def call(name: Token, arguments: Sequence[Evaluate]) -> Evaluate:
    """A function call; raises ExpressionError for an unknown function or a wrong number of arguments."""
    takes, function = FUNCTIONS.get(name.key, (0, None))
    if function is None:
        raise ExpressionError(
            name.column, f"there is no function {name.text!r}; the functions are {', '.join(FUNCTIONS)}"
        )
    if len(arguments) != takes:
        raise ExpressionError(
            name.column, f"{name.text} takes {takes} value{'s'[: takes - 1]}, found {len(arguments)}"
        )
    return lambda twin: function(*[argument(twin) for argument in arguments])


def is_number(value: Any) -> bool:
    """Whether a value is a JSON number; true and false are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _type(value: Any) -> type:
    return float if is_number(value) else type(value)


def _of_texts(holds: Callable[[str, str], bool]) -> Callable[[Any, Any], Any]:
    def evaluate(text: Any, part: Any) -> Any:
        return holds(text, part) if isinstance(text, str) and isinstance(part, str) else UNDEFINED

    return evaluate


def _array_contains(array: Any, value: Any) -> Any:
    return any(equal(each, value) is True for each in array) if isinstance(array, list) else UNDEFINED


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


_TEXTS: Final = {
    "starts_with": _of_texts(str.startswith),
    "ends_with": _of_texts(str.endswith),
    "contains": _of_texts(str.__contains__),
}
#: Name → number of arguments and the function. The text functions are also known without the underscore.
FUNCTIONS: Final[Mapping[str, tuple[int, Callable[..., Any]]]] = {
    "is_defined": (1, lambda value: value is not UNDEFINED),
    "is_null": (1, lambda value: value is None),
    "is_bool": (1, _is(bool)),
    "is_number": (1, is_number),
    "is_string": (1, _is(str)),
    "is_object": (1, _is(Mapping)),
    "is_array": (1, _is(list)),
    "is_primitive": (1, _is(str, int, float, bool, type(None))),
    "array_contains": (2, _array_contains),
    **{name: (2, function) for name, function in _TEXTS.items()},
    **{name.replace("_", ""): (2, function) for name, function in _TEXTS.items()},
}
