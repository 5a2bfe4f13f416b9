"""One MQTT port, an edge device's or IoT Hub's (None): its socket, its connections, the faults of both."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from functools import partial

from twinship.simulator.clock import Clock
from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.faults.faults import BLACK_HOLE, Faults
from twinship.simulator.listeners.mqtt_protocol import (
    AddressUnusable,
    MqttProtocol,
    check_loopback,
    explain,
    serve,
)

logger = logging.getLogger(__name__)

BACKLOG = 100


class Listener:
    """`await open()` first. While it is a black hole the kernel accepts, and nobody else."""

    def __init__(
        self, edge_hub: EdgeHub, clock: Clock, *, gateway: str | None, context: ssl.SSLContext, faults: Faults
    ) -> None:
        self._connections: set[MqttProtocol] = set()
        self._connection = partial(MqttProtocol, edge_hub, clock, gateway, faults, self._connections)
        self._context = context
        self._faults = faults
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._follows: asyncio.Task[None] | None = None

    async def open(self, address: str, port: int) -> None:
        """Listen. Loopback only. Raises AddressUnusable."""
        check_loopback(address)
        try:
            self._socket = socket.create_server((address, port), backlog=BACKLOG)
            await self._accept(self._socket)
        except OSError as error:
            raise AddressUnusable(explain(error, address, port)) from error
        self._faults.on_change.append(self._changed)

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
        """For each client on the line: bytes from it and to it, inside TLS, since its connection began."""
        return {connection.name: list(connection.carried) for connection in self._connections}

    async def _accept(self, listening: socket.socket) -> None:
        # a second handle on the same socket: asyncio closes it when it stops, the kernel goes on accepting
        self._server = await serve(self._connection, listening.dup(), self._context)

    def _pause(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _changed(self) -> None:
        for connection in list(self._connections):
            connection.faults_changed()
        if self._faults.value(BLACK_HOLE):
            self._pause()
        elif self._server is None and self._follows is None:
            self._follows = asyncio.get_running_loop().create_task(self._resume(), name="accept again")

    async def _resume(self) -> None:
        if self._socket is not None:
            await self._accept(self._socket)
        self._follows = None
        if self._faults.value(BLACK_HOLE):
            self._pause()
