"""The HTTPS listeners of IoT Hub and of edge devices: on port 443, or behind an HTTP CONNECT proxy.

The device SDK always uses port 443, for direct methods and for MQTT over WebSockets, and honours a proxy
(ref 0). The proxy is for users who may not bind port 443.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from twinship.simulator.listeners.connect_proxy import ConnectProxy
from twinship.simulator.loopback import HTTPS_PORT, MQTT_PORT, AddressUnusable, explain
from twinship.simulator.store import Store

logger = logging.getLogger(__name__)

STOP_WITHIN_S: Final = 2.0
IDLE_S: Final = 75.0  # between two requests: an open connection takes 0.3 MB, and azure-iot-hub closes none
HUB: Final = "$hub"  # in place of an edge device: the proxy of IoT Hub


@dataclass(frozen=True)
class EdgeAddress:
    """The HTTPS port, and the URL of the proxy that modules need to reach it (None: no proxy)."""

    https_port: int
    proxy: str | None


@dataclass(frozen=True)
class HubAddress:
    """The HTTPS ports of IoT Hub, and the URL of the proxy for clients that need 443 (None: no proxy)."""

    ports: tuple[int, ...]
    proxy: str | None

    @property
    def default_port(self) -> bool:
        """Whether it has 443, so that a HostName needs no port."""
        return HTTPS_PORT in self.ports


async def serve_edge_https(
    application: web.Application,
    store: Store,
    *,
    device: str,
    address: str,
    context: ssl.SSLContext,
    running: contextlib.AsyncExitStack,
) -> EdgeAddress:
    """Serve until `running` ends; raises AddressUnusable."""
    runner = await _runner(application, running)
    try:
        await serve_port(runner, address, HTTPS_PORT, context)
        return EdgeAddress(HTTPS_PORT, None)
    except AddressUnusable as error:
        logger.info("direct methods of %s use a proxy: %s", device, error)
    await serve_port(runner, address, 0, context)
    port = int(runner.addresses[-1][1])
    return EdgeAddress(port, await _serve_proxy(store, device, address, port, running))


async def serve_hub_https(
    application: web.Application,
    store: Store,
    *,
    address: str,
    port: int,
    context: ssl.SSLContext,
    running: contextlib.AsyncExitStack,
) -> HubAddress:
    """Serve on `port`, and on 443 if this user may, until `running` ends; raises AddressUnusable."""
    runner = await _runner(application, running)
    await serve_port(runner, address, port, context)
    if port == HTTPS_PORT:
        return HubAddress((port,), None)
    try:
        await serve_port(runner, address, HTTPS_PORT, context)
        return HubAddress((port, HTTPS_PORT), None)
    except AddressUnusable as error:
        logger.info("service API on port %d only: %s", port, error)
    return HubAddress((port,), await _serve_proxy(store, HUB, address, port, running))


async def _runner(application: web.Application, running: contextlib.AsyncExitStack) -> web.AppRunner:
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=STOP_WITHIN_S, keepalive_timeout=IDLE_S
    )
    await runner.setup()
    running.push_async_callback(runner.cleanup)
    return runner


async def _serve_proxy(
    store: Store, name: str, address: str, port: int, running: contextlib.AsyncExitStack
) -> str:
    """A proxy that leads from port 443 to `port`; returns its URL."""
    proxy = ConnectProxy(
        {f"{address}:{HTTPS_PORT}": (address, port), f"{address}:{MQTT_PORT}": (address, MQTT_PORT)}
    )
    running.push_async_callback(proxy.close)
    return f"http://{address}:{await _listen(proxy, store, name, address)}"


async def serve_port(runner: web.AppRunner, address: str, port: int, context: ssl.SSLContext) -> None:
    """Add a TLS listener to a running application; raises AddressUnusable."""
    try:
        await web.TCPSite(runner, address, port, ssl_context=context).start()
    except OSError as error:
        raise AddressUnusable(explain(error, address, port)) from error


async def _listen(proxy: ConnectProxy, store: Store, name: str, address: str) -> int:
    """Use the port of the previous run: modules that outlive a killed hub have it in their environment."""
    previous = store.documents("proxy_port").get(name, 0)
    try:
        port = await proxy.start(address, previous)
    except OSError as error:
        logger.warning("the proxy gets another port than before: %s", explain(error, address, previous))
        port = await proxy.start(address, 0)
    if port != previous:
        store.put("proxy_port", name, port)
    return port
