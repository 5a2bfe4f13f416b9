"""The CONNECT proxy: tunnels, refusals and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from twinship.simulator.listeners import connect_proxy
from twinship.simulator.listeners.connect_proxy import ConnectProxy

LOOPBACK = "127.16.7.7"
Ask = Callable[[bytes], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def with_proxy(test: Callable[[Ask], Awaitable[None]]) -> None:
    """Run a test with a proxy whose `gw:443` is an echo server; nothing listens behind `gw:444`."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(echo, LOOPBACK, 0)
        behind = (LOOPBACK, int(server.sockets[0].getsockname()[1]))
        proxy = ConnectProxy({"gw:443": behind, "gw:444": (LOOPBACK, 1)})
        port = await proxy.start(LOOPBACK, 0)
        writers: list[asyncio.StreamWriter] = []

        async def ask(head: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writers.append(writer)
            writer.write(head)
            return reader, writer

        await test(ask)
        await proxy.close()
        server.close()
        for writer in writers:
            writer.close()

    asyncio.run(run())


def test_bytes_pass_in_both_directions_until_one_end_closes() -> None:
    """This includes bytes after the head in the same segment, and more bytes than a buffer."""

    async def test(ask: Ask) -> None:
        reader, writer = await ask(b"CONNECT GW:443 HTTP/1.1\r\nHost: GW:443\r\n\r\nearly")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        assert await reader.readexactly(5) == b"early"
        large = bytes(range(256)) * 4096
        writer.write(large)
        assert await reader.readexactly(len(large)) == large
        writer.write_eof()
        assert await reader.read() == b""

    with_proxy(test)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"CONNECT example.com:443 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT gw:22 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT gw:444 HTTP/1.1\r\n\r\n", b"502"),
        (b"GET http://gw:443/ HTTP/1.1\r\n\r\n", b"405"),
        (b"CONNECT gw:443\r\n\r\n", b"400"),
        (b"\x16\x03\x01\r\n\r\n", b"400"),
        (b"CONNECT gw:443 HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"400"),
    ],
)
def test_nothing_else_is_tunnelled(head: bytes, status: bytes) -> None:
    """Another name or port is 403, another method 405, an invalid request 400; then the connection ends."""

    async def test(ask: Ask) -> None:
        reader, _ = await ask(head)
        said = await reader.readuntil(b"\r\n")
        assert said.split()[1] == status

    with_proxy(test)


def test_an_endless_head_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client cannot hold a connection without a request."""
    monkeypatch.setattr(connect_proxy, "HEAD_WITHIN_S", 0.05)

    async def test(ask: Ask) -> None:
        reader, _ = await ask(b"CONNECT gw:443")
        assert (await reader.readuntil(b"\r\n")).split()[1] == b"408"

    with_proxy(test)


def test_close_closes_open_tunnels() -> None:
    """close() returns although a client stays connected."""

    async def test(ask: Ask) -> None:
        reader, _ = await ask(b"CONNECT gw:443 HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")

    with_proxy(test)
