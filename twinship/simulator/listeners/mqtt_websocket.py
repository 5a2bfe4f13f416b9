"""MQTT over WebSockets on the HTTPS ports of IoT Hub and of edge devices (ref 2.1, 4.11).

A WebSocket is a transport of MqttProtocol like a TLS connection: faults, keep-alive and back pressure are
the same. The MQTT packets may be cut into WebSocket messages in any way (MQTT-6.0.0-2).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, cast

from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler

from twinship.simulator.listeners.mqtt_listener import Listener
from twinship.simulator.listeners.mqtt_protocol import MAX_WAITING_BYTES, MqttProtocol
from twinship.simulator.mqtt.connection import MAX_PACKET_BYTES

PATH: Final = "/$iothub/websocket"
SUBPROTOCOL: Final = "mqtt"
CLOSE_WITHIN_S: Final = 2.0
REFUSAL: Final = "offer the subprotocol mqtt: AMQP of devices and modules is not in this simulator\n"


def serve_mqtt(application: web.Application, listener: Listener) -> None:
    """Serve MQTT before the application asks for a token: its client puts one into CONNECT."""
    live: set[MqttProtocol] = set()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != PATH:
            return await handler(request)
        offered = request.headers.get("Sec-WebSocket-Protocol", "").replace(" ", "").split(",")
        if SUBPROTOCOL not in offered:
            return web.Response(status=501, text=REFUSAL)
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            max_msg_size=2 * MAX_PACKET_BYTES,
            timeout=CLOSE_WITHIN_S,
            compress=False,
        )
        await socket.prepare(request)
        if request.transport is None:  # the client is gone
            return socket
        protocol = listener.connection()
        live.add(protocol)
        try:
            await _Transport(request, socket, protocol).run()
        finally:
            live.discard(protocol)
        return socket

    async def close_all(_application: web.Application) -> None:
        for protocol in list(live):
            protocol.close("the hub stops")

    application.middlewares.insert(0, middleware)
    application.on_shutdown.append(close_all)


class _Transport(asyncio.Transport):
    """The part of a transport that MqttProtocol uses, over one WebSocket."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, protocol: MqttProtocol) -> None:
        super().__init__()
        self._tcp = cast(asyncio.Transport, request.transport)
        self._socket = socket
        self._protocol = protocol
        self._to_send: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting_bytes = 0
        self._writing_paused = self._closing = False
        self._abort: asyncio.TimerHandle | None = None
        self._may_read = asyncio.Event()
        self._may_read.set()

    async def run(self) -> None:
        """Serve until one side ends."""
        self._protocol.connection_made(self)
        sending = asyncio.ensure_future(self._send())
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:  # MQTT-6.0.0-1
                    break
                self._protocol.data_received(message.data)
                await self._may_read.wait()
        finally:
            self.close()
            self._protocol.connection_lost(None)
            with contextlib.suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(sending, CLOSE_WITHIN_S)
            if self._abort is not None:
                self._abort.cancel()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tcp.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing or self._tcp.is_closing()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self.is_closing():
            return
        self._to_send.put_nowait(bytes(data))
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_WAITING_BYTES and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._to_send.put_nowait(None)
            # a client that reads nothing must not keep its connection
            self._abort = asyncio.get_running_loop().call_later(CLOSE_WITHIN_S, self._tcp.abort)

    def abort(self) -> None:
        self.close()
        self._tcp.abort()

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    async def _send(self) -> None:
        try:
            while (data := await self._to_send.get()) is not None:
                await self._socket.send_bytes(data)
                self._waiting_bytes -= len(data)
                if self._writing_paused and self._waiting_bytes <= MAX_WAITING_BYTES // 2:
                    self._writing_paused = False
                    self._protocol.resume_writing()
            await self._socket.close()
        finally:
            self._may_read.set()
