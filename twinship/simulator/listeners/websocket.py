"""Bytes over one WebSocket: what MQTT and AMQP share where only HTTPS gets through (ref 2.1, 5.5)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, cast

from aiohttp import WSMsgType, web

MAX_MESSAGE_BYTES: Final = 524_288  # of a client's WebSocket message
MAX_WAITING_BYTES: Final = 65_536  # above this the client takes too little
CLOSE_WITHIN_S: Final = 2.0
_PIECE_BYTES: Final = 65_536  # of a WebSocket message to the client; both protocols may be cut anywhere


def offers(request: web.Request, subprotocol: str) -> bool:
    """Whether the client offers this subprotocol."""
    return subprotocol in request.headers.get("Sec-WebSocket-Protocol", "").replace(" ", "").split(",")


async def accept(request: web.Request, subprotocol: str) -> web.WebSocketResponse:
    """Answer the client's upgrade. If it is gone by then, `request.transport` is None."""
    response = web.WebSocketResponse(
        protocols=(subprotocol,), max_msg_size=MAX_MESSAGE_BYTES, timeout=CLOSE_WITHIN_S, compress=False
    )
    await response.prepare(request)
    return response


class ByteSocket:
    """Sends and receives bytes. `pause` is called when the client takes too little, then `resume`."""

    def __init__(
        self,
        request: web.Request,
        response: web.WebSocketResponse,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self.tcp = cast(asyncio.Transport, request.transport)
        self.may_read = asyncio.Event()  # cleared: nothing is read from the client
        self.may_read.set()
        self.waiting_bytes = 0
        self.closing = False
        self._response = response
        self._pause, self._resume = pause, resume
        self._paused = False
        self._to_send: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._abort: asyncio.TimerHandle | None = None

    async def run(self, received: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        """Serve until one side ends."""
        sending = asyncio.ensure_future(self._send())
        try:
            async for message in self._response:
                if message.type is not WSMsgType.BINARY:
                    break
                received(message.data)
                await self.may_read.wait()
        finally:
            self.close()
            ended()
            with contextlib.suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(sending, CLOSE_WITHIN_S)
            if self._abort is not None:
                self._abort.cancel()

    def write(self, data: bytes) -> None:
        """Send bytes after those that wait; nothing after close()."""
        if self.closing or self.tcp.is_closing():
            return
        self._to_send.put_nowait(data)
        self.waiting_bytes += len(data)
        if self.waiting_bytes > MAX_WAITING_BYTES and not self._paused:
            self._paused = True
            self._pause()

    def close(self) -> None:
        """Close the WebSocket after the bytes that wait."""
        if not self.closing:
            self.closing = True
            self._to_send.put_nowait(None)
            # a client that reads nothing must not keep its connection
            self._abort = asyncio.get_running_loop().call_later(CLOSE_WITHIN_S, self.tcp.abort)

    async def _send(self) -> None:
        try:
            while (data := await self._to_send.get()) is not None:
                for at in range(0, len(data), _PIECE_BYTES):
                    await self._response.send_bytes(data[at : at + _PIECE_BYTES])
                self.waiting_bytes -= len(data)
                if self._paused and self.waiting_bytes <= MAX_WAITING_BYTES // 2:
                    self._paused = False
                    self._resume()
            await self._response.close()
        finally:
            self.may_read.set()
