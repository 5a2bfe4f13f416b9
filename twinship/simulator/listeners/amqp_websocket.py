"""AMQP over WebSockets on the HTTPS port of IoT Hub: paths and subprotocol as at Azure (ref 5.5, 6)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler, Middleware

from twinship.simulator.amqp.frames import MAX_FRAME_BYTES
from twinship.simulator.listeners.amqp_listener import MAX_WAITING_BYTES, PeerDriver, Peers

logger = logging.getLogger(__name__)

PATHS: Final = ("/$iothub/websocket", "/$servicebus/websocket")
SUBPROTOCOL: Final = "AMQPWSB10"
CLOSE_WITHIN_S: Final = 2.0


def amqp_over_websockets(peers: Peers) -> Middleware:
    """Serve AMQP to requests for its subprotocol before the API asks for a token: a client puts one later."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        offered = request.headers.get("Sec-WebSocket-Protocol", "").replace(" ", "").split(",")
        if request.path.rstrip("/") not in PATHS or SUBPROTOCOL not in offered:
            return await handler(request)
        if not peers.room():
            return web.Response(status=503, text="too many AMQP connections are open\n")
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,), max_msg_size=MAX_WAITING_BYTES, timeout=CLOSE_WITHIN_S
        )
        await socket.prepare(request)
        await _WebSocketDriver(peers, f"{request.remote} (WebSocket)", socket).run()
        return socket

    return middleware


class _WebSocketDriver(PeerDriver):
    def __init__(self, peers: Peers, name: str, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._to_send: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting_bytes = 0
        self._may_read = asyncio.Event()
        self._may_read.set()
        super().__init__(peers, name)

    def write(self, data: bytes) -> None:
        self._to_send.put_nowait(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self.paused = True
            self._may_read.clear()

    def shut(self) -> None:
        self._to_send.put_nowait(None)

    async def run(self) -> None:
        """Serve until one side ends."""
        sending = asyncio.ensure_future(self._send())
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:
                    break
                self.received(message.data)
                await self._may_read.wait()
        finally:
            self.ended()
            self.shut()
            with contextlib.suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(sending, CLOSE_WITHIN_S)

    async def _send(self) -> None:
        try:
            while (data := await self._to_send.get()) is not None:
                for at in range(0, len(data), MAX_FRAME_BYTES):
                    await self._socket.send_bytes(data[at : at + MAX_FRAME_BYTES])
                self._waiting_bytes -= len(data)
                if self.paused and self._waiting_bytes <= MAX_WAITING_BYTES // 2:
                    self.paused = False
                    self._may_read.set()
                    self.wake()
            await self._socket.close()
        finally:
            self._may_read.set()
