"""An HTTP CONNECT listener for ports that a client cannot choose (ref 0): maps names to real ports.

Opens the tunnels of its table and no others, and reads nothing of what passes through them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 16 * 1024
HEAD_WITHIN_S: Final = 10.0
CHUNK_BYTES: Final = 64 * 1024

Tunnels = Mapping[str, tuple[str, int]]  # "host:port" as clients ask for it -> address and port behind it


class BadRequest(Exception):
    """What came is no request for a tunnel of the table. `status` with its reason; the text is for people."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class ConnectProxy:
    """One listener. `start` raises OSError when it cannot be opened."""

    def __init__(self, tunnels: Tunnels) -> None:
        self._tunnels = {name.casefold(): behind for name, behind in tunnels.items()}
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, address: str, port: int) -> int:
        """Listen; returns the port, which `port` 0 leaves open."""
        self._server = await asyncio.start_server(self._serve, address, port, limit=MAX_HEAD_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """End the listener and every tunnel."""
        if self._server is not None:
            self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await self._tunnel(reader, writer)
        except asyncio.CancelledError:
            pass  # only close() cancels, and the stream's own callback would report it as an error
        except OSError as error:
            logger.debug("a tunnel has ended: %s", error)
        finally:
            self._running.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            wanted = asked(await _head(reader))
            behind = self._behind(wanted)
            outward_reader, outward = await _connected(*behind)
        except BadRequest as refused:
            logger.warning("proxy: %s: %s", refused.status, refused)
            writer.write(answer(refused.status, f"{refused}\n"))
            await writer.drain()
            return
        logger.info("proxy: tunnel to %s opened", wanted)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pump(reader, outward), _pump(outward_reader, writer))
        finally:
            outward.close()

    def _behind(self, wanted: str) -> tuple[str, int]:
        behind = self._tunnels.get(wanted.casefold())
        if behind is None:
            known = ", ".join(sorted(self._tunnels))
            raise BadRequest("403 Forbidden", f"{wanted[:200]!r} is not tunnelled here, only {known}")
        return behind


def asked(head: bytes) -> str:
    """The "host:port" of a CONNECT request's head; raises BadRequest."""
    method, _, rest = head.decode("latin-1").partition("\r\n")[0].partition(" ")
    target, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not target:
        raise BadRequest("400 Bad Request", "this is no HTTP/1 request")
    if method != "CONNECT":
        raise BadRequest(
            "405 Method Not Allowed", f"{method[:20]!r} is not CONNECT, and nothing else is here"
        )
    return target


def answer(status: str, text: str) -> bytes:
    """A refusal, whole."""
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return head.encode("ascii") + b"Connection: close\r\n\r\n" + body


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(HEAD_WITHIN_S):
            return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise BadRequest("400 Bad Request", f"the head is longer than {MAX_HEAD_BYTES} bytes") from None
    except asyncio.IncompleteReadError:
        raise ConnectionError("closed before the head was whole") from None
    except TimeoutError:
        raise BadRequest("408 Request Timeout", f"no whole head within {HEAD_WITHIN_S:g} s") from None


async def _connected(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(address, port)
    except OSError as error:
        raise BadRequest("502 Bad Gateway", f"{address}:{port} does not answer: {error}") from None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one end has nothing more; then say so to the other."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    # TLS on both ends: a connection that is closed one way is of no use the other way
    writer.close()
