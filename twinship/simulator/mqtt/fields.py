"""The fields inside MQTT 3.1.1 packets: integers, texts, lengths.

For invalid bytes every reading function raises ProtocolError and nothing else.

>>> remaining_length(321).hex()
'c102'
>>> Fields(b"\\x00\\x02ab", "CONNECT").text()
'ab'
"""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer violated MQTT 3.1.1 or a limit of edgeHub. Close the connection. The text names the clause."""


class Fields:
    """A cursor over a packet's body. Reading past the end raises ProtocolError."""

    __slots__ = ("_at", "_body", "_packet")

    def __init__(self, body: bytes, packet: str) -> None:
        self._body, self._packet, self._at = body, packet, 0

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._body):
            raise ProtocolError(f"{self._packet} ends before its fields do")
        piece, self._at = self._body[self._at : end], end
        return piece

    def byte(self) -> int:
        return self.take(1)[0]

    def integer(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.integer())

    def text(self) -> str:
        return decode_text(self.binary(), self._packet)

    def packet_id(self) -> int:
        if not (packet_id := self.integer()):
            raise ProtocolError(f"{self._packet} has packet identifier 0 (MQTT-2.3.1-1)")
        return packet_id

    def more(self) -> bool:
        return self._at < len(self._body)

    def end(self) -> None:
        if self.more():
            raise ProtocolError(f"{self._packet} is longer than its fields")


def decode_text(raw: bytes, packet: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError(f"{packet} holds text that is not UTF-8 (MQTT-1.5.3-1)") from None
    if "\0" in text:
        raise ProtocolError(f"{packet} holds U+0000 in a text (MQTT-1.5.3-2)")
    return text


def expect_flags(flags: int, expected: int, packet: str) -> None:
    if flags != expected:
        raise ProtocolError(f"{packet} with flags {flags:#06b} (MQTT-2.2.2-2)")


def expect_empty(flags: int, body: bytes, packet: str) -> None:
    expect_flags(flags, 0, packet)
    if body:
        raise ProtocolError(f"{packet} has no body")


def prefixed(raw: bytes) -> bytes:
    if len(raw) > 0xFFFF:
        raise ValueError(f"{len(raw)} bytes do not fit a field of at most 65535")
    return len(raw).to_bytes(2, "big") + raw


def encode_text(text: str) -> bytes:
    return prefixed(text.encode())


def remaining_length(length: int) -> bytes:
    if 0x7F < length < 0x4000:  # nearly every message has two bytes
        return bytes((length & 0x7F | 0x80, length >> 7))
    encoded = bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


def packet_bytes(first: int, body: bytes) -> bytes:
    return bytes((first,)) + remaining_length(len(body)) + body
