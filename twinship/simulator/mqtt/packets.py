"""MQTT 3.1.1 packets, bytes both ways. Knows no order of packets, no session, no topic's meaning, no socket.

Tags such as "MQTT-3.1.2-24" name clauses of the OASIS standard of 29 October 2014. Each packet class reads
and writes itself; `DECODERS` is the table of all that exist. Every decoder raises ProtocolError, and nothing
else, for bytes that are not its packet: a peer's bytes end a connection at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

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
    """What a client wants published when its connection drops."""

    topic: str
    message: bytes = field(repr=False)
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """Client → server, first and once. Of a level that is neither 3 nor 4, only `level` is read."""

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
            raise ProtocolError(f"CONNECT speaks {name[:16]!r}, not MQTT (MQTT-3.1.2-1)")
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


@dataclass(slots=True)  # the frame path: a frozen one takes five times as long to make
class Publish:
    """A message, either way. `packet_id` is None exactly for QoS 0."""

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
        # Written out rather than read through Fields: this is the frame path.
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
    """Packets that hold a packet identifier and nothing else."""

    packet_id: int

    @staticmethod
    def _read(flags: int, body: bytes, expected_flags: int, name: str) -> int:
        expect_flags(flags, expected_flags, name)
        fields = Fields(body, name)
        packet_id = fields.packet_id()
        fields.end()
        return packet_id


@dataclass(frozen=True, slots=True)
class Puback(_Numbered):
    """The receiver of a QoS 1 PUBLISH has it, for good."""

    def encode(self) -> bytes:
        return b"\x40\x02" + self.packet_id.to_bytes(2, "big")

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Puback:
        if flags == 0 and len(body) == 2 and (packet_id := int.from_bytes(body, "big")):
            return cls(packet_id)  # the frame path
        return cls(cls._read(flags, body, 0, "PUBACK"))


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Client → server: topic filters, each with the QoS that is asked for."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]

    def encode(self) -> bytes:
        wanted = b"".join(encode_text(topic_filter) + bytes((qos,)) for topic_filter, qos in self.filters)
        return packet_bytes(0x82, self.packet_id.to_bytes(2, "big") + wanted)

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Subscribe:
        expect_flags(flags, 2, "SUBSCRIBE")
        fields = Fields(body, "SUBSCRIBE")
        packet_id, filters = fields.packet_id(), []
        while fields.more():
            topic_filter, qos = _filter(fields, "SUBSCRIBE"), fields.byte()
            if qos > 2:
                raise ProtocolError("SUBSCRIBE asks for a QoS that does not exist (MQTT-3-8.3-4)")
            filters.append((topic_filter, qos))
        if not filters:
            raise ProtocolError("SUBSCRIBE without a topic filter (MQTT-3.8.3-3)")
        return cls(packet_id, tuple(filters))


@dataclass(frozen=True, slots=True)
class Suback:
    """Server → client: for each filter the QoS granted, or SUBACK_FAILURE."""

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
    """Client → server: filters to forget."""

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


@dataclass(frozen=True, slots=True)
class Unsuback(_Numbered):
    """Server → client."""

    def encode(self) -> bytes:
        return b"\xb0\x02" + self.packet_id.to_bytes(2, "big")

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Unsuback:
        return cls(cls._read(flags, body, 0, "UNSUBACK"))


@dataclass(frozen=True, slots=True)
class Pingreq:
    """Client → server: still here."""

    def encode(self) -> bytes:
        return b"\xc0\x00"

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Pingreq:
        expect_empty(flags, body, "PINGREQ")
        return cls()


@dataclass(frozen=True, slots=True)
class Pingresp:
    """Server → client: so am I."""

    def encode(self) -> bytes:
        return b"\xd0\x00"

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Pingresp:
        expect_empty(flags, body, "PINGRESP")
        return cls()


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Client → server: a close that was meant; no will is published."""

    def encode(self) -> bytes:
        return b"\xe0\x00"

    @classmethod
    def decode(cls, flags: int, body: bytes) -> Disconnect:
        expect_empty(flags, body, "DISCONNECT")
        return cls()


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

# Types 5, 6 and 7 (PUBREC, PUBREL, PUBCOMP) are missing on purpose: QoS 2 closes the connection (ref 4.3).
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
        raise ProtocolError("CONNECT asks for will QoS 3 (MQTT-3.1.2-14)")
    if flags & 0xC0 == 0x40:
        raise ProtocolError("CONNECT has a password without a user name (MQTT-3.1.2-22)")


def _decode_will(flags: int, fields: Fields) -> Will:
    return Will(fields.text(), fields.binary(), flags >> 3 & 3, bool(flags & 0x20))


def _filter(fields: Fields, packet: str) -> str:
    if not (topic_filter := fields.text()):
        raise ProtocolError(f"{packet} with an empty topic filter (MQTT-4.7.3-1)")
    return topic_filter
