"""Hands a connection on, byte for byte. Needs the standard library only: it runs in an image, too."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

PIECE_BYTES = 65_536


async def relay(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    port: int,
    context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> None:
    """Connect to host:port, with TLS if there is a context, and copy both ways until one side ends."""
    with contextlib.suppress(OSError):
        there_reader, there = await asyncio.open_connection(
            host, port, ssl=context, server_hostname=server_hostname
        )
        copies = [asyncio.create_task(_copy(reader, there)), asyncio.create_task(_copy(there_reader, writer))]
        try:
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in copies:
                each.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
            there.close()
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
