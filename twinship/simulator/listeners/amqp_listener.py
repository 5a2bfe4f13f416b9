"""The AMQP ports of IoT Hub: moves bytes between a transport and a Peer (ref 5.5, 6).

5671 is TLS; 5672 is plain and only opened when asked for. A reader of a backlog gets a bounded number of
messages in each turn of the event loop, so that MQTT clients do not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from twinship.simulator.amqp.peer import Peer, Service
from twinship.simulator.loopback import AddressUnusable, check_loopback, explain

logger = logging.getLogger(__name__)

AMQPS_PORT: Final = 5671
AMQP_PORT: Final = 5672
MAX_CONNECTIONS: Final = 1_000
MAX_WAITING_BYTES: Final = 262_144  # above this nothing more is read, and no event is sent
HANDSHAKE_S: Final = 10.0
SHUTDOWN_S: Final = 1.0
#: Events of this time are sent together: each by itself would delay the next MQTT message.
TOGETHER_S: Final = 0.05


class Peers:
    """All live AMQP connections of the hub, over TCP and WebSockets."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.live: set[PeerDriver] = set()
        self._full = False
        self._alarm: asyncio.TimerHandle | None = None
        service.log.on_committed.append(self._notify)
        service.cloud_to_device.on_feedback = self._notify

    def room(self) -> bool:
        """Whether another connection is accepted; logs the first that is not."""
        full = len(self.live) >= MAX_CONNECTIONS
        if full and not self._full:
            logger.warning("AMQP: %d connections are open; others are closed at once", MAX_CONNECTIONS)
        self._full = full
        return not full

    def close(self) -> None:
        """Close every connection."""
        if self._alarm is not None:
            self._alarm.cancel()
        for driver in list(self.live):
            driver.stop()

    def _notify(self) -> None:
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(TOGETHER_S, self._wake_readers)

    def _wake_readers(self) -> None:
        self._alarm = None
        for peer in self.service.readers:
            peer.wake()


class PeerDriver:
    """Runs one Peer: sends what it has, and calls it when something is due.

    `write` sends bytes to the client; `close` closes the transport after them.
    """

    def __init__(
        self, peers: Peers, name: str, write: Callable[[bytes], None], close: Callable[[], None]
    ) -> None:
        self._peers = peers
        self._write, self._close = write, close
        self._loop = asyncio.get_running_loop()
        self._pumping: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self.peer = Peer(peers.service, name, self.wake)
        self._paused = False
        peers.live.add(self)
        self._tick()

    def received(self, data: bytes) -> None:
        """Handle bytes of the client."""
        try:
            self.peer.receive(data)
        except Exception:  # one client's bytes must not end the hub
            logger.exception("AMQP %s: handling its bytes failed", self.peer.name)
            self._end()
            return
        self._flush()
        self.wake()

    def wake(self) -> None:
        """Send in the next turn of the loop."""
        if self._pumping is None and not self._paused and not self.peer.closed:
            self._pumping = self._loop.call_soon(self._pump)

    def pause(self) -> None:
        """Send no event: the client takes too little."""
        self._paused = True

    def resume(self) -> None:
        """Send events again."""
        self._paused = False
        self.wake()

    def stop(self) -> None:
        """Close the connection."""
        self.peer.connection.close()
        self._flush()

    def ended(self) -> None:
        """The transport has ended, or must."""
        self._peers.live.discard(self)
        for handle in (self._alarm, self._pumping):
            if handle is not None:
                handle.cancel()
        self.peer.lost()  # also if the hub closed it: its links may not know yet
        # no cycle of references may keep the transport: see MqttProtocol.connection_lost()
        self.peer.wake = self._write = self._close = _nothing

    def _pump(self) -> None:
        self._pumping = None
        more = self.peer.pump()
        self._flush()
        if more:
            self.wake()

    def _flush(self) -> None:
        if data := self.peer.take():
            self._write(data)
        if self.peer.closed and self in self._peers.live:
            logger.info("AMQP %s: closed: %s", self.peer.name, self.peer.connection.why)
            self._end()

    def _end(self) -> None:
        self._close()
        self.ended()

    def _tick(self) -> None:
        again_s = self.peer.tick()
        self._flush()
        if self in self._peers.live:
            self._alarm = self._loop.call_later(again_s, self._tick)


def _nothing(*_: object) -> None:
    """What an ended connection writes and wakes."""


class AmqpProtocol(asyncio.Protocol):
    """One TCP connection, after its TLS handshake if it has one."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._driver: PeerDriver | None = None
        self._tcp: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tcp = cast(asyncio.Transport, transport)
        if not self._peers.room():
            tcp.abort()
            return
        tcp.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tcp.set_write_buffer_limits(high=MAX_WAITING_BYTES)
        name = "{}:{}".format(*tcp.get_extra_info("peername")[:2])
        self._tcp = tcp
        self._driver = PeerDriver(self._peers, name, tcp.write, tcp.close)

    def data_received(self, data: bytes) -> None:
        if self._driver is not None:
            self._driver.received(data)

    def pause_writing(self) -> None:
        """The client reads nothing: nothing is read from it, and no event is sent."""
        if self._driver is not None and self._tcp is not None:
            self._driver.pause()
            self._tcp.pause_reading()

    def resume_writing(self) -> None:
        if self._driver is not None and self._tcp is not None:
            if not self._tcp.is_closing():
                self._tcp.resume_reading()
            self._driver.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._driver is not None:
            self._driver.ended()
        self._driver = self._tcp = None


async def serve_amqp(peers: Peers, address: str, port: int, context: ssl.SSLContext | None) -> asyncio.Server:
    """Listen on a loopback address; without a context in clear. Raises AddressUnusable."""
    check_loopback(address)
    tls = context is not None
    try:
        return await asyncio.get_running_loop().create_server(
            lambda: AmqpProtocol(peers),
            address,
            port,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_S if tls else None,
            ssl_shutdown_timeout=SHUTDOWN_S if tls else None,
        )
    except OSError as error:
        raise AddressUnusable(explain(error, address, port)) from error
