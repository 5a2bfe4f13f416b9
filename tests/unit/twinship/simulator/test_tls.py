"""The hub's TLS between a real socket and an application: whole, in order, and an end to everything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinship.simulator import tls
from twinship.simulator.certificates import Authority
from twinship.simulator.tls import Tls

ADDRESS = "127.77.2.1"
WITHIN_S = 10.0


@dataclass
class Application(asyncio.Protocol):
    """Keeps what it is told; `answer` is asked for each piece."""

    answer: Callable[[Application, bytes], None] = lambda application, data: None
    paused_at_first: bool = False
    transport: asyncio.Transport = field(init=False)
    got: bytearray = field(default_factory=bytearray)
    pauses: int = 0
    lost: list[Exception | None] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.paused_at_first:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.answer(self, data)

    def pause_writing(self) -> None:
        self.pauses += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


@dataclass
class ArtefactStore:
    """A server for one application, and what its clients trust."""

    port: int
    trusted: ssl.SSLContext
    made: list[Application] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(ADDRESS, self.port, ssl=self.trusted, server_hostname=ADDRESS)


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    make: Callable[[], Application] = Application,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> AsyncIterator[ArtefactStore]:
    authority = Authority.open(folder, datetime.now(UTC))
    trusted = ssl.create_default_context(cadata=authority.ca_pem)
    trusted.maximum_version = newest
    place = ArtefactStore(0, trusted)

    def application() -> Application:
        place.made.append(make())
        return place.made[-1]

    connections = Tls(authority.server_context([ADDRESS]))
    server = await asyncio.get_running_loop().create_server(
        lambda: connections.connection(application), ADDRESS, 0
    )
    place.port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(WITHIN_S):
        yield place


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is an application's own list
        await asyncio.sleep(0.002)


def echo(application: Application, data: bytes) -> None:
    application.transport.write(data)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 1024, 16_384, 16_385, 300_000, 2_000_000])
def test_any_amount_arrives_whole_both_ways(tmp_path: Path, newest: ssl.TLSVersion, size: int) -> None:
    """Over as many records and reads as it takes."""

    async def run() -> None:
        async with serving(tmp_path, lambda: Application(echo), newest) as place:
            reader, writer = await place.connect()
            sent = bytes(range(251)) * (size // 251 + 1)
            writer.write(sent[:size])
            assert await reader.readexactly(size) == sent[:size]
            writer.close()
            await until(lambda: place.made[0].lost)
            assert place.made[0].lost == [None]

    asyncio.run(run())


def test_records_are_whole_however_the_network_cuts_them(tmp_path: Path) -> None:
    """The handshake too: byte by byte, and then all that there is at once."""

    async def run() -> None:
        async with serving(tmp_path, lambda: Application(echo)) as place:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = place.trusted.wrap_bio(incoming, outgoing, server_hostname=ADDRESS)
            reader, writer = await asyncio.open_connection(ADDRESS, place.port)

            async def say(data: bytes) -> None:
                for at in range(len(data)):
                    writer.write(data[at : at + 1])
                    await writer.drain()
                    await asyncio.sleep(0)

            async def until_done(step: Callable[[], object]) -> object:
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        await say(outgoing.read())
                        incoming.write(await reader.read(65_536))

            await until_done(client.do_handshake)
            for text in (b"a", b"b" * 100):
                client.write(text)
            await say(outgoing.read())
            await until(lambda: place.made and len(place.made[0].got) == 101)
            client.write(b"c" * 40_000)
            client.write(b"d")
            writer.write(outgoing.read())
            await until(lambda: len(place.made[0].got) == 40_102)
            assert place.made[0].got == b"a" + b"b" * 100 + b"c" * 40_000 + b"d"
            writer.close()
            await until(lambda: place.made[0].lost)

    asyncio.run(run())


def test_what_came_with_the_handshake_waits_for_an_application_that_is_not_reading(tmp_path: Path) -> None:
    """Nothing is handed on while it pauses; all of it afterwards."""

    async def run() -> None:
        async with serving(
            tmp_path, lambda: Application(paused_at_first=True), ssl.TLSVersion.TLSv1_3
        ) as place:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = place.trusted.wrap_bio(incoming, outgoing, server_hostname=ADDRESS)
            reader, writer = await asyncio.open_connection(ADDRESS, place.port)
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65_536))
            client.write(b"at once")  # in one piece with the end of the handshake
            writer.write(outgoing.read())
            await until(lambda: place.made)
            await asyncio.sleep(0.02)
            assert place.made[0].got == b""
            place.made[0].transport.resume_reading()
            await until(lambda: place.made[0].got == b"at once")
            writer.close()
            await until(lambda: place.made[0].lost)

    asyncio.run(run())


def test_a_close_is_a_goodbye_after_everything_that_was_written(tmp_path: Path) -> None:
    """Also towards a client that goes on talking; what it says then is not heard."""

    def answer(application: Application, data: bytes) -> None:
        application.transport.write(b"x" * 1_000_000)
        application.transport.close()
        application.transport.write(b"never")

    async def run() -> None:
        async with serving(tmp_path, lambda: Application(answer)) as place:
            reader, writer = await place.connect()
            writer.write(b"go")
            await until(lambda: place.made and place.made[0].got)
            writer.write(b"still here" * 1000)
            assert await reader.read() == b"x" * 1_000_000
            assert place.made[0].got == b"go"
            writer.close()
            await until(lambda: place.made[0].lost)
            assert place.made[0].lost == [None]

    asyncio.run(run())


def test_a_client_that_does_not_answer_the_goodbye_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a moment."""
    monkeypatch.setattr(tls, "GOODBYE_S", 0.05)

    async def run() -> None:
        async with serving(tmp_path) as place:
            with deaf_client(place) as client:
                await asyncio.to_thread(client.do_handshake)
                await until(lambda: place.made)
                place.made[0].transport.close()
                await until(lambda: place.made[0].lost)

    asyncio.run(run())


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_who_does_not_shake_hands_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """Silence, half a greeting and another protocol; the application never hears of it."""
    monkeypatch.setattr(tls, "HANDSHAKE_S", 0.05)

    async def run() -> None:
        async with serving(tmp_path) as place:
            reader, writer = await asyncio.open_connection(ADDRESS, place.port)
            writer.write(said)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            assert place.made == []

    asyncio.run(run())


def test_garbage_between_records_ends_the_connection(tmp_path: Path) -> None:
    """The application is told why."""

    async def run() -> None:
        async with serving(tmp_path) as place:
            with deaf_client(place) as client:
                await asyncio.to_thread(client.do_handshake)
                socket.socket.sendall(client, b"no record at all")
                await until(lambda: place.made and place.made[0].lost)
                assert isinstance(place.made[0].lost[0], ssl.SSLError)

    asyncio.run(run())


def test_the_application_is_told_when_nobody_reads(tmp_path: Path) -> None:
    """And nothing is lost of what it has written by then."""

    async def run() -> None:
        async with serving(tmp_path) as place:
            reader, writer = await place.connect()
            await until(lambda: place.made)
            for _ in range(200):
                place.made[0].transport.write(bytes(100_000))
            assert place.made[0].pauses == 1
            assert len(await reader.readexactly(20_000_000)) == 20_000_000
            writer.transport.abort()
            await until(lambda: place.made[0].lost)

    asyncio.run(run())


@contextlib.contextmanager
def deaf_client(place: ArtefactStore) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection((ADDRESS, place.port), timeout=WITHIN_S) as plain,
        place.trusted.wrap_socket(plain, server_hostname=ADDRESS, do_handshake_on_connect=False) as client,
    ):
        yield client
