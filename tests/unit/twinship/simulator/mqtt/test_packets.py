"""The packets of MQTT 3.1.1: encoding, decoding and invalid bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinship.simulator.mqtt.connection import PacketReader
from twinship.simulator.mqtt.fields import ProtocolError
from twinship.simulator.mqtt.packets import (
    DECODERS,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)

WILL = Will("last/words", b"gone", 1, True)
EXAMPLES: list[tuple[Packet, bytes]] = [
    (
        Connect("d/m", "u", b"p", 60, False),
        b"\x10\x15\x00\x04MQTT\x04\xc0\x00\x3c\x00\x03d/m\x00\x01u\x00\x01p",
    ),
    (Connect("", clean_session=True), b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"),
    (
        Connect("c", will=WILL),
        b"\x10\x1f\x00\x04MQTT\x04\x2c\x00\x00\x00\x01c\x00\x0alast/words\x00\x04gone",
    ),
    (Connack(0, True), b"\x20\x02\x01\x00"),
    (Connack(5), b"\x20\x02\x00\x05"),
    (Publish("a/b", b"body", 1, 10), b"\x32\x0b\x00\x03a/b\x00\x0abody"),
    (Publish("a", b""), b"\x30\x03\x00\x01a"),
    (Publish("ü", b"\0\xff", 1, 65535, True, True), b"\x3b\x08\x00\x02\xc3\xbc\xff\xff\x00\xff"),
    (Puback(1), b"\x40\x02\x00\x01"),
    (Subscribe(2, (("a/#", 1), ("b", 0))), b"\x82\x0c\x00\x02\x00\x03a/#\x01\x00\x01b\x00"),
    (Suback(2, (1, 0x80)), b"\x90\x04\x00\x02\x01\x80"),
    (Unsubscribe(3, ("a", "b")), b"\xa2\x08\x00\x03\x00\x01a\x00\x01b"),
    (Unsuback(3), b"\xb0\x02\x00\x03"),
    (Pingreq(), b"\xc0\x00"),
    (Pingresp(), b"\xd0\x00"),
    (Disconnect(), b"\xe0\x00"),
]
WIRE = [wire for _, wire in EXAMPLES]


@pytest.mark.parametrize(("packet", "wire"), EXAMPLES, ids=lambda each: type(each).__name__)
def test_a_packet_is_these_bytes_both_ways(packet: Packet, wire: bytes) -> None:
    """Encoding and decoding match the bytes of the standard."""
    assert packet.encode() == wire
    assert list(PacketReader().feed(wire)) == [packet]


@pytest.mark.parametrize("wire", WIRE)
def test_every_truncated_body_is_a_protocol_error_or_another_packet(wire: bytes) -> None:
    """A decoder with too few bytes raises ProtocolError and nothing else."""
    for length in range(len(wire) - 2):
        _decodes_or_refuses(wire[0], wire[2 : 2 + length])


@pytest.mark.parametrize(
    ("wire", "clause"),
    [
        (b"\x11\x00", "2.2.2-2"),
        (b"\x80\x05\x00\x01\x00\x00\x00", "2.2.2-2"),
        (b"\x10\x0c\x00\x04MOTT\x04\x02\x00\x00\x00\x00", "3.1.2-1"),
        (b"\x10\x0c\x00\x04MQTT\x04\x01\x00\x00\x00\x00", "3.1.2-3"),
        (b"\x10\x0c\x00\x04MQTT\x04\x08\x00\x00\x00\x00", "3.1.2-13"),
        (b"\x10\x0c\x00\x04MQTT\x04\x1c\x00\x00\x00\x00", "3.1.2-14"),
        (b"\x10\x0c\x00\x04MQTT\x04\x40\x00\x00\x00\x00", "3.1.2-22"),
        (b"\x36\x05\x00\x01a\x00\x01", "3.3.1-4"),
        (b"\x38\x03\x00\x01a", "3.3.1-2"),
        (b"\x30\x03\x00\x01#", "3.3.2-2"),
        (b"\x30\x03\x00\x01+", "3.3.2-2"),
        (b"\x30\x02\x00\x00", "4.7.3-1"),
        (b"\x32\x05\x00\x01a\x00\x00", "2.3.1-1"),
        (b"\x30\x03\x00\x01\xff", "1.5.3-1"),
        (b"\x30\x05\x00\x03\xed\xa0\x80", "1.5.3-1"),
        (b"\x30\x03\x00\x01\x00", "1.5.3-2"),
        (b"\x40\x02\x00\x00", "2.3.1-1"),
        (b"\x40\x03\x00\x01\x00", "longer"),
        (b"\x82\x02\x00\x01", "3.8.3-3"),
        (b"\x82\x06\x00\x01\x00\x01a\x03", "3-8.3-4"),
        (b"\x82\x05\x00\x01\x00\x00\x01", "4.7.3-1"),
        (b"\xa2\x02\x00\x01", "3.10.3-2"),
        (b"\xc0\x01\x00", "no body"),
        (b"\x62\x02\x00\x01", "QoS 2"),
        (b"\xf0\x00", "reserved"),
        (b"\x00\x00", "reserved"),
    ],
)
def test_invalid_packets_are_refused_with_the_clause(wire: bytes, clause: str) -> None:
    """The error names the violated clause."""
    with pytest.raises(ProtocolError, match=clause):
        list(PacketReader().feed(wire))


def test_another_protocol_level_is_not_decoded_further() -> None:
    """The server must answer CONNACK 1; it does not know the rest of the format (MQTT-3.1.2-2)."""
    assert list(PacketReader().feed(b"\x10\x08\x00\x04MQTT\x05??")) == [Connect(level=5)]
    old = b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00"
    assert list(PacketReader().feed(old)) == [Connect(clean_session=True, level=3)]


def test_no_secret_is_shown() -> None:
    """repr() shows no password and no body, so no log does."""
    shown = repr(Connect("d", "u", b"secret")) + repr(Publish("t", b"secret"))
    assert "secret" not in shown


@settings(max_examples=200)
@given(flags=st.integers(0, 15), body=st.binary(max_size=64))
@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_raise_only_protocol_errors(kind: int, flags: int, body: bytes) -> None:
    """For any bytes, ProtocolError is the only exception."""
    _decodes_or_refuses(kind << 4 | flags, body)


@settings(max_examples=200)
@given(data=st.data())
def test_mutated_packets_are_refused_or_read(data: st.DataObject) -> None:
    """One byte is changed, removed or added anywhere in a stream of valid packets."""
    stream = bytearray(b"".join(data.draw(st.lists(st.sampled_from(WIRE), min_size=1, max_size=4))))
    at = data.draw(st.integers(0, len(stream) - 1))
    mutate: Callable[[bytearray], object] = data.draw(
        st.sampled_from(
            [
                lambda each: each.__setitem__(at, each[at] ^ data.draw(st.integers(1, 255))),
                lambda each: each.pop(at),
                lambda each: each.insert(at, data.draw(st.integers(0, 255))),
            ]
        )
    )
    mutate(stream)
    try:
        packets = list(PacketReader().feed(bytes(stream)))
    except ProtocolError:
        return
    assert all(list(PacketReader().feed(packet.encode())) == [packet] for packet in packets)


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0#+"), min_size=1, max_size=20)
identifiers = st.integers(1, 65535)
publishes = st.one_of(
    st.builds(Publish, text, st.binary(max_size=300), st.just(0), st.none(), st.just(False), st.booleans()),
    st.builds(Publish, text, st.binary(max_size=300), st.just(1), identifiers, st.booleans(), st.booleans()),
)


@settings(max_examples=200)
@given(st.lists(publishes, max_size=5), st.data())
def test_a_stream_may_be_split_anywhere(packets: list[Publish], data: st.DataObject) -> None:
    """The same packets come out for any split."""
    stream = b"".join(packet.encode() for packet in packets)
    reader, at, read = PacketReader(), 0, []
    while at < len(stream):
        length = data.draw(st.integers(1, len(stream) - at))
        read += list(reader.feed(stream[at : at + length]))
        at += length
    assert read == packets


def _decodes_or_refuses(first: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        DECODERS[first >> 4](first & 15, body)
