"""An HTTP CONNECT proxy for ports that a client cannot choose (ref 0): maps "host:port" to real ports.

It opens only the tunnels of its table.
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

Tunnels = Mapping[str, tuple[str, int]]  # requested "host:port" -> real address and port


class BadRequest(Exception):
    """Not a request for a tunnel of the table. `status` is the HTTP status line's code and reason."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class ConnectProxy:
    """One listener."""

    def __init__(self, tunnels: Tunnels) -> None:
        self._tunnels = {name.casefold(): target for name, target in tunnels.items()}
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, address: str, port: int) -> int:
        """Listen; returns the port (`port` 0: a free one). Raises OSError."""
        self._server = await asyncio.start_server(self._serve, address, port, limit=MAX_HEAD_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Close the listener and every tunnel."""
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
            pass  # only close() cancels; asyncio's stream callback would report the cancellation as an error
        except OSError as error:
            logger.debug("a tunnel ended: %s", error)
        finally:
            self._running.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            requested = parse_target(await _head(reader))
            target_reader, target_writer = await _connected(*self._target(requested))
        except BadRequest as refused:
            logger.warning("proxy: %s: %s", refused.status, refused)
            writer.write(error_response(refused.status, f"{refused}\n"))
            await writer.drain()
            return
        logger.info("proxy: tunnel to %s opened", requested)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pump(reader, target_writer), _pump(target_reader, writer))
        finally:
            target_writer.close()

    def _target(self, requested: str) -> tuple[str, int]:
        target = self._tunnels.get(requested.casefold())
        if target is None:
            known = ", ".join(sorted(self._tunnels))
            raise BadRequest("403 Forbidden", f"no tunnel to {requested[:200]!r}, only to {known}")
        return target


def parse_target(head: bytes) -> str:
    """The "host:port" of a CONNECT request; raises BadRequest.

    >>> parse_target(b"CONNECT 127.0.0.1:443 HTTP/1.1\\r\\n\\r\\n")
    '127.0.0.1:443'
    """
    method, _, rest = head.decode("latin-1").partition("\r\n")[0].partition(" ")
    target, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not target:
        raise BadRequest("400 Bad Request", "this is not an HTTP/1 request")
    if method != "CONNECT":
        raise BadRequest("405 Method Not Allowed", f"{method[:20]!r} is not supported, only CONNECT")
    return target


def error_response(status: str, text: str) -> bytes:
    """A complete HTTP error response."""
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
        raise ConnectionError("closed before the end of the head") from None
    except TimeoutError:
        raise BadRequest("408 Request Timeout", f"no complete head within {HEAD_WITHIN_S:g} s") from None


async def _connected(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(address, port)
    except OSError as error:
        raise BadRequest("502 Bad Gateway", f"{address}:{port} does not answer: {error}") from None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the reader ends; then close the writer."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    # TLS needs both directions, so closing one direction closes the connection
    writer.close()
