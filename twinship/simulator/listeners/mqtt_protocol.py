"""One MQTT connection of the hub: moves bytes between a TLS transport and edgeHub, and enforces time limits.

Back pressure is real: while the client does not read, or a slow link holds many bytes, nothing more is read
from the client.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final, cast

from twinship.simulator.clock import Alarm, Clock
from twinship.simulator.edge_hub.authentication import Refused
from twinship.simulator.edge_hub.client import Client
from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.faults.faults import BLACK_HOLE, EXPIRE_TOKENS, LINK_DELAY, LINK_RATE, Faults
from twinship.simulator.faults.shaping import LinkShaper
from twinship.simulator.mqtt.connection import (
    MAX_IDLE_AT_IOT_HUB_S,
    MAX_IDLE_S,
    ServerConnection,
    State,
)
from twinship.simulator.mqtt.fields import ProtocolError
from twinship.simulator.mqtt.packets import SERVER_UNAVAILABLE, Connack, Connect, Packet
from twinship.simulator.store import StorageFailed

logger = logging.getLogger(__name__)

BLACK_HOLE_CHECK_S: Final = 1.0
MAX_WAITING_BYTES: Final = 65_536  # above this the protocol reads nothing more from the client
READ_BYTES: Final = 65_536  # of one read; asyncio asks again while the TLS layer has more
MAX_CHECK_S: Final = 60.0  # the wall clock can jump, so token expiry is checked at least this often


# asyncio fills it and hands it over within one call, so all connections share it. Without a buffer of ours
# asyncio would allocate 256 KiB for each read (`_do_read__copied` of asyncio/sslproto.py).
_READ: Final = memoryview(bytearray(READ_BYTES))


class _Ended(asyncio.Transport):
    """Stands for the transport of a lost connection."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def abort(self) -> None:
        pass


_ENDED: Final = _Ended()


class MqttProtocol(asyncio.BufferedProtocol):
    """One connection, over TLS or a WebSocket. It is the Link of its session."""

    def __init__(
        self, edge_hub: EdgeHub, clock: Clock, gateway: str | None, faults: Faults, live: set[MqttProtocol]
    ) -> None:
        self.gateway = gateway
        self._faults = faults
        self._live = live
        self._inbound = LinkShaper(clock, self._received)
        self._outbound = LinkShaper(clock, self._write)
        self._writing_paused = self._reading_paused = self._ended = False
        self._edge_hub = edge_hub
        self._clock = clock
        self._mqtt: ServerConnection
        self._client: Client | None = None
        self._alarm: Alarm | None = None
        self._transport: asyncio.Transport
        self._peer = ""

    @property
    def name(self) -> str:
        """The client's identity; its address before CONNECT."""
        return self._peer if self._client is None else str(self._client.identity)

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes inside TLS since the connection began: from the client, to the client."""
        return self._inbound.taken_bytes, self._outbound.taken_bytes

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._mqtt = ServerConnection(self._clock.mono())
        # Nagle's algorithm with delayed ACK adds 44 ms to every twin call (ref 0).
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = "{}:{}".format(*self._transport.get_extra_info("peername")[:2])
        self._live.add(self)
        self.faults_changed()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _READ

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_READ[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take bytes of a transport without a buffer, such as a WebSocket."""
        self._inbound.put(data)
        if self._inbound.waiting_bytes:
            self._control_reading()

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._control_reading()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._control_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._live.discard(self)
        self._outbound.clear()
        if exc is None and not self._faults.value(BLACK_HOLE):
            self._inbound.flush()  # an orderly close: a slow link still delivers the bytes before it
        self._end("connection lost" if exc is None else f"connection lost: {exc}")
        # No cycle of references may keep this connection: the garbage collector counts objects, and the TLS
        # buffers of a connection are 0.3 MB in few objects.
        self._inbound.close()
        self._outbound.close()
        self._client = None
        self._transport = _ENDED  # asyncio's TLS keeps get_buffer and buffer_updated, which lead back here

    # Called by the session (Link) and the listener

    def send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._outbound.put(data)
            if self._outbound.waiting_bytes:
                self._control_reading()

    def close(self, reason: str) -> None:
        self._end(reason)
        if not self._transport.is_closing():
            self._inbound.clear()
            self._outbound.flush()
            self._transport.close()

    def drop(self) -> None:
        """Reset the connection, as when a cable is pulled."""
        self._transport.abort()

    def faults_changed(self) -> None:
        """Apply the current link faults and the current token clock."""
        if self._transport.is_closing():
            return
        black_hole = bool(self._faults.value(BLACK_HOLE))
        rate, delay_s = self._faults.value(LINK_RATE), self._faults.value(LINK_DELAY)
        self._outbound.shape(rate, delay_s, black_hole=black_hole)
        self._inbound.shape(rate, delay_s, black_hole=black_hole)
        self._control_reading()
        if not black_hole:
            self._mqtt.heard(self._clock.mono())  # the client may have sent bytes that the fault held back
        self._schedule_check()

    def _received(self, data: bytes) -> None:
        try:
            for packet in self._mqtt.receive(data, self._clock.mono()):
                self._handle(packet)
        except ProtocolError as error:
            self.close(f"protocol error: {error}")
        except StorageFailed as error:
            self.close(f"storage failure: {error}")
        except Exception:  # one client's packet must not end the hub
            logger.exception("%s: handling a packet failed", self.name)
            self._close_after_failure()
        if self._reading_paused:
            self._control_reading()

    def _handle(self, packet: Packet) -> None:
        if self._client is not None:
            self._client.receive(packet)
        elif isinstance(packet, Connect):
            self._connect(packet)

    def _connect(self, packet: Connect) -> None:
        try:
            client = self._edge_hub.connect(packet, self)
        except Refused as refused:
            self.send(Connack(refused.code).encode())
            self.close(f"CONNECT refused with {refused.code}: {refused}")
            return
        if self._transport.is_closing():  # sending the stored messages can close the connection
            client.closed()
            return
        self._client = client
        max_idle_s = MAX_IDLE_AT_IOT_HUB_S if self.gateway is None else MAX_IDLE_S
        self._mqtt.accepted(packet.keep_alive_s, self._clock.mono(), max_idle_s)
        self._schedule_check()

    def _close_after_failure(self) -> None:
        if self._mqtt.state is State.AUTHENTICATING:
            self.send(Connack(SERVER_UNAVAILABLE).encode())
        self.close("internal failure")

    def _end(self, reason: str) -> None:
        """The first reason counts; a later one follows from it."""
        if self._ended:
            return
        self._ended = True
        logger.info("%s: closed: %s", self.name, reason)
        self._mqtt.closed()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._client is not None:
            self._client.closed()

    def _write(self, data: bytes) -> None:
        self._transport.write(data)  # a closing transport ignores it
        if self._reading_paused:
            self._control_reading()

    def _control_reading(self) -> None:
        """Back pressure: bytes above the limits stay in the client's own buffers."""
        waiting = max(self._inbound.waiting_bytes, self._outbound.waiting_bytes)
        pause = self._writing_paused or waiting > MAX_WAITING_BYTES or bool(self._faults.value(BLACK_HOLE))
        if pause != self._reading_paused and not self._transport.is_closing():
            self._reading_paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

    def _schedule_check(self) -> None:
        """One alarm for keep-alive and token expiry. Traffic does not move it; the check sets the next."""
        wait_s = min(self._mqtt.silent_until - self._clock.mono(), MAX_CHECK_S)
        if self._client is not None:
            wait_s = min(wait_s, self._client.expires - self._token_time())
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._clock.later(max(wait_s, 0.0), self._check)

    def _check(self) -> None:
        if self._faults.value(BLACK_HOLE):  # a black hole closes no connection
            self._alarm = self._clock.later(BLACK_HOLE_CHECK_S, self._check)
        elif self._mqtt.silent_until <= self._clock.mono():
            self.close("silent for longer than one and a half times its keep-alive")
        elif self._client is not None and self._client.expires <= self._token_time():
            self.close("its token has expired")
        else:
            self._schedule_check()

    def _token_time(self) -> float:
        return self._clock.wall() + self._faults.value(EXPIRE_TOKENS)
