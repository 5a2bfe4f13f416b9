"""The HTTPS ports: a connection may stay open between two requests, but not for ever."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
from aiohttp import web

from twinship.simulator.certificates import Authority
from twinship.simulator.listeners import https

ADDRESS = "127.77.2.11"
WITHIN_S = 15.0
REQUEST = f"GET / HTTP/1.1\r\nHost: {ADDRESS}\r\n\r\n".encode()


def test_a_connection_without_requests_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests share a connection; after them the server ends it, though the client does not."""
    monkeypatch.setattr(https, "IDLE_S", 0.2)

    async def respond(_request: web.Request) -> web.Response:
        return web.Response(text="here")

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), contextlib.AsyncExitStack() as running:
            application = web.Application()
            application.router.add_get("/", respond)
            authority = Authority.create()
            runner = await https._runner(application, running)
            await https.serve_port(runner, ADDRESS, 0, authority.server_context([ADDRESS]))
            trusted = ssl.create_default_context(cadata=authority.ca_pem)
            reader, writer = await asyncio.open_connection(
                ADDRESS, runner.addresses[0][1], ssl=trusted, server_hostname=ADDRESS
            )
            for _ in range(2):
                writer.write(REQUEST)
                assert b"200 OK" in await reader.readuntil(b"here")
            assert await reader.read() == b""
            writer.close()

    asyncio.run(main())
