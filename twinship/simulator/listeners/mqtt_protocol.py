"""The TLS listeners of edgeHub and IoT Hub: moves bytes between sockets and core, watches the clock for each.

Knows MQTT only as ServerConnection's packets, and clients only as what EdgeHub.connect returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from twinship.simulator.clock import Alarm, Clock
from twinship.simulator.edge_hub.authentication import Refused
from twinship.simulator.edge_hub.client import Client
from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.faults.faults import BLACK_HOLE, EXPIRE_TOKENS, LINK_DELAY, LINK_RATE, Faults
from twinship.simulator.faults.shaping import LinkShaper
from twinship.simulator.loopback import holder
from twinship.simulator.mqtt.connection import ServerConnection, State
from twinship.simulator.mqtt.fields import ProtocolError
from twinship.simulator.mqtt.packets import SERVER_UNAVAILABLE, Connack, Connect, Packet
from twinship.simulator.store import StorageFailed
from twinship.simulator.tls import Tls

logger = logging.getLogger(__name__)

MQTT_PORT: Final = 8883
BLACK_HOLE_LOOK_S: Final = 1.0
MAX_WAITING_BYTES: Final = 65_536  # on a slow link: more is not read before this much has gone through
LONGEST_SLEEP_S: Final = 60.0  # the wall clock may jump, so tokens are looked at this often at least


class AddressUnusable(Exception):
    """A listener could not be opened; one line that names the address and the cure."""


async def serve(
    connection: Callable[[], MqttProtocol], listening: socket.socket, context: ssl.SSLContext
) -> asyncio.Server:
    """Serve MQTT over TLS on a listening socket, which the server closes in the end. Raises OSError."""
    tls = Tls(context)
    return await asyncio.get_running_loop().create_server(lambda: tls.connection(connection), sock=listening)


def check_loopback(address: str) -> None:
    """Raise AddressUnusable for anything that another machine could reach."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address).is_loopback:
            return
    raise AddressUnusable(f"{address} is no loopback address; the simulator listens on 127.x.y.z only")


def explain(error: OSError, address: str, port: int) -> str:
    """Say which address or port cannot be had, and the cure."""
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address} is not an address of this machine; on macOS: sudo ifconfig lo0 alias {address}"
    if error.errno == errno.EACCES:
        return f"port {port} needs a privilege that this process lacks; choose a port above 1023"
    if error.errno != errno.EADDRINUSE:
        return f"{address}:{port} cannot be opened: {error.strerror or error}"
    who = holder(address, port) or f"{address}:{port}, held by another program,"
    return f"{who} is in the way of {address}:{port}; stop it while the simulator runs"


class MqttProtocol(asyncio.Protocol):
    """One TCP connection; the Link of the session that it serves."""

    def __init__(
        self, edge_hub: EdgeHub, clock: Clock, gateway: str | None, faults: Faults, live: set[MqttProtocol]
    ) -> None:
        self.gateway = gateway
        self._faults = faults
        self._live = live
        self._inbound = LinkShaper(clock, self._received)
        self._outbound = LinkShaper(clock, self._write)
        self._writing_paused = self._reading_paused = False
        self._edge_hub = edge_hub
        self._clock = clock
        self._mqtt = ServerConnection(clock.mono())
        self._client: Client | None = None
        self._alarm: Alarm | None = None
        self._transport: asyncio.Transport
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Nagle against delayed ACK costs every twin call 44 ms (ref 0).
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = "{}:{}".format(*self._transport.get_extra_info("peername")[:2])
        self._live.add(self)
        self.faults_changed()

    def faults_changed(self) -> None:
        """The link, or the look at tokens, is another from now on."""
        if self._transport.is_closing():
            return
        black_hole = bool(self._faults.value(BLACK_HOLE))
        rate, delay_s = self._faults.value(LINK_RATE), self._faults.value(LINK_DELAY)
        self._outbound.shape(rate, delay_s, black_hole=black_hole)
        self._inbound.shape(rate, delay_s, black_hole=black_hole)
        self._read_or_not()
        if not black_hole:
            self._mqtt.heard(self._clock.mono())  # it may have spoken all the time
        self._watch()

    @property
    def name(self) -> str:
        """Who is on the line; its address while nobody knows."""
        return self._peer if self._client is None else str(self._client.identity)

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes inside TLS since the connection began: from the client, to the client."""
        return self._inbound.taken_bytes, self._outbound.taken_bytes

    def drop(self) -> None:
        """Reset the connection, as a cable that is pulled."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._inbound.put(data)
        if self._inbound.waiting_bytes:
            self._read_or_not()

    def _received(self, data: bytes) -> None:
        try:
            for packet in self._mqtt.receive(data, self._clock.mono()):
                self._handle(packet)
        except ProtocolError as error:
            self.close(f"protocol error: {error}")
        except StorageFailed as error:
            self.close(f"storage failure: {error}")
        except Exception:
            # One client's packet must not end the hub; the client sends it again or not.
            logger.exception("%s: a packet could not be dealt with", self.name)
            self._give_up()
        if self._reading_paused:
            self._read_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        self._live.discard(self)
        self._outbound.clear()
        if exc is None and not self._faults.value(BLACK_HOLE):
            self._inbound.flush()  # the client said goodbye, and a slow link carries what was said before
        self._inbound.clear()
        if self._mqtt.state is not State.CLOSED:
            self._end("connection lost" if exc is None else f"connection lost: {exc}")

    def pause_writing(self) -> None:
        """A client that does not read is not read either."""
        self._writing_paused = True
        self._read_or_not()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._read_or_not()

    def send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._outbound.put(data)
            if self._outbound.waiting_bytes:
                self._read_or_not()

    def close(self, reason: str) -> None:
        if not self._transport.is_closing():
            self._end(reason)
            self._inbound.clear()
            self._outbound.flush()
            self._transport.close()

    def _write(self, data: bytes) -> None:
        self._transport.write(data)  # which is over and done with where it is closing
        if self._reading_paused:
            self._read_or_not()

    def _read_or_not(self) -> None:
        """Back pressure: what cannot be taken on stays in the client's own buffers."""
        waiting = max(self._inbound.waiting_bytes, self._outbound.waiting_bytes)
        pause = self._writing_paused or waiting > MAX_WAITING_BYTES or bool(self._faults.value(BLACK_HOLE))
        if pause != self._reading_paused and not self._transport.is_closing():
            self._reading_paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

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
        if self._transport.is_closing():  # while it was given what had waited for it
            client.closed()
            return
        self._client = client
        self._mqtt.accepted(packet.keep_alive_s, self._clock.mono())
        self._watch()

    def _give_up(self) -> None:
        if self._mqtt.state is State.AUTHENTICATING:
            self.send(Connack(SERVER_UNAVAILABLE).encode())
        self.close("internal failure")

    def _end(self, reason: str) -> None:
        logger.info("%s: closed: %s", self.name, reason)
        self._mqtt.closed()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._client is not None:
            self._client.closed()

    def _watch(self) -> None:
        """Ring when silence or the token runs out; one alarm, moved on only when it rings."""
        wait_s = min(self._mqtt.silent_until - self._clock.mono(), LONGEST_SLEEP_S)
        if self._client is not None:
            wait_s = min(wait_s, self._client.expires - self._token_time())
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._clock.later(max(wait_s, 0.0), self._ring)

    def _ring(self) -> None:
        if self._faults.value(BLACK_HOLE):  # which closes nothing either
            self._alarm = self._clock.later(BLACK_HOLE_LOOK_S, self._ring)
        elif self._mqtt.silent_until <= self._clock.mono():
            self.close("silent for longer than one and a half times its keep-alive")
        elif self._client is not None and self._client.expires <= self._token_time():
            self.close("its token has expired")
        else:
            self._watch()

    def _token_time(self) -> float:
        return self._clock.wall() + self._faults.value(EXPIRE_TOKENS)
