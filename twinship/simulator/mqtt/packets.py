"""MQTT 3.1.1 packets: encoding and decoding. connection.py checks their order.

Tags such as "MQTT-3.1.2-24" name clauses of the OASIS standard of 29 October 2014. DECODERS lists all types.
For invalid bytes every decoder raises ProtocolError and nothing else, so a peer can at worst end its own
connection.

>>> Publish("a/b", b"body", qos=1, packet_id=7).encode()
b'2\\x0b\\x00\\x03a/b\\x00\\x07body'
>>> Puback.decode(0, b"\\x00\\x07")
Puback(packet_id=7)
>>> Subscribe.decode(2, b"\\x00\\x01")
Traceback (most recent call last):
twinship.simulator.mqtt.fields.ProtocolError: SUBSCRIBE without a topic filter (MQTT-3.8.3-3)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self, TypeAlias

from twinship.simulator.mqtt.fields import (
    Fields,
    ProtocolError,
    decode_text,
    encode_text,
    expect_empty,
    expect_flags,
    packet_bytes,
    prefixed,
    remaining_length,
)

ACCEPTED, BAD_PROTOCOL_LEVEL, IDENTIFIER_REJECTED, SERVER_UNAVAILABLE, BAD_CREDENTIALS, NOT_AUTHORIZED = (
    range(6)
)
SUBACK_FAILURE: Final = 0x80


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the server publishes when the client's connection drops."""

    topic: str
    message: bytes = field(repr=False)
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """Client → server, the first packet. Unless the level is 3 or 4, only `level` is decoded."""

    client_id: str = ""
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    keep_alive_s: int = 0
    clean_session: bool = False
    level: int = 4
    will: Will | None = None

    def encode(self) -> bytes:
        flags = (self.username is not None) << 7 | (self.password is not None) << 6 | self.clean_session << 1
        payload = encode_text(self.client_id)
        if self.will is not None:
            flags |= 4 | self.will.qos << 3 | self.will.retain << 5
            payload += encode_text(self.will.topic) + prefixed(self.will.message)
        if self.username is not None:
            payload += encode_text(self.username)
        if self.password is not None:
            payload += prefixed(self.password)
        head = encode_text("MQTT") + bytes((self.level, flags)) + self.keep_alive_s.to_bytes(2, "big")
        return packet_bytes(0x10, head + payload)

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Connect:
        expect_flags(flags, 0, "CONNECT")
        fields = Fields(body, "CONNECT")
        if (name := fields.binary()) not in (b"MQTT", b"MQIsdp"):
            raise ProtocolError(f"CONNECT has protocol name {name[:16]!r}, not MQTT (MQTT-3.1.2-1)")
        if (level := fields.byte()) not in (3, 4):
            return cls(level=level)
        connect_flags, keep_alive_s = fields.byte(), fields.integer()
        _check_connect_flags(connect_flags)
        client_id = fields.text()
        will = _decode_will(connect_flags, fields) if connect_flags & 0x04 else None
        username = fields.text() if connect_flags & 0x80 else None
        password = fields.binary() if connect_flags & 0x40 else None
        fields.end()
        return cls(client_id, username, password, keep_alive_s, bool(connect_flags & 0x02), level, will)


@dataclass(frozen=True, slots=True)
class Connack:
    """Server → client. `code` is one of the six return codes above."""

    code: int
    session_present: bool = False

    def encode(self) -> bytes:
        return bytes((0x20, 2, self.session_present, self.code))

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Connack:
        expect_flags(flags, 0, "CONNACK")
        fields = Fields(body, "CONNACK")
        acknowledge, code = fields.byte(), fields.byte()
        fields.end()
        if acknowledge > 1:
            raise ProtocolError("CONNACK sets a reserved flag")
        return cls(code, bool(acknowledge))


@dataclass(slots=True)  # not frozen: on the frame path, a frozen one takes five times as long to make
class Publish:
    """A message in either direction. `packet_id` is None exactly for QoS 0."""

    topic: str
    body: bytes = field(repr=False)
    qos: int = 0
    packet_id: int | None = None
    dup: bool = False
    retain: bool = False

    def encode(self) -> bytes:
        first = 0x30 | self.dup << 3 | self.qos << 1 | self.retain
        topic = encode_text(self.topic)
        if self.packet_id is not None:
            topic += self.packet_id.to_bytes(2, "big")
        return b"".join((bytes((first,)), remaining_length(len(topic) + len(self.body)), topic, self.body))

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Publish:
        # Without Fields, because this is the frame path.
        qos, dup = flags >> 1 & 3, bool(flags & 8)
        if qos == 3:
            raise ProtocolError("PUBLISH with both QoS bits set (MQTT-3.3.1-4)")
        if dup and not qos:
            raise ProtocolError("PUBLISH with QoS 0 and DUP (MQTT-3.3.1-2)")
        end = 2 + int.from_bytes(body[:2], "big")
        start = end + 2 if qos else end
        if start > len(body) or end < 3:
            raise ProtocolError("PUBLISH ends before its fields do, or has no topic (MQTT-4.7.3-1)")
        topic = decode_text(body[2:end], "PUBLISH")
        if "#" in topic or "+" in topic:
            raise ProtocolError("PUBLISH to a topic with a wildcard (MQTT-3.3.2-2)")
        packet_id = int.from_bytes(body[end:start], "big") if qos else None
        if packet_id == 0:
            raise ProtocolError("PUBLISH has packet identifier 0 (MQTT-2.3.1-1)")
        return cls(topic, body[start:], qos, packet_id, dup, bool(flags & 1))


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A packet that contains only a packet identifier."""

    packet_id: int
    first_byte: ClassVar[int]

    def encode(self) -> bytes:
        return bytes((self.first_byte, 2)) + self.packet_id.to_bytes(2, "big")

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Self:
        return cls(_only_packet_id(flags, body, cls.__name__.upper()))


@dataclass(frozen=True, slots=True)
class Puback(_Numbered):
    """Acknowledges a QoS 1 PUBLISH: the receiver has stored it."""

    first_byte: ClassVar[int] = 0x40

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Self:
        if flags == 0 and len(body) == 2 and (packet_id := int.from_bytes(body, "big")):
            return cls(packet_id)  # the frame path
        return cls(_only_packet_id(flags, body, "PUBACK"))


@dataclass(frozen=True, slots=True)
class Unsuback(_Numbered):
    """Server → client: acknowledges UNSUBSCRIBE."""

    first_byte: ClassVar[int] = 0xB0


@dataclass(frozen=True, slots=True)
class _Empty:
    """A packet without a body."""

    first_byte: ClassVar[int]

    def encode(self) -> bytes:
        return bytes((self.first_byte, 0))

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Self:
        expect_empty(flags, body, cls.__name__.upper())
        return cls()


@dataclass(frozen=True, slots=True)
class Pingreq(_Empty):
    """Client → server: keep-alive."""

    first_byte: ClassVar[int] = 0xC0


@dataclass(frozen=True, slots=True)
class Pingresp(_Empty):
    """Server → client: answers PINGREQ."""

    first_byte: ClassVar[int] = 0xD0


@dataclass(frozen=True, slots=True)
class Disconnect(_Empty):
    """Client → server: an orderly close; the server publishes no will."""

    first_byte: ClassVar[int] = 0xE0


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Client → server: topic filters, each with the requested QoS."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]

    def encode(self) -> bytes:
        filters = b"".join(encode_text(topic_filter) + bytes((qos,)) for topic_filter, qos in self.filters)
        return packet_bytes(0x82, self.packet_id.to_bytes(2, "big") + filters)

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Subscribe:
        expect_flags(flags, 2, "SUBSCRIBE")
        fields = Fields(body, "SUBSCRIBE")
        packet_id, filters = fields.packet_id(), []
        while fields.more():
            topic_filter, qos = _filter(fields, "SUBSCRIBE"), fields.byte()
            if qos > 2:
                raise ProtocolError("SUBSCRIBE requests a QoS that does not exist (MQTT-3-8.3-4)")
            filters.append((topic_filter, qos))
        if not filters:
            raise ProtocolError("SUBSCRIBE without a topic filter (MQTT-3.8.3-3)")
        return cls(packet_id, tuple(filters))


@dataclass(frozen=True, slots=True)
class Suback:
    """Server → client: the granted QoS of each filter, or SUBACK_FAILURE."""

    packet_id: int
    granted: tuple[int, ...]

    def encode(self) -> bytes:
        return packet_bytes(0x90, self.packet_id.to_bytes(2, "big") + bytes(self.granted))

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Suback:
        expect_flags(flags, 0, "SUBACK")
        fields = Fields(body, "SUBACK")
        packet_id, granted = fields.packet_id(), []
        while fields.more():
            granted.append(fields.byte())
        if not granted or any(code not in (0, 1, 2, SUBACK_FAILURE) for code in granted):
            raise ProtocolError("SUBACK without a valid return code (MQTT-3.9.3-2)")
        return cls(packet_id, tuple(granted))


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Client → server: topic filters to remove."""

    packet_id: int
    filters: tuple[str, ...]

    def encode(self) -> bytes:
        return packet_bytes(
            0xA2, self.packet_id.to_bytes(2, "big") + b"".join(map(encode_text, self.filters))
        )

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Unsubscribe:
        expect_flags(flags, 2, "UNSUBSCRIBE")
        fields = Fields(body, "UNSUBSCRIBE")
        packet_id, filters = fields.packet_id(), []
        while fields.more():
            filters.append(_filter(fields, "UNSUBSCRIBE"))
        if not filters:
            raise ProtocolError("UNSUBSCRIBE without a topic filter (MQTT-3.10.3-2)")
        return cls(packet_id, tuple(filters))


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
)

# Without types 5, 6 and 7 (PUBREC, PUBREL, PUBCOMP), because QoS 2 closes the connection (ref 4.3).
DECODERS: Final[dict[int, Callable[[int, bytes], Packet]]] = {
    1: Connect.decode,
    2: Connack.decode,
    3: Publish.decode,
    4: Puback.decode,
    8: Subscribe.decode,
    9: Suback.decode,
    10: Unsubscribe.decode,
    11: Unsuback.decode,
    12: Pingreq.decode,
    13: Pingresp.decode,
    14: Disconnect.decode,
}


def _check_connect_flags(flags: int) -> None:
    if flags & 0x01:
        raise ProtocolError("CONNECT sets the reserved flag (MQTT-3.1.2-3)")
    if not flags & 0x04 and flags & 0x38:
        raise ProtocolError("CONNECT sets will QoS or retain without a will (MQTT-3.1.2-13)")
    if flags & 0x18 == 0x18:
        raise ProtocolError("CONNECT requests will QoS 3 (MQTT-3.1.2-14)")
    if flags & 0xC0 == 0x40:
        raise ProtocolError("CONNECT has a password without a user name (MQTT-3.1.2-22)")


def _decode_will(flags: int, fields: Fields) -> Will:
    return Will(fields.text(), fields.binary(), flags >> 3 & 3, bool(flags & 0x20))


def _only_packet_id(flags: int, body: bytes, packet: str) -> int:
    expect_flags(flags, 0, packet)
    fields = Fields(body, packet)
    packet_id = fields.packet_id()
    fields.end()
    return packet_id


def _filter(fields: Fields, packet: str) -> str:
    if not (topic_filter := fields.text()):
        raise ProtocolError(f"{packet} with an empty topic filter (MQTT-4.7.3-1)")
    return topic_filter
