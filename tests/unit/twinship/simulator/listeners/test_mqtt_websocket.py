"""MQTT over WebSockets, on a loopback socket without TLS: packets in any pieces, refusals, and every end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

from tests.unit.twinship.simulator.edge import EDGE, Edge
from twinship.simulator.certificates import Authority
from twinship.simulator.clock import LoopClock
from twinship.simulator.faults.faults import BLACK_HOLE, Faults
from twinship.simulator.identity import Identity
from twinship.simulator.listeners import websocket
from twinship.simulator.listeners.mqtt_listener import Listener
from twinship.simulator.listeners.mqtt_protocol import MqttProtocol
from twinship.simulator.listeners.mqtt_websocket import PATH, serve_mqtt
from twinship.simulator.listeners.websocket import MAX_WAITING_BYTES
from twinship.simulator.mqtt.connection import MAX_PACKET_BYTES, PacketReader
from twinship.simulator.mqtt.packets import (
    Connack,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Suback,
    Subscribe,
)

ADDRESS = "127.77.2.9"
WITHIN_S = 30.0
TOPIC = f"devices/{EDGE}/modules/a/messages/events/"


class Served:
    """A server for module `a`, whose messages go upstream."""

    def __init__(self, folder: Path, client: TestClient[Any, Any], edge: Edge, listener: Listener) -> None:
        self.folder, self.client, self.edge, self.listener = folder, client, edge, listener
        self.connect_packet = edge.connect_packet("a", ttl_s=10**9).encode()

    async def open(self, *protocols: str, path: str = PATH) -> Socket:
        return Socket(await self.client.ws_connect(path, protocols=protocols or ("mqtt",)))

    async def module(self) -> Socket:
        """A client whose CONNECT is accepted."""
        socket = await self.open()
        await socket.ws.send_bytes(self.connect_packet)
        connack = await socket.next()
        assert isinstance(connack, Connack)
        assert connack.code == 0
        return socket


class Socket:
    """A client's WebSocket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self._reader = PacketReader()
        self._packets: list[Packet] = []

    async def next(self) -> Packet | None:
        """The next packet; None: the server has closed the WebSocket."""
        while not self._packets:
            message = await self.ws.receive(WITHIN_S)
            if message.type is not WSMsgType.BINARY:
                return None
            self._packets += self._reader.feed(message.data)
        return self._packets.pop(0)


def served(folder: Path, test: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine with a server."""

    async def run() -> None:
        async with _server(folder) as server:
            await asyncio.wait_for(test(server), 2 * WITHIN_S)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[Served]:
    edge = Edge(folder)
    edge.create("a")
    edge.route(up="FROM /* INTO $upstream")
    listener = Listener(
        edge.hub,
        LoopClock(asyncio.get_running_loop()),
        gateway=EDGE,
        context=Authority.create().server_context([ADDRESS]),
        faults=Faults(),
    )
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", _refuse)
    serve_mqtt(application, listener)
    async with TestClient(TestServer(application, host=ADDRESS)) as client:
        yield Served(folder, client, edge, listener)
    await edge.store.close()


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the state of the server has no event
        await asyncio.sleep(0.01)


async def _refuse(_request: web.Request) -> web.Response:
    return web.Response(status=401)


def test_packets_in_any_pieces_arrive_in_order(tmp_path: Path) -> None:
    """Two packets in one WebSocket message, and one packet in many (MQTT-6.0.0-2)."""

    async def talk(server: Served) -> None:
        module = await server.module()
        assert module.ws.protocol == "mqtt"
        two = Publish(TOPIC, b"1", 1, 1).encode() + Publish(TOPIC, b"2", 1, 2).encode()
        await module.ws.send_bytes(two)
        for byte in Publish(TOPIC, b"3", 1, 3).encode():
            await module.ws.send_bytes(bytes((byte,)))
        assert [await module.next() for _ in range(3)] == [Puback(1), Puback(2), Puback(3)]
        assert [line["Body"] for line in server.edge.upstream()] == ["MQ==", "Mg==", "Mw=="]

    served(tmp_path, talk)


def test_a_query_of_the_address_does_not_matter(tmp_path: Path) -> None:
    """The Node SDK adds one."""

    async def talk(server: Served) -> None:
        socket = await server.open(path=f"{PATH}?iothub-no-client-cert=true")
        await socket.ws.send_bytes(server.connect_packet)
        assert await socket.next() == Connack(0)

    served(tmp_path, talk)


@pytest.mark.parametrize("protocols", [(), ("AMQPWSB10",), ("mqttv3.1",)])
def test_another_subprotocol_is_refused_by_name(tmp_path: Path, protocols: tuple[str, ...]) -> None:
    """501 with the name; also a request that is no WebSocket at all."""

    async def talk(server: Served) -> None:
        headers = {"Sec-WebSocket-Protocol": ", ".join(protocols)} if protocols else {}
        async with server.client.get(PATH, headers=headers) as answer:
            assert answer.status == 501
            assert "AMQP of devices and modules" in await answer.text()

    served(tmp_path, talk)


def test_another_address_is_left_to_the_application(tmp_path: Path) -> None:
    """There the application asks for a token."""

    async def talk(server: Served) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await server.open(path="/devices")
        assert refused.value.status == 401

    served(tmp_path, talk)


def test_disconnect_closes_the_websocket(tmp_path: Path) -> None:
    """And the client is disconnected."""

    async def talk(server: Served) -> None:
        module = await server.module()
        assert server.edge.hub.connected_clients(EDGE) == 1
        await module.ws.send_bytes(Disconnect().encode())
        assert await module.next() is None
        assert server.edge.hub.connected_clients(EDGE) == 0

    served(tmp_path, talk)


@pytest.mark.parametrize("bad", ["text", b"\xf0\x00", b"\x30\xff\xff\xff\xff\x01"])
def test_a_protocol_error_closes_the_websocket(tmp_path: Path, bad: str | bytes) -> None:
    """Text, a reserved packet, and a length that is none: the connection ends and the server goes on."""

    async def talk(server: Served) -> None:
        module = await server.module()
        await (module.ws.send_str(bad) if isinstance(bad, str) else module.ws.send_bytes(bad))
        assert await module.next() is None
        assert server.edge.hub.connected_clients(EDGE) == 0
        await server.module()

    served(tmp_path, talk)


def test_a_message_that_is_too_large_closes_the_websocket(tmp_path: Path) -> None:
    """A WebSocket message larger than two packets is read by nobody."""

    async def talk(server: Served) -> None:
        module = await server.module()
        await module.ws.send_bytes(bytes(2 * MAX_PACKET_BYTES + 1))
        assert await module.next() is None
        assert server.edge.hub.connected_clients(EDGE) == 0

    served(tmp_path, talk)


@pytest.mark.parametrize("black_hole", [False, True])
def test_drop_connections_ends_it(tmp_path: Path, black_hole: bool) -> None:
    """Also when a fault has stopped reading."""

    async def talk(server: Served) -> None:
        module = await server.module()
        if black_hole:
            server.listener._faults.set(BLACK_HOLE, 1)
        server.listener.drop_connections()
        assert await module.next() is None
        await eventually(lambda: not server.edge.hub.connected_clients(EDGE))

    served(tmp_path, talk)


def test_a_newer_connection_over_tcp_or_websocket_takes_over(tmp_path: Path) -> None:
    """The identity has one connection; the older WebSocket is closed."""

    async def talk(server: Served) -> None:
        first = await server.module()
        second = await server.module()
        assert await first.next() is None
        await second.ws.send_bytes(Publish(TOPIC, b"1", 1, 1).encode())
        assert await second.next() == Puback(1)

    served(tmp_path, talk)


def test_the_stop_of_the_server_does_not_wait_for_open_websockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are closed, and their handlers end; aiohttp would wait 60 s for them."""
    monkeypatch.setattr(websocket, "CLOSE_WITHIN_S", WITHIN_S)

    async def talk(server: Served) -> None:
        module = await server.module()
        closing = asyncio.ensure_future(server.client.server.close())
        assert await module.next() is None
        await asyncio.wait_for(closing, WITHIN_S)

    served(tmp_path, talk)


@contextlib.asynccontextmanager
async def reading_nothing(server: Served) -> AsyncIterator[tuple[Socket, MqttProtocol]]:
    """A client with 2,000 requests whose answers of 4 KB it does not read; the hub has paused reading."""
    server.edge.registry.patch_twin(Identity(EDGE, "a"), desired={"text": "y" * 4000})
    module = await server.module()
    await module.ws.send_bytes(Subscribe(1, (("$iothub/twin/res/#", 0),)).encode())
    assert await module.next() == Suback(1, (0,))
    writing = asyncio.ensure_future(_ask_for_twin(module, times=2000))
    (connection,) = server.listener._connections
    await eventually(lambda: connection._reading_paused)
    yield module, connection
    with contextlib.suppress(ConnectionError):
        await writing


def test_a_client_that_reads_nothing_is_not_read(tmp_path: Path) -> None:
    """The hub keeps a bounded part, and answers everything when the client reads."""

    async def talk(server: Served) -> None:
        async with reading_nothing(server) as (module, connection):
            answered, most = 0, 0
            while answered < 2000:
                answered += isinstance(await module.next(), Puback)
                most = max(most, getattr(connection._transport, "socket").waiting_bytes)  # noqa: B009
            assert MAX_WAITING_BYTES < most < 4 * MAX_WAITING_BYTES

    served(tmp_path, talk)


def test_a_client_that_takes_nothing_does_not_outlive_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub waits a moment for the rest to be sent, then resets the connection."""

    async def talk(server: Served) -> None:
        module = await server.module()
        (connection,) = server.listener._connections
        stuck = asyncio.Event()
        socket = getattr(connection._transport, "socket")._response  # noqa: B009
        monkeypatch.setattr(socket, "send_bytes", lambda _data: stuck.wait())
        await module.ws.send_bytes(Pingreq().encode())
        await eventually(lambda: getattr(connection._transport, "socket").waiting_bytes > 0)  # noqa: B009
        connection.close("closed by the test")
        await eventually(lambda: not server.listener._connections)

    served(tmp_path, talk)


async def _ask_for_twin(module: Socket, times: int) -> None:
    for _ in range(times):
        await module.ws.send_bytes(Publish("$iothub/twin/GET/?$rid=1", b"", 1, 1).encode())
