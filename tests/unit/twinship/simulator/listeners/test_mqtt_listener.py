"""The MQTT listener over real TLS sockets: whole messages in order, and an end to every connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.unit.twinship.simulator.edge import EDGE, Edge, into
from twinship.simulator.certificates import Authority
from twinship.simulator.clock import LoopClock
from twinship.simulator.faults.faults import LINK_DELAY, Faults
from twinship.simulator.listeners import mqtt_listener, mqtt_protocol
from twinship.simulator.listeners.mqtt_listener import Listener
from twinship.simulator.listeners.mqtt_protocol import MqttProtocol
from twinship.simulator.mqtt.connection import MAX_PACKET_BYTES, PacketReader
from twinship.simulator.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Subscribe,
)

ADDRESS = "127.77.2.1"
WITHIN_S = 20.0
TOPIC = f"devices/{EDGE}/modules/a/messages/events/%24.on=o"


class Served:
    """A listener on a free port, for modules `a` and `b` with a route from a to b."""

    def __init__(self, folder: Path) -> None:
        self.edge = Edge(folder)
        self.edge.create("a", "b")
        self.edge.route(r=into("b", source="/messages/modules/a/*"))
        authority = Authority.create()
        self.trusted = ssl.create_default_context(cadata=authority.ca_pem)
        self.unhandled: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self.unhandled.append(context))
        self.listener = Listener(
            self.edge.hub,
            LoopClock(loop),
            gateway=EDGE,
            context=authority.server_context([ADDRESS]),
            faults=Faults(),
        )
        self.port = 0
        self.clients: list[Client] = []

    @property
    def connections(self) -> set[MqttProtocol]:
        return self.listener._connections

    def connect_packet(self, module: str) -> bytes:
        return self.edge.connect_packet(module, ttl_s=10**9).encode()

    async def open(self, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> Client:
        """A client whose TLS handshake is done."""
        self.trusted.maximum_version = newest
        streams = await asyncio.open_connection(ADDRESS, self.port, ssl=self.trusted, server_hostname=ADDRESS)
        self.clients.append(Client(*streams))
        return self.clients[-1]

    def handshake(self) -> ssl.SSLSocket:
        """A blocking client socket whose TLS handshake is done."""
        plain = socket.create_connection((ADDRESS, self.port), timeout=WITHIN_S)
        return self.trusted.wrap_socket(plain, server_hostname=ADDRESS)

    async def module(self, name: str, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> Client:
        """A client whose CONNECT is accepted."""
        client = await self.open(newest)
        client.writer.write(self.connect_packet(name))
        assert await client.next(Connack) == Connack(0)
        return client


class Client:
    """The other end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._packets: list[Packet] = []
        self._mqtt = PacketReader(MAX_PACKET_BYTES)

    async def next(self, kind: type[Packet]) -> Packet:
        """The next packet of this kind; packets of other kinds are dropped."""
        while True:
            while self._packets:
                if isinstance(packet := self._packets.pop(0), kind):
                    return packet
            data = await self.reader.read(65_536)
            assert data, "the hub closed the connection"
            self._packets += self._mqtt.feed(data)

    async def subscribe(self, module: str) -> None:
        self.writer.write(Subscribe(1, ((f"devices/{EDGE}/modules/{module}/inputs/#", 1),)).encode())


def run(folder: Path, test: Callable[[Served], Coroutine[Any, Any, None]]) -> Served:
    """Run a test against a listener; nothing may reach asyncio's exception handler."""

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[Served]:
        served = Served(folder)
        await served.listener.open(ADDRESS, 0)
        assert served.listener._socket is not None
        served.port = served.listener._socket.getsockname()[1]
        try:
            yield served
        finally:
            for client in served.clients:
                client.writer.transport.abort()
            await until(lambda: not served.connections)
            served.listener.close()

    async def main() -> Served:
        async with asyncio.timeout(WITHIN_S), serving() as served:
            await test(served)
        return served

    served = asyncio.run(main())
    assert served.unhandled == []
    return served


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the state of the listener has no event
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 16_384, 16_385, 262_000])
def test_a_message_of_any_size_arrives_whole(tmp_path: Path, newest: ssl.TLSVersion, size: int) -> None:
    """Messages span as many TLS records and reads as they need, in both directions."""

    async def test(served: Served) -> None:
        sender, receiver = await served.module("a", newest), await served.module("b", newest)
        await receiver.subscribe("b")
        body = (bytes(range(251)) * (size // 251 + 1))[:size]
        sender.writer.write(Publish(TOPIC, body, 1, 1).encode())
        assert await sender.next(Puback) == Puback(1)
        received = await receiver.next(Publish)
        assert isinstance(received, Publish)
        assert received.body == body

    run(tmp_path, test)


def test_packets_are_whole_however_the_network_splits_them(tmp_path: Path) -> None:
    """Handshake and CONNECT arrive byte by byte; then many packets arrive in one piece."""

    async def test(served: Served) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = served.trusted.wrap_bio(incoming, outgoing, server_hostname=ADDRESS)
        reader, writer = await asyncio.open_connection(ADDRESS, served.port)

        async def send_bytewise() -> None:
            for byte in outgoing.read():
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)

        async def retry(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    await send_bytewise()
                    incoming.write(await reader.read(65_536))

        await retry(client.do_handshake)
        client.write(served.connect_packet("a"))
        assert await retry(lambda: client.read(4)) == Connack(0).encode()
        for number in range(1, 41):
            client.write(Publish(TOPIC, bytes(1000), 1, number).encode())
        writer.write(outgoing.read())
        for number in range(1, 41):
            assert await retry(lambda: client.read(4)) == Puback(number).encode()
        writer.close()

    run(tmp_path, test)


def test_nagles_algorithm_is_off(tmp_path: Path) -> None:
    """With it every twin call takes 44 ms longer (ref 0)."""

    async def test(served: Served) -> None:
        await served.module("a")
        (connection,) = served.connections
        plain = connection._transport.get_extra_info("socket")
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(tmp_path, test)


def test_a_refusal_arrives_although_the_client_goes_on_sending(tmp_path: Path) -> None:
    """The hub sends CONNACK 5 and closes; it ignores what the client sends after CONNECT."""

    async def test(served: Served) -> None:
        client = await served.open()
        refused = Connect(f"{EDGE}/a", f"x/{EDGE}/a/?api-version=2019-10-01", b"wrong", 60)
        client.writer.write(refused.encode() + Pingreq().encode() * 1000)
        connack = await client.next(Connack)
        assert isinstance(connack, Connack)
        assert connack.code == 5
        with contextlib.suppress(ConnectionError):
            assert await client.reader.read() == b""
        await until(lambda: not served.connections)

    run(tmp_path, test)


def test_a_client_that_does_not_answer_a_close_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub waits SHUTDOWN_S for the client's close_notify."""
    monkeypatch.setattr(mqtt_listener, "SHUTDOWN_S", 0.05)

    async def test(served: Served) -> None:
        with await asyncio.to_thread(served.handshake):
            await until(lambda: served.connections)
            next(iter(served.connections)).close("the test closes it")
            await until(lambda: not served.connections)

    run(tmp_path, test)


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01"])
def test_a_handshake_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """A client that sends nothing, or half a greeting, is dropped after HANDSHAKE_S."""
    monkeypatch.setattr(mqtt_listener, "HANDSHAKE_S", 0.05)

    async def test(served: Served) -> None:
        reader, writer = await asyncio.open_connection(ADDRESS, served.port)
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert not served.connections

    run(tmp_path, test)


def test_plain_text_is_refused_with_one_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The line names the reason; there is no traceback."""
    caplog.set_level(logging.INFO)

    async def test(served: Served) -> None:
        reader, writer = await asyncio.open_connection(ADDRESS, served.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    run(tmp_path, test)
    (line,) = caplog.messages
    assert line.startswith("TLS handshake failed: ")
    assert all(record.exc_info is None for record in caplog.records)


def test_an_old_tls_version_is_refused_with_one_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TLS 1.1 and older get an alert."""
    caplog.set_level(logging.INFO)

    async def test(served: Served) -> None:
        hello = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x02\xc0\x14" + b"\x01\x00"  # a TLS 1.1 ClientHello
        body = b"\x01" + len(hello).to_bytes(3, "big") + hello
        reader, writer = await asyncio.open_connection(ADDRESS, served.port)
        writer.write(b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body)
        with contextlib.suppress(ConnectionError):
            assert (await reader.read())[:1] in (b"", b"\x15")  # an alert record
        writer.close()

    run(tmp_path, test)
    (line,) = caplog.messages
    assert line.startswith("TLS handshake failed: ")


def test_garbage_between_records_ends_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has one line with the reason."""
    caplog.set_level(logging.INFO)

    async def test(served: Served) -> None:
        with await asyncio.to_thread(served.handshake) as client:
            await until(lambda: served.connections)
            socket.socket.sendall(client, b"not a TLS record")
            await until(lambda: not served.connections)

    run(tmp_path, test)
    (line,) = [each for each in caplog.messages if "closed" in each]
    assert "connection lost: " in line


def test_a_client_that_does_not_read_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back pressure: the hub stops reading; when the client reads again, every answer arrives."""
    monkeypatch.setattr(mqtt_protocol, "MAX_WAITING_BYTES", 1000)

    async def test(served: Served) -> None:
        client = await served.module("a")
        (connection,) = served.connections
        connection.pause_writing()
        client.writer.write(Publish(TOPIC, b"1", 1, 1).encode())
        await asyncio.sleep(0.05)
        taken_bytes, _ = connection.carried
        assert taken_bytes == len(served.connect_packet("a"))
        connection.resume_writing()
        assert await client.next(Puback) == Puback(1)

    run(tmp_path, test)


def test_the_transport_pauses_writing_when_the_client_stops_reading(tmp_path: Path) -> None:
    """asyncio tells the protocol, and no byte is lost."""

    async def test(served: Served) -> None:
        client = await served.module("a")
        (connection,) = served.connections
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(200):
            connection.send(bytes(100_000))
        assert connection._writing_paused
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await client.reader.readexactly(20_000_000)) == 20_000_000
        await until(lambda: not connection._writing_paused)

    run(tmp_path, test)


@pytest.mark.parametrize("last", [Disconnect().encode(), b"\xf0\x00"])
def test_a_client_is_disconnected_by_a_last_packet_that_was_under_way(tmp_path: Path, last: bytes) -> None:
    """A slow link carries DISCONNECT, or a protocol error, after the client has closed the connection."""

    async def test(served: Served) -> None:
        client = await served.module("a")
        served.listener._faults.set(LINK_DELAY, 60.0)
        client.writer.write(last)
        client.writer.close()
        await until(lambda: not served.connections)
        assert served.edge.hub.connected_clients(EDGE) == 0

    run(tmp_path, test)
