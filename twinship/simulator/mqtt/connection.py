"""One MQTT 3.1.1 connection, seen from the server: bytes to packets, which may come when, keep-alive.

Sans-I/O: bytes and the time come in, packets and bytes go out. It does not know who may connect, what a topic
means, what a session keeps, or how a socket is closed. Theory of operation:

    EXPECT_CONNECT --CONNECT--> AUTHENTICATING --accepted()--> OPEN --DISCONNECT--> CLOSED
                                     |                          |
                                     +-------- closed() --------+----------------> CLOSED

A packet that the table does not allow in the present state is a ProtocolError; after any ProtocolError the
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

# ref 4.8: counted with the fixed header; one byte more and edgeHub's decoder closes the connection.
MAX_PACKET_BYTES: Final = 262_144
CONNECT_ARRIVAL_S: Final = 60.0  # ref 4.1 ConnectArrivalTimeout
MAX_IDLE_S: Final = 600.0  # ref 4.1 MaxKeepAliveTimeout; also for a client that asks for none


class State(enum.Enum):
    """Where a connection stands."""

    EXPECT_CONNECT = enum.auto()
    AUTHENTICATING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()

    __hash__ = object.__hash__  # the frame path: Enum's own is written in Python


ALLOWED: Final[dict[State, frozenset[type[Packet]]]] = {
    State.EXPECT_CONNECT: frozenset({Connect}),  # MQTT-3.1.0-1
    State.AUTHENTICATING: frozenset(),
    State.OPEN: frozenset({Publish, Puback, Subscribe, Unsubscribe, Pingreq, Disconnect}),
    State.CLOSED: frozenset(),
}


class PacketReader:
    """Cuts a stream of bytes into packets, however the network cut it before."""

    def __init__(self, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self._max_packet_bytes = max_packet_bytes
        self._pending = bytearray()
        self._wanted = 2  # bytes that must be there before it is worth looking again

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Every packet that these bytes complete, in order; raises ProtocolError at what is none."""
        if self._pending:
            self._pending += data
            if len(self._pending) < self._wanted:
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
        """Where the body of the packet that begins at `at` starts and ends; None while bytes are missing."""
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
                self._wanted = end - at
                return None
            if start - at == 5:
                raise ProtocolError("remaining length is longer than four bytes")
        self._wanted = available - at + 1
        return None


class ServerConnection:
    """The order of packets and the silence that is allowed between them."""

    def __init__(self, now: float, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self.state = State.EXPECT_CONNECT
        self._reader = PacketReader(max_packet_bytes)
        self._heard = now
        self._idle_s = CONNECT_ARRIVAL_S

    def receive(self, data: bytes, now: float) -> Iterator[Packet]:
        """The packets that these bytes complete; raises ProtocolError (and is CLOSED then).

        Lazy: each packet is to be dealt with before the next is asked for, because it may change the state.
        """
        if self.state is not State.EXPECT_CONNECT:
            self._heard = now  # until CONNECT has come, bytes that dribble in buy no time
        try:
            for packet in self._reader.feed(data):
                self._advance(packet)
                yield packet
                if self.state is State.CLOSED:
                    return
        except ProtocolError:
            self.state = State.CLOSED
            raise

    def accepted(self, keep_alive_s: int, now: float) -> None:
        """CONNACK 0 has been decided: from here on the client's keep-alive counts."""
        self.state, self._heard = State.OPEN, now
        # MQTT-3.1.2-24: one and a half times the keep-alive; edgeHub caps it, and 0 gets the cap.
        self._idle_s = min(keep_alive_s * 1.5, MAX_IDLE_S) or MAX_IDLE_S

    def heard(self, now: float) -> None:
        """Count the silence from here: what was said before could not get through."""
        if self.state is not State.EXPECT_CONNECT:
            self._heard = now

    def closed(self) -> None:
        """Nothing more will be read or sent."""
        self.state = State.CLOSED

    @property
    def silent_until(self) -> float:
        """When the connection is to be closed unless something is heard before."""
        return self._heard + self._idle_s

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
