"""The hub frees a connection when it ends, over TLS and WebSockets, with MQTT and AMQP.

It must not wait for the garbage collector, which counts objects: a TLS connection has 0.3 MB in few of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from tests.unit.twinship.simulator.amqp import client as amqp
from tests.unit.twinship.simulator.amqp.test_peer import OWNER, Hub
from tests.unit.twinship.simulator.edge import EDGE
from twinship.simulator.amqp.frames import encode_frame
from twinship.simulator.amqp.performatives import make
from twinship.simulator.certificates import Authority
from twinship.simulator.clock import LoopClock
from twinship.simulator.faults.faults import Faults
from twinship.simulator.listeners import amqp_websocket, mqtt_websocket
from twinship.simulator.listeners.amqp_listener import Peers, serve_amqp
from twinship.simulator.listeners.mqtt_listener import Listener
from twinship.simulator.mqtt.packets import Disconnect

ADDRESS = "127.77.2.10"
WITHIN_S = 15.0
VISITS = 10
TLS_BYTES = 262_144  # asyncio's read buffer of one connection
MAX_LEFT_BYTES = TLS_BYTES / 4


class Served:
    """MQTT, AMQP and HTTPS ports of one hub."""

    def __init__(self, folder: Path) -> None:
        self.hub = Hub(folder)
        self.hub.edge.create("a")
        self.peers = Peers(self.hub.service)
        authority = Authority.create()
        self.trusted = ssl.create_default_context(cadata=authority.ca_pem)
        self.context = authority.server_context([ADDRESS])
        clock = LoopClock(asyncio.get_running_loop())
        self.listener = Listener(
            self.hub.edge.hub, clock, gateway=EDGE, context=self.context, faults=Faults()
        )
        self.ports: dict[str, int] = {}

    @property
    def clients(self) -> int:
        """Clients that the hub has accepted, MQTT and AMQP."""
        return self.hub.edge.hub.connected_clients(EDGE) + len(self.hub.service.readers)

    @property
    def idle(self) -> bool:
        """Whether no connection is left, and no task that serves one."""
        connections = self.listener._connections or self.peers.live
        return not (self.clients or connections) and len(asyncio.all_tasks()) == 1


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    served = Served(folder)
    application = web.Application()
    mqtt_websocket.serve_mqtt(application, served.listener)
    application.middlewares.insert(0, amqp_websocket.amqp_over_websockets(served.peers))
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, 0, ssl_context=served.context).start()
    await served.listener.open(ADDRESS, 0)
    amqps = await serve_amqp(served.peers, ADDRESS, 0, served.context)
    assert served.listener._socket is not None
    served.ports = {
        "https": runner.addresses[0][1],
        "mqtts": served.listener._socket.getsockname()[1],
        "amqps": amqps.sockets[0].getsockname()[1],
    }
    try:
        yield served
    finally:
        amqps.close()
        served.listener.close()
        await runner.cleanup()


@dataclass(frozen=True)
class Way:
    """How a client comes: its port, its WebSocket's path and subprotocol if it has one, its first bytes."""

    port: str
    subprotocol: str | None
    hello: Callable[[Served], bytes]
    goodbye: bytes
    broken: bytes

    async def come(self, served: Served) -> asyncio.StreamWriter:
        """A client that the hub has accepted."""
        reader, writer = await asyncio.open_connection(
            ADDRESS, served.ports[self.port], ssl=served.trusted, server_hostname=ADDRESS
        )
        if self.subprotocol:
            writer.write(
                f"GET {mqtt_websocket.PATH} HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                f"Sec-WebSocket-Protocol: {self.subprotocol}\r\n\r\n".encode()
            )
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        self.write(writer, self.hello(served))
        await until(lambda: served.clients)
        return writer

    def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send bytes, in one WebSocket message if there is a WebSocket."""
        if self.subprotocol:
            writer.write(b"\x82\xfe" + len(data).to_bytes(2, "big") + bytes(4))  # masked with zeros
        writer.write(data)


def _connect(served: Served) -> bytes:
    return served.hub.edge.connect_packet("a", ttl_s=10**9).encode()


def _read_events(served: Served) -> bytes:
    sent = bytearray()

    def exchange(data: bytes) -> bytes:
        sent.extend(data)
        return b""

    client = amqp.Client(exchange)
    client.open("PLAIN", OWNER)
    client.attach(0, served.hub.partition, receives=True)
    client.flow(0, 10)
    return bytes(sent)


_MQTT = (_connect, Disconnect().encode(), b"\xf0\x00")
_AMQP = (_read_events, encode_frame(make("close")), b"\0\0\0\1")
WAYS = {
    "mqtt": Way("mqtts", None, *_MQTT),
    "amqp": Way("amqps", None, *_AMQP),
    "mqtt over websockets": Way("https", mqtt_websocket.SUBPROTOCOL, *_MQTT),
    "amqp over websockets": Way("https", amqp_websocket.SUBPROTOCOL, *_AMQP),
}


def _goes(_served: Served, way: Way, writer: asyncio.StreamWriter) -> None:
    way.write(writer, way.goodbye)


def _vanishes(_served: Served, _way: Way, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _closes(_served: Served, _way: Way, writer: asyncio.StreamWriter) -> None:
    writer.close()


def _breaks_the_protocol(_served: Served, way: Way, writer: asyncio.StreamWriter) -> None:
    way.write(writer, way.broken)
    writer.close()


def _is_dropped(served: Served, _way: Way, writer: asyncio.StreamWriter) -> None:
    served.listener.drop_connections()
    served.peers.close()
    writer.close()


@pytest.mark.parametrize("end", [_goes, _vanishes, _closes, _breaks_the_protocol, _is_dropped])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_ended_connection_leaves_nothing(
    tmp_path: Path, way: Way, end: Callable[[Served, Way, asyncio.StreamWriter], None]
) -> None:
    """Ten clients come and go while no garbage is collected, and the hub keeps the buffers of none."""

    async def visit(served: Served) -> None:
        writer = await way.come(served)
        end(served, way, writer)
        await until(lambda: not served.clients)
        writer.transport.abort()
        await until(lambda: served.idle)

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), serving(tmp_path) as served:
            await visit(served)
            with left_bytes() as left:
                for _ in range(VISITS):
                    await visit(served)
                await until(lambda: left() < VISITS * MAX_LEFT_BYTES)

    asyncio.run(main())


@contextlib.contextmanager
def left_bytes() -> Iterator[Callable[[], int]]:
    """A function that returns how many bytes more are allocated than at the beginning of the block."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the state of the hub has no event
        await asyncio.sleep(0.002)
