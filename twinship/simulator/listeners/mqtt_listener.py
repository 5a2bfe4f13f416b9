"""One MQTT port of an edge device, or of IoT Hub (gateway None): its socket and its connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from typing import Final

from twinship.simulator.clock import Clock
from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.faults.faults import BLACK_HOLE, Faults
from twinship.simulator.listeners.mqtt_protocol import MqttProtocol
from twinship.simulator.loopback import AddressUnusable, check_loopback, explain

BACKLOG: Final = 100
HANDSHAKE_S: Final = 10.0
SHUTDOWN_S: Final = 1.0  # how long a close waits for the client's close_notify


class Listener:
    """A TLS listener. During the fault "black-hole" only the kernel accepts connections.

    `connection()` makes one, which ends and shows the faults like the others.
    """

    def __init__(
        self, edge_hub: EdgeHub, clock: Clock, *, gateway: str | None, context: ssl.SSLContext, faults: Faults
    ) -> None:
        self._connections: set[MqttProtocol] = set()
        self.connection = partial(MqttProtocol, edge_hub, clock, gateway, faults, self._connections)
        self._context = context
        self._faults = faults
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._resuming: asyncio.Task[None] | None = None

    async def open(self, address: str, port: int) -> None:
        """Listen on a loopback address. Raises AddressUnusable."""
        check_loopback(address)
        try:
            self._socket = socket.create_server((address, port), backlog=BACKLOG)
            await self._accept(self._socket)
        except OSError as error:
            raise AddressUnusable(explain(error, address, port)) from error
        self._faults.on_change.append(self._faults_changed)

    def close(self) -> None:
        """Stop listening."""
        self._pause()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def drop_connections(self) -> None:
        """Reset every connection."""
        for connection in list(self._connections):
            connection.drop()

    def carried(self) -> dict[str, list[int]]:
        """For each connected client: bytes from it and to it inside TLS since its connection began."""
        return {connection.name: list(connection.carried) for connection in self._connections}

    async def _accept(self, listening: socket.socket) -> None:
        # asyncio closes its own duplicate of the socket when it stops; the kernel goes on accepting
        self._server = await asyncio.get_running_loop().create_server(
            self.connection,
            sock=listening.dup(),
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )

    def _pause(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _faults_changed(self) -> None:
        for connection in list(self._connections):
            connection.faults_changed()
        if self._faults.value(BLACK_HOLE):
            self._pause()
        elif self._server is None and self._resuming is None:
            self._resuming = asyncio.get_running_loop().create_task(self._resume(), name="accept again")

    async def _resume(self) -> None:
        if self._socket is not None:
            await self._accept(self._socket)
        self._resuming = None
        if self._faults.value(BLACK_HOLE):
            self._pause()
