"""A recorder between an unmodified SDK and the hub: records every packet and can drop the connections.

It ends TLS on both sides with a certificate of the hub's authority. A client connects to it because its
GatewayHostName is the tap's address; its token stays valid because the audience is IoT Hub. A second recorder
stands before a module's workload socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tests.wire.hub_under_test import HubUnderTest, wait_for
from twinship.simulator.certificates import Authority
from twinship.simulator.loopback import free_addresses
from twinship.simulator.mqtt.connection import PacketReader
from twinship.simulator.mqtt.packets import Connack, Connect, Packet

PORT = 8883
P = TypeVar("P", bound=Packet)


@dataclass(frozen=True)
class Seen:
    """One packet. `connection` counts from 1."""

    connection: int
    by_client: bool
    packet: Packet


class Tap:
    """Records packets. `answer`: a CONNACK code for every CONNECT, which then does not reach the hub."""

    def __init__(self, hub: HubUnderTest, names: Sequence[str] = ()) -> None:
        (self.address,) = free_addresses(1, (PORT,))
        self.seen: list[Seen] = []
        self.answer: int | None = None
        self._hub = hub
        self._connections = 0
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        authority = Authority.open(hub.folder, datetime.now(UTC))
        self._served = authority.server_context(list(names) or [self.address])
        self._trusted = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def open(self) -> None:
        """Listen; call close() at the end."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def close(self) -> None:
        """Stop listening, drop all connections, end the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop(self) -> None:
        """Reset every connection, as a pulled cable does: no DISCONNECT and no TLS close."""
        self._loop.call_soon_threadsafe(self._abort)

    def packets(self, kind: type[P], connection: int | None = None) -> list[P]:
        """The recorded packets of one kind, on one connection or all."""
        return [
            each.packet
            for each in list(self.seen)
            if isinstance(each.packet, kind) and connection in (None, each.connection)
        ]

    def wait_for(self, kind: type[P], count: int, connection: int | None = None) -> P:
        """Wait until `count` packets of this kind have passed; returns the last."""
        wait_for(lambda: len(self.packets(kind, connection)) >= count, f"{count} {kind.__name__}")
        return self.packets(kind, connection)[count - 1]

    def last_connection(self) -> int:
        """The number of the newest connection that sent CONNECT."""
        return max(each.connection for each in list(self.seen) if isinstance(each.packet, Connect))

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, self.address, PORT, ssl=self._served)

    async def _end(self) -> None:
        self._server.close()
        self._abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _abort(self) -> None:
        for line in self._lines:
            line.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        try:
            await self._serve(self._connections, reader, writer)
        finally:
            writer.transport.abort()
            self._lines.discard(writer)
            self._tasks.discard(task)

    async def _serve(
        self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._lines.add(writer)
        if self.answer is not None:
            with contextlib.suppress(OSError):
                await self._answer(connection, reader, writer, self.answer)
            return
        try:
            hub_reader, hub_writer = await asyncio.open_connection(
                self._hub.gateway, PORT, ssl=self._trusted, server_hostname=self._hub.gateway
            )
        except OSError:
            return
        self._lines.add(hub_writer)
        try:
            pumps = [
                asyncio.create_task(self._pump(reader, hub_writer, connection, by_client=True)),
                asyncio.create_task(self._pump(hub_reader, writer, connection, by_client=False)),
            ]
            await asyncio.wait(pumps)
        finally:
            hub_writer.transport.abort()
            self._lines.discard(hub_writer)

    async def _answer(
        self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, code: int
    ) -> None:
        self._record(connection, PacketReader(), await reader.read(65536), by_client=True)
        writer.write(Connack(code).encode())
        await writer.drain()
        await reader.read(65536)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int, *, by_client: bool
    ) -> None:
        packets = PacketReader()
        try:
            while data := await reader.read(65536):
                self._record(connection, packets, data, by_client=by_client)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def _record(self, connection: int, packets: PacketReader, data: bytes, *, by_client: bool) -> None:
        for packet in packets.feed(data):
            self.seen.append(Seen(connection, by_client, packet))


@contextlib.contextmanager
def tapping(hub: HubUnderTest, names: Sequence[str] = ()) -> Iterator[Tap]:
    """An open tap; `names`: the names in its certificate instead of its address."""
    tap = Tap(hub, names)
    tap.open()
    try:
        yield tap
    finally:
        tap.close()


@dataclass
class Workload:
    """A recorder before a module's workload socket. `requests`: method, path and body of each."""

    uri: str
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)


@contextlib.contextmanager
def recorded_workload(target: Path, *, unix: Path | None = None) -> Iterator[Workload]:
    """Forward requests to the socket at `target`; listens on a unix socket, or on loopback TCP."""
    workload = Workload("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._forward(b"")

        def do_POST(self) -> None:
            self._forward(self.rfile.read(int(self.headers["Content-Length"])))

        def address_string(self) -> str:
            return "a module"

        def log_message(self, format: str, *_: object) -> None:
            return None

        def _forward(self, body: bytes) -> None:
            workload.requests.append((self.command, self.path, body))
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(target))
            with contextlib.closing(connection):
                connection.request(self.command, self.path, body)
                answer = connection.getresponse()
                content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server: socketserver.BaseServer
    if unix is not None:
        server = socketserver.ThreadingUnixStreamServer(str(unix), Handler)
        workload.uri = f"unix://{unix}"
    else:
        server = socketserver.ThreadingTCPServer((free_addresses(1, ())[0], 0), Handler)
        workload.uri = "http://{}:{}".format(*server.server_address[:2])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield workload
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
