"""Relays in a thread of the tests: from a listening socket to an address on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from tests.containers.stand_ins.relay import relay

LOOPBACK = "127.0.0.1"
T = TypeVar("T")


class Relays:
    """Each relay hands every connection of its socket on to one address."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    def add(
        self,
        listener: socket.socket,
        host: str,
        port: int,
        context: ssl.SSLContext | None = None,
        *,
        tunnel: bool = False,
    ) -> int:
        """Relay to host:port; return the socket's port.

        `context` ends TLS here; `tunnel` answers HTTP CONNECT first.
        """

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                if tunnel:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await relay(reader, writer, host, port)
            finally:
                self._connections.discard(task)

        async def start() -> asyncio.Server:
            return await asyncio.start_server(connected, sock=listener, ssl=context)

        self._servers.append(self.call(start()))
        return int(listener.getsockname()[1])

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the relays' thread, and wait."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def close(self) -> None:
        """Close every socket."""
        for server in self._servers:
            server.close()
        connections = list(self._connections)
        for each in connections:
            each.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0.1)  # the transports close their sockets in the next turns of the loop


@contextlib.contextmanager
def running_relays() -> Iterator[Relays]:
    """A thread for relays."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relays")
    thread.start()
    relays = Relays(loop)
    try:
        yield relays
    finally:
        relays.call(relays.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def listening(address: str = LOOPBACK, port: int = 0) -> socket.socket:
    """A listening socket in the network of the calling thread."""
    return socket.create_server((address, port))
