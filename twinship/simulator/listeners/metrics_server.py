"""Serves the metrics pages over plain HTTP on each edge device's loopback address, as edgeHub does (ref 9).

GET /metrics             edgeHub's page
GET /edgeAgent/metrics   edgeAgent's page; on a device it has a container and a port 9600 of its own
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from twinship.simulator.metrics import Metrics

logger = logging.getLogger(__name__)

PORT: Final = 9600  # ref 9; a random port if it is taken
STOP_WITHIN_S: Final = 1.0


async def serve_metrics(
    metrics: Metrics, edges: Mapping[str, str], running: AsyncExitStack
) -> dict[str, dict[str, str]]:
    """Serve until `running` ends; returns the URLs by edge device and runtime module.

    The hub starts without metrics too: a device without a listener is named in the log.
    """
    urls = {}
    for device, address in edges.items():
        runner = web.AppRunner(_application(metrics, device), access_log=None, shutdown_timeout=STOP_WITHIN_S)
        await runner.setup()
        running.push_async_callback(runner.cleanup)
        if (port := await _listen(runner, address)) is not None:
            base = f"http://{address}:{port}"
            urls[device] = {"edgeHub": f"{base}/metrics", "edgeAgent": f"{base}/edgeAgent/metrics"}
    return urls


async def _listen(runner: web.AppRunner, address: str) -> int | None:
    for port in (PORT, 0):
        try:
            await web.TCPSite(runner, address, port).start()
        except OSError as error:
            logger.info("no metrics on %s:%d: %s", address, port, error.strerror or error)
        else:
            return int(runner.addresses[0][1])
    return None


def _application(metrics: Metrics, device: str) -> web.Application:
    application = web.Application()
    application.router.add_get("/metrics", _page(partial(metrics.edge_hub, device)))
    application.router.add_get("/edgeAgent/metrics", _page(partial(metrics.edge_agent, device)))
    return application


def _page(render: Callable[[], bytes]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def respond(_request: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return respond
