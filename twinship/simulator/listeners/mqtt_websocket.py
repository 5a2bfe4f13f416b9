"""MQTT over WebSockets on the HTTPS ports of IoT Hub and of edge devices (ref 2.1, 4.11).

A WebSocket is a transport of MqttProtocol like a TLS connection: faults, keep-alive and back pressure are
the same. The MQTT packets may be cut into WebSocket messages in any way (MQTT-6.0.0-2).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from twinship.simulator.listeners.mqtt_listener import Listener
from twinship.simulator.listeners.mqtt_protocol import MqttProtocol
from twinship.simulator.listeners.websocket import ByteSocket, accept, offers

PATH: Final = "/$iothub/websocket"
SUBPROTOCOL: Final = "mqtt"
REFUSAL: Final = "offer the subprotocol mqtt: AMQP of devices and modules is not in this simulator\n"


def serve_mqtt(application: web.Application, listener: Listener) -> None:
    """Serve MQTT before the application asks for a token: its client puts one into CONNECT."""
    live: set[MqttProtocol] = set()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != PATH:
            return await handler(request)
        if not offers(request, SUBPROTOCOL):
            return web.Response(status=501, text=REFUSAL)
        response = await accept(request, SUBPROTOCOL)
        if request.transport is None:  # the client is gone
            return response
        protocol = listener.connection()
        socket = ByteSocket(request, response, protocol.pause_writing, protocol.resume_writing)
        live.add(protocol)
        try:
            protocol.connection_made(_Transport(socket))
            await socket.run(protocol.data_received, lambda: protocol.connection_lost(None))
        finally:
            live.discard(protocol)
        return response

    async def close_all(_application: web.Application) -> None:
        for protocol in list(live):
            protocol.close("the hub stops")

    application.middlewares.insert(0, middleware)
    application.on_shutdown.append(close_all)


class _Transport(asyncio.Transport):
    """The part of a transport that MqttProtocol uses, over one WebSocket."""

    def __init__(self, socket: ByteSocket) -> None:
        super().__init__()
        self.socket = socket

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.socket.tcp.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self.socket.closing or self.socket.tcp.is_closing()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.socket.write(bytes(data))

    def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        self.socket.close()
        self.socket.tcp.abort()

    def pause_reading(self) -> None:
        self.socket.may_read.clear()

    def resume_reading(self) -> None:
        self.socket.may_read.set()
