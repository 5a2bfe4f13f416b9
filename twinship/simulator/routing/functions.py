"""The functions, arithmetic and comparisons of conditions (ref 4.6). None of them raises.

A number is a float and never NaN: the result is UNDEFINED instead, as in edgeHub.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from twinship.simulator.routing.message import MISSING, UNDEFINED, Absent, Value


class Type(Enum):
    """The type of a value as far as the compiler knows it. A body value may have ANY type."""

    STRING = "string"
    NUMBER = "number"
    BOOL = "boolean"
    NULL = "null"
    UNDEFINED = "undefined"
    ANY = "body value"


def fits(wanted: Type, given: Type) -> bool:
    """Whether a value of type `given` is allowed where `wanted` is needed. `undefined` fits only itself."""
    return wanted is given or (Type.ANY in (wanted, given) and Type.UNDEFINED not in (wanted, given))


@dataclass(frozen=True)
class Function:
    """One signature: types of the arguments and the result, and the function over plain values."""

    takes: tuple[Type, ...]
    gives: Type
    call: Callable[..., Value]
    repeats: bool = False  # the last argument may be repeated

    def accepts(self, given: tuple[Type, ...]) -> bool:
        """Whether the types of a call's arguments match this signature."""
        takes = self.takes
        if self.repeats and len(given) > len(takes):
            takes += (takes[-1],) * (len(given) - len(takes))
        return len(takes) == len(given) and all(map(fits, takes, given))

    def __str__(self) -> str:
        return f"({', '.join(kind.value for kind in self.takes)}{', ...' if self.repeats else ''})"


_RANK: dict[type, int] = {bool: 1, float: 2, str: 3, type(None): 4, Absent: 4}


def compare(left: Value, right: Value) -> int | None:
    """Negative, 0 or positive; None if undefined. Values of different types are ordered and never equal."""
    if left is UNDEFINED or right is UNDEFINED:
        return None
    rank, other = _RANK[type(left)], _RANK[type(right)]
    if rank != other or rank == _RANK[Absent]:
        return rank - other
    return int(left > right) - int(left < right)  # type: ignore[operator]  # both have the same type here


COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
}


def divide(left: float, right: float) -> Value:
    """IEEE division: a number by zero is infinite, 0 / 0 is undefined."""
    if right:
        return number(left / right)
    if not left:
        return UNDEFINED
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def remainder(left: float, right: float) -> Value:
    """The remainder with the sign of the dividend; undefined for a zero divisor or an infinite dividend."""
    return number(math.fmod(left, right)) if right and math.isfinite(left) else UNDEFINED


ARITHMETIC: dict[str, Callable[[float, float], Value]] = {
    "+": lambda left, right: number(left + right),
    "-": lambda left, right: number(left - right),
    "*": lambda left, right: number(left * right),
    "/": divide,
    "%": remainder,
}


def number(value: float) -> Value:
    """The float itself, UNDEFINED for NaN."""
    return UNDEFINED if value != value else value


# The format of .NET's NumberStyles.Any in the invariant culture. No two repetitions can match the same digit:
# the sender of the message chooses the text, and backtracking would take quadratic time.
_NUMBER = re.compile(r"(?:[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INFINITIES = {"infinity": math.inf, "-infinity": -math.inf}


def as_number(value: str) -> Value:
    """The number in a text, which may have thousands separators, or brackets for a negative number."""
    text = value.strip(" \t\n\v\f\r\0")
    if text.lower() in _INFINITIES:
        return _INFINITIES[text.lower()]
    negative = text.startswith("(") and text.endswith(")")
    text = text[1:-1].strip() if negative else text
    if not negative and text[:1] in ("+", "-"):
        negative, text = text[0] == "-", text[1:].lstrip()
    elif not negative and text[-1:] in ("+", "-"):
        negative, text = text[-1] == "-", text[:-1].rstrip()
    if _NUMBER.fullmatch(text) is None:
        return UNDEFINED
    plain = float(text.replace(",", ""))
    return -plain if negative else plain


def _exp(value: float) -> Value:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _power(base: float, exponent: float) -> Value:
    try:
        return number(math.pow(base, exponent))
    except OverflowError:
        odd = exponent % 2 == 1
        return -math.inf if base < 0 and odd else math.inf
    except ValueError:  # 0 to a negative power is infinite; a root of a negative number is undefined
        return math.inf if base == 0 else UNDEFINED


def _whole(rounding: Callable[[float], int]) -> Callable[[float], Value]:
    return lambda value: float(rounding(value)) if math.isfinite(value) else value


def _sign(value: float) -> Value:
    return float((value > 0) - (value < 0))


def _sqrt(value: float) -> Value:
    return math.sqrt(value) if value >= 0 else UNDEFINED


def _units(text: str) -> bytes:
    """The text in UTF-16: edgeHub counts its units, of two bytes each."""
    return text.encode("utf-16-le", "surrogatepass")


def _length(text: str) -> Value:
    return len(_units(text)) / 2


def _index_of(text: str, fragment: str) -> Value:
    at = text.find(fragment)
    return float(at) if at < 0 else _length(text[:at])


def _substring(text: str, start: float, length: float | None = None) -> Value:
    units = _units(text)
    count = len(units) // 2
    if length is None:
        if not 0 <= start <= count:
            return UNDEFINED
        piece = units[int(start) * 2 :]
    else:
        if not (0 <= start < count and 0 <= length <= count - start):
            return UNDEFINED
        piece = units[int(start) * 2 : (int(start) + int(length)) * 2]
    return piece.decode("utf-16-le", "surrogatepass")


def _is_bool(value: Value, known: Type) -> Value:
    if value is UNDEFINED and known in (Type.BOOL, Type.ANY):
        return UNDEFINED
    return type(value) is bool


def _is_null(value: Value, known: Type) -> Value:
    if known is not Type.ANY:
        return known is Type.NULL
    # Inverted, as in edgeHub: true if the body has a value at the path, false if it has none.
    return UNDEFINED if value is UNDEFINED else value is not MISSING


# These take one value of any type, also UNDEFINED, and the type that the compiler knows.
INQUIRIES: dict[str, Callable[[Value, Type], Value]] = {
    "is_bool": _is_bool,
    "is_defined": lambda value, known: value is not UNDEFINED,
    "is_null": _is_null,
    "is_number": lambda value, known: type(value) is float and math.isfinite(value),
    "is_string": lambda value, known: type(value) is str,
}

_S, _N, _B = Type.STRING, Type.NUMBER, Type.BOOL

# Name → signatures. The result is UNDEFINED if an argument is UNDEFINED, or a body value of another type.
FUNCTIONS: dict[str, tuple[Function, ...]] = {
    "abs": (Function((_N,), _N, abs),),
    "exp": (Function((_N,), _N, _exp),),
    "power": (Function((_N, _N), _N, _power),),
    "square": (Function((_N,), _N, lambda value: number(value * value)),),
    "ceiling": (Function((_N,), _N, _whole(math.ceil)),),
    "floor": (Function((_N,), _N, _whole(math.floor)),),
    "sign": (Function((_N,), _N, _sign),),
    "sqrt": (Function((_N,), _N, _sqrt),),
    "as_number": (Function((_S,), _N, as_number), Function((_N,), _N, lambda value: value)),
    "concat": (Function((_S, _S), _S, lambda *texts: "".join(texts), repeats=True),),
    "length": (Function((_S,), _N, _length),),
    "lower": (Function((_S,), _S, str.lower),),
    "upper": (Function((_S,), _S, str.upper),),
    "substring": (Function((_S, _N), _S, _substring), Function((_S, _N, _N), _S, _substring)),
    "index_of": (Function((_S, _S), _N, _index_of),),
    "starts_with": (Function((_S, _S), _B, str.startswith),),
    "ends_with": (Function((_S, _S), _B, str.endswith),),
    "contains": (Function((_S, _S), _B, lambda text, fragment: fragment in text),),
}
