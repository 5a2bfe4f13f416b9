"""The types of AMQP, compared with the codec of azure-eventhub, which others wrote."""

from __future__ import annotations

import random
import tracemalloc
import uuid
from typing import Any

import pytest
from azure.eventhub._pyamqp import _decode, _encode

from twinship.simulator.amqp.types import (
    MAX_DEPTH,
    Array,
    Byte,
    Char,
    Decimal,
    Described,
    Float,
    Int,
    Malformed,
    Short,
    Symbol,
    Timestamp,
    Ubyte,
    Uint,
    Ulong,
    Ushort,
    decode,
    encode,
)

VALUES: list[Any] = [
    *(None, True, False, Ubyte(255), Byte(-1), Ushort(65535), Short(-2), 2**63 - 1, -(2**63), 0, -128, 128),
    *(
        Uint(0),
        Uint(255),
        Uint(2**32 - 1),
        Int(-129),
        Ulong(0),
        Ulong(2**64 - 1),
        Timestamp(-1),
        1.5,
        Float(0.5),
    ),
    *(Char("ä"), Decimal(bytes(8)), uuid.UUID(int=7), b"", b"x" * 300, "", "ä" * 200, Symbol("a:b")),
    *([], [None] * 300, {}, {"a": [1, {Symbol("b"): b""}]}, Described(Ulong(7), ["x"])),
]


DEEP: list[Any] = []
for _ in range(MAX_DEPTH + 1):
    DEEP = [DEEP]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}")
def test_a_value_survives_with_its_type(value: Any) -> None:
    """Numbers of every width, text, binary, lists, maps and described values."""
    back = decode(encode(value))
    assert (back, type(back)) == (value, type(value))


def test_the_codec_of_azure_eventhub_reads_what_is_encoded() -> None:
    """Another program reads the bytes: text and symbols as bytes."""
    value = {Symbol("long"): 300, "list": [Uint(7), True, None], "array": Array(["0", "1"])}
    buffer, back = _decode._DECODE_BY_CONSTRUCTOR[encode(value)[0]](memoryview(encode(value))[1:])
    assert bytes(buffer) == b""
    assert back == {b"long": 300, b"list": [7, True, None], b"array": [b"0", b"1"]}


def test_what_azure_eventhub_encodes_is_read() -> None:
    """Bytes of another program are read: map, list, binary, string, uuid."""
    output = bytearray()
    _encode.encode_value(output, {"a": [1, b"x", "ü", 2.5, uuid.UUID(int=1)]})
    assert decode(bytes(output)) == {"a": [1, b"x", "ü", 2.5, uuid.UUID(int=1)]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends before"),
        (b"\x70\x00", "ends before"),
        (b"\xb0\xff\xff\xff\xff", "ends before"),
        (b"\xa1\x02\xff\xfe", "outside the range"),
        (b"\xa3\x01\xe4", "outside the range"),
        (b"\x73\xff\xff\xff\xff", "outside the range"),
        (b"\xd0\x00\x00\x00\x08\xff\xff\xff\xff" + bytes(4), "more elements"),
        (b"\xc0\x05\x01\x40", "ends before"),
        (b"\xc0\x03\x01\x40\x40", "another size"),
        (b"\xc1\x02\x01\x40", "without a value"),
        (b"\xc1\x03\x02\x45\x40", "outside the range"),
        (b"\xe0\x02\x01\x00\x53", "described"),
        (b"\x99", "ends before"),
        (b"\x99" + bytes(4), "is no type"),
        (b"\x40\x40", "bytes follow"),
        (b"\x00" * (MAX_DEPTH * 2 + 2), "nested"),
        (encode(DEEP), "nested"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_value_are_refused(data: bytes, reason: str) -> None:
    """Cut, too large, too deep, of another type: one error, whatever the bytes say about their size."""
    with pytest.raises(Malformed, match=reason):
        decode(data)


def test_no_bytes_raise_anything_else() -> None:
    """Changed, cut and random bytes give a value or Malformed."""
    generator = random.Random(7)
    whole = b"".join(encode([value]) for value in VALUES)
    for _ in range(20_000):
        start = generator.randrange(len(whole))
        data = bytearray(whole[start : start + generator.randrange(1, 60)])
        data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            decode(bytes(data))
        except Malformed:
            continue


def test_symbols_of_peers_do_not_stay_in_memory() -> None:
    """A link's answer repeats the symbols of its attach, each up to a frame long."""
    tracemalloc.start()
    try:
        for number in range(500):
            assert encode(Symbol(f"{number:x}" * 10_000))[:1] == b"\xb3"
        assert tracemalloc.get_traced_memory()[0] < 500 * 10_000 / 2
    finally:
        tracemalloc.stop()
