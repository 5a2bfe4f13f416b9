"""The server's side of one MQTT 3.1.1 connection: decoding, the order of packets, keep-alive. No I/O.

    EXPECT_CONNECT --CONNECT--> AUTHENTICATING --accepted()--> OPEN --DISCONNECT--> CLOSED
                                     |                          |
                                     +-------- closed() --------+----------------> CLOSED

A packet that ALLOWED does not list for the current state raises ProtocolError. After a ProtocolError the
connection is CLOSED and reads nothing more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from twinship.simulator.mqtt.fields import ProtocolError
from twinship.simulator.mqtt.packets import (
    DECODERS,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Subscribe,
    Unsubscribe,
)

# ref 4.8: includes the fixed header; edgeHub closes the connection for a larger packet.
MAX_PACKET_BYTES: Final = 262_144
CONNECT_ARRIVAL_S: Final = 60.0  # ref 4.1 ConnectArrivalTimeout
MAX_IDLE_S: Final = 600.0  # ref 4.1 MaxKeepAliveTimeout of edgeHub
MAX_IDLE_AT_IOT_HUB_S: Final = 1767.0  # ref 4.11: a keep-alive of up to 1,177 s is honoured


class State(enum.Enum):
    """The state of a connection."""

    EXPECT_CONNECT = enum.auto()
    AUTHENTICATING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()

    __hash__ = object.__hash__  # the frame path: Enum.__hash__ is Python code


ALLOWED: Final[dict[State, frozenset[type[Packet]]]] = {
    State.EXPECT_CONNECT: frozenset({Connect}),  # MQTT-3.1.0-1
    State.AUTHENTICATING: frozenset(),
    State.OPEN: frozenset({Publish, Puback, Subscribe, Unsubscribe, Pingreq, Disconnect}),
    State.CLOSED: frozenset(),
}


class PacketReader:
    """Splits a byte stream into packets.

    >>> reader = PacketReader()
    >>> list(reader.feed(b"\\xc0"))
    []
    >>> list(reader.feed(b"\\x00\\xc0\\x00"))
    [Pingreq(), Pingreq()]
    """

    def __init__(self, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self._max_packet_bytes = max_packet_bytes
        self._pending = bytearray()
        self._needed = 2  # decode again when this many bytes are there

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Every packet that these bytes complete, in order; raises ProtocolError."""
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                return
            data = bytes(self._pending)
            self._pending.clear()
        at = 0
        while at < len(data) and (bounds := self._next(data, at)) is not None:
            start, end = bounds
            yield _decode(data[at], data[start:end])
            at = end
        if at < len(data):
            self._pending += data[at:]

    def _next(self, data: bytes, at: int) -> tuple[int, int] | None:
        """Start and end of the body of the packet at `at`; None while bytes are missing."""
        length, start, available = 0, at + 1, len(data)
        while start < available:
            byte = data[start]
            length |= (byte & 0x7F) << 7 * (start - at - 1)
            start += 1
            if byte < 0x80:
                end = start + length
                if end - at > self._max_packet_bytes:
                    raise ProtocolError(f"packet of {end - at} bytes; the limit is {self._max_packet_bytes}")
                if end <= available:
                    return start, end
                self._needed = end - at
                return None
            if start - at == 5:
                raise ProtocolError("remaining length is longer than four bytes")
        self._needed = available - at + 1
        return None


class ServerConnection:
    """Checks the order of packets and the time between them."""

    def __init__(self, now: float, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self.state = State.EXPECT_CONNECT
        self._reader = PacketReader(max_packet_bytes)
        self._last_heard = now
        self._idle_s = CONNECT_ARRIVAL_S

    def receive(self, data: bytes, now: float) -> Iterator[Packet]:
        """The packets that these bytes complete; raises ProtocolError, which closes the connection.

        A generator: handle each packet before taking the next, because it can change the state.
        """
        if self.state is not State.EXPECT_CONNECT:
            self._last_heard = now  # before CONNECT, single bytes do not extend the time limit
        try:
            for packet in self._reader.feed(data):
                self._advance(packet)
                yield packet
                if self.state is State.CLOSED:
                    return
        except ProtocolError:
            self.state = State.CLOSED
            raise

    def accepted(self, keep_alive_s: int, now: float, max_idle_s: float) -> None:
        """The CONNECT is accepted: from now on the client's keep-alive applies, up to the server's limit."""
        self.state, self._last_heard = State.OPEN, now
        # MQTT-3.1.2-24: one and a half times the keep-alive; a client without one gets the limit.
        self._idle_s = min(keep_alive_s * 1.5, max_idle_s) or max_idle_s

    def heard(self, now: float) -> None:
        """Restart the keep-alive time: bytes before `now` could not arrive."""
        if self.state is not State.EXPECT_CONNECT:
            self._last_heard = now

    def closed(self) -> None:
        """The connection reads and sends nothing more."""
        self.state = State.CLOSED

    @property
    def silent_until(self) -> float:
        """When to close the connection, unless bytes arrive before."""
        return self._last_heard + self._idle_s

    def _advance(self, packet: Packet) -> None:
        if type(packet) not in ALLOWED[self.state]:
            raise ProtocolError(f"{type(packet).__name__} is not allowed while {self.state.name}")
        if type(packet) is Publish and packet.qos == 2:
            raise ProtocolError("PUBLISH with QoS 2: edgeHub closes the connection (ref 4.3)")
        if type(packet) is Connect:
            self.state = State.AUTHENTICATING
        elif type(packet) is Disconnect:
            self.state = State.CLOSED


def _decode(first: int, body: bytes) -> Packet:
    if (decoder := DECODERS.get(first >> 4)) is None:
        raise ProtocolError(f"packet type {first >> 4} is reserved or belongs to QoS 2")
    return decoder(first & 0x0F, body)
