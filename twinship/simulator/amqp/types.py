r"""The types of AMQP 1.0 as Python values, to and from bytes (OASIS AMQP 1.0, part 1).

A number keeps its AMQP type in the class (Uint, Ulong, ...); a plain int is a long. An array becomes a list.

>>> encode([Uint(7), "x", None]).hex()
'c007035207a1017840'
>>> decode(bytes.fromhex("c007035207a1017840"))
[7, 'x', None]
>>> decode(b"\xa1\x05ab")
Traceback (most recent call last):
    ...
twinship.simulator.amqp.types.Malformed: a value ends before its last byte
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

MAX_DEPTH: Final = 16


class Malformed(ValueError):
    """Bytes that are not AMQP, or a wrong field. The text contains nothing of the peer."""


class Symbol(str):
    """A symbol: an ASCII string from a constrained domain."""

    __slots__ = ()


class Char(str):
    """One Unicode character."""

    __slots__ = ()


class Ubyte(int):
    """8 bits without a sign."""


class Ushort(int):
    """16 bits without a sign."""


class Uint(int):
    """32 bits without a sign."""


class Ulong(int):
    """64 bits without a sign."""


class Byte(int):
    """8 bits with a sign."""


class Short(int):
    """16 bits with a sign."""


class Int(int):
    """32 bits with a sign."""


class Timestamp(int):
    """Milliseconds since the epoch."""


class Float(float):
    """IEEE 754 binary32."""


class Decimal(bytes):
    """IEEE 754 decimal of 4, 8 or 16 bytes, which nothing here reads."""


class Array(list[Any]):
    """A list whose elements are encoded as an AMQP array; all have the type of the first."""


class Described(NamedTuple):
    """A value with a descriptor, which says what the value means."""

    descriptor: Any
    value: Any


_FIXED: Final[Mapping[int, tuple[struct.Struct, Callable[[Any], Any]]]] = {
    code: (struct.Struct(">" + form), make)
    for code, form, make in (
        (0x56, "B", bool),
        (0x50, "B", Ubyte),
        (0x51, "b", Byte),
        (0x52, "B", Uint),
        (0x53, "B", Ulong),
        (0x54, "b", Int),
        (0x55, "b", int),
        (0x60, "H", Ushort),
        (0x61, "h", Short),
        (0x70, "I", Uint),
        (0x71, "i", Int),
        (0x72, "f", Float),
        (0x73, "I", lambda number: Char(chr(number))),
        (0x74, "4s", Decimal),
        (0x80, "Q", Ulong),
        (0x81, "q", int),
        (0x82, "d", float),
        (0x83, "q", Timestamp),
        (0x84, "8s", Decimal),
        (0x94, "16s", Decimal),
        (0x98, "16s", lambda raw: uuid.UUID(bytes=raw)),
    )
}
_EMPTY: Final[Mapping[int, Callable[[], Any]]] = {
    0x40: lambda: None,
    0x41: lambda: True,
    0x42: lambda: False,
    0x43: lambda: Uint(0),
    0x44: lambda: Ulong(0),
    0x45: list,
}
_VARIABLE: Final[Mapping[int, Callable[[bytes], Any]]] = {
    0xA0: bytes,
    0xA1: lambda raw: raw.decode("utf-8"),
    0xA3: lambda raw: Symbol(raw.decode("ascii")),
}
_U32: Final = struct.Struct(">I")
_TWO_U32: Final = struct.Struct(">II")


def decode(data: bytes) -> Any:
    """The one value that the bytes hold; raises Malformed."""
    value, end = decode_at(data, 0)
    if end != len(data):
        raise Malformed("bytes follow the value")
    return value


def decode_at(data: bytes, at: int) -> tuple[Any, int]:
    """The value that begins at this offset, and the offset after it; raises Malformed."""
    try:
        return _value(data, at, 0)
    except (IndexError, struct.error):
        raise Malformed("a value ends before its last byte") from None
    except Malformed:
        raise
    except (ValueError, OverflowError, TypeError):  # no UTF-8, no ASCII, no character, a list as a key
        raise Malformed("a value is outside the range of its type") from None


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    code = data[at]
    if code == 0:
        if depth >= MAX_DEPTH:
            raise Malformed(f"values are nested deeper than {MAX_DEPTH}")
        descriptor, at = _value(data, at + 1, depth + 1)
        value, at = _value(data, at, depth + 1)
        return Described(descriptor, value), at
    return _of(code, data, at + 1, depth)


def _of(code: int, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The value of this constructor, whose content begins at `at`."""
    if (fixed := _FIXED.get(code)) is not None:
        form, make = fixed
        return make(form.unpack_from(data, at)[0]), at + form.size
    if (empty := _EMPTY.get(code)) is not None:
        return empty(), at
    wide = bool(code & 0x10)
    size, at = (_U32.unpack_from(data, at)[0], at + 4) if wide else (data[at], at + 1)
    end = at + size
    if end > len(data):
        raise Malformed("a value ends before its last byte")
    if (variable := _VARIABLE.get(code & 0xEF)) is not None:
        return variable(data[at:end]), end
    if code & 0xEF not in (0xC0, 0xC1, 0xE0):
        raise Malformed(f"0x{code:02x} is no type")
    if depth >= MAX_DEPTH:
        raise Malformed(f"values are nested deeper than {MAX_DEPTH}")
    count, at = (_U32.unpack_from(data, at)[0], at + 4) if wide else (data[at], at + 1)
    if count > size:  # each element has a byte; an array of elements without bytes is of no use
        raise Malformed("a list says that it has more elements than bytes")
    items, at = (_elements if code & 0xEF == 0xE0 else _items)(data, at, count, depth + 1)
    if at != end:
        raise Malformed("a list has another size than it says")
    if code & 0xEF == 0xC1:
        if count % 2:
            raise Malformed("a map has a key without a value")
        return dict(zip(items[::2], items[1::2], strict=True)), at
    return items, at


def _items(data: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(count):
        item, at = _value(data, at, depth)
        items.append(item)
    return items, at


def _elements(data: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
    code, at, items = data[at], at + 1, []
    if code == 0:
        raise Malformed("an array of described values")
    for _ in range(count):
        item, at = _of(code, data, at, depth)
        items.append(item)
    return items, at


def encode(value: Any) -> bytes:
    """The bytes of a value; raises KeyError for a class without an AMQP type."""
    return _ENCODERS[type(value)](value)


def _number(code: int, form: str, small: int | None = None, least: int = 0) -> Callable[[Any], bytes]:
    """Encodes with `code`, or with `small` in one byte from `least` up to `least` + 255."""
    pack = struct.Struct(">B" + form).pack
    short = struct.Struct(">Bb" if least else ">BB").pack

    def encoded(value: Any) -> bytes:
        if small is not None and least <= value < least + (128 + 128):
            return short(small, value)
        return pack(code, value)

    return encoded


def _text(code: int, encoding: str) -> Callable[[Any], bytes]:
    return lambda value: _sized(code, value.encode(encoding))


def _sized(code: int, raw: bytes) -> bytes:
    return (
        bytes((code, len(raw))) + raw if len(raw) < 256 else bytes((code | 0x10,)) + _U32.pack(len(raw)) + raw
    )


def _compound(code: int, count: int, content: bytes) -> bytes:
    if len(content) < 255 and count < 256:
        return bytes((code, len(content) + 1, count)) + content
    return bytes((code | 0x10,)) + _TWO_U32.pack(len(content) + 4, count) + content


def _list(value: list[Any]) -> bytes:
    return _compound(0xC0, len(value), b"".join(map(encode, value))) if value else b"\x45"


def _map(value: Mapping[Any, Any]) -> bytes:
    content = b"".join(encode(key) + encode(item) for key, item in value.items())
    return _compound(0xC1, 2 * len(value), content)


def _array(value: Array) -> bytes:
    """The arrays that are sent here hold text: all strings, or all symbols."""
    code = b"\xb3" if all(isinstance(item, Symbol) for item in value) else b"\xb1"
    raw = [item.encode("utf-8") for item in value]
    return _compound(0xE0, len(raw), code + b"".join(_U32.pack(len(each)) + each for each in raw))


_SHORT: Final = 64
_symbol: Final = _text(0xA3, "ascii")
# Names of annotations are the same in each message. Long symbols come from peers and would fill the memory.
_short_symbol: Final = lru_cache(maxsize=1024)(_symbol)

_ENCODERS: Final[Mapping[type, Callable[[Any], bytes]]] = {
    type(None): lambda value: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    Ubyte: _number(0x50, "B"),
    Byte: _number(0x51, "b"),
    Ushort: _number(0x60, "H"),
    Short: _number(0x61, "h"),
    Uint: _number(0x70, "I", 0x52),
    Int: _number(0x71, "i", 0x54, -128),
    Ulong: _number(0x80, "Q", 0x53),
    int: _number(0x81, "q", 0x55, -128),
    Timestamp: _number(0x83, "q"),
    Float: _number(0x72, "f"),
    float: _number(0x82, "d"),
    Char: lambda value: b"\x73" + _U32.pack(ord(value)),
    Decimal: lambda value: {4: b"\x74", 8: b"\x84", 16: b"\x94"}[len(value)] + value,
    uuid.UUID: lambda value: b"\x98" + value.bytes,
    bytes: lambda value: _sized(0xA0, value),
    str: _text(0xA1, "utf-8"),
    Symbol: lambda value: (_short_symbol if len(value) <= _SHORT else _symbol)(value),
    list: _list,
    dict: _map,
    Array: _array,
    Described: lambda value: b"\x00" + encode(value.descriptor) + encode(value.value),
}
