"""AMQP over WebSockets on the HTTPS port of IoT Hub: paths and subprotocol as at Azure (ref 5.5, 6)."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from twinship.simulator.listeners.amqp_listener import PeerDriver, Peers
from twinship.simulator.listeners.websocket import ByteSocket, accept, offers

PATHS: Final = ("/$iothub/websocket", "/$servicebus/websocket")
SUBPROTOCOL: Final = "AMQPWSB10"


def amqp_over_websockets(peers: Peers) -> Middleware:
    """Serve AMQP to requests for its subprotocol before the API asks for a token: a client puts one later."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.rstrip("/") not in PATHS or not offers(request, SUBPROTOCOL):
            return await handler(request)
        if not peers.room():
            return web.Response(status=503, text="too many AMQP connections are open\n")
        response = await accept(request, SUBPROTOCOL)
        if request.transport is None:  # the client is gone
            return response

        def pause() -> None:
            """The client takes too little: nothing is read from it, and no event is sent."""
            driver.pause()
            socket.may_read.clear()

        def resume() -> None:
            socket.may_read.set()
            driver.resume()

        socket = ByteSocket(request, response, pause, resume)
        driver = PeerDriver(peers, f"{request.remote} (WebSocket)", socket.write, socket.close)
        await socket.run(driver.received, driver.ended)
        return response

    return middleware
