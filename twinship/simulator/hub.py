"""The hub process: IoT Hub and edgeHub of one simulator, all sockets and all state.

    python -m twinship.simulator.hub --folder DIR --hub-address IP --edge DEVICE=IP [--edge ...]

Entry and wiring only. Of the environment it reads what edgeHub reads (MessageAckTimeoutSecs,
MaxConnectedClients). When endpoints.json names its pid, everything listens. Ends with 0 on SIGTERM or SIGINT,
else with one line on stderr and 1.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import fcntl
import gc
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from twinship.simulator.certificates import Authority, write_private
from twinship.simulator.clock import LoopClock
from twinship.simulator.edge_hub.configuration import EdgeConfiguration
from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.faults.control import control_path, serve_control
from twinship.simulator.faults.faults import DROP_CONNECTIONS, RESTART_HUB, Faults
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.listeners.https import (
    HTTPS_PORT,
    STOP_WITHIN_S,
    EdgeAddress,
    serve_edge_https,
    serve_port,
)
from twinship.simulator.listeners.metrics_server import serve_metrics
from twinship.simulator.listeners.model_files import ModelFiles, serve_model_files
from twinship.simulator.listeners.mqtt_listener import Listener
from twinship.simulator.listeners.mqtt_protocol import MQTT_PORT, AddressUnusable, check_loopback
from twinship.simulator.metrics import Metrics
from twinship.simulator.service_api.app import service_api
from twinship.simulator.service_api.module_methods import edge_https
from twinship.simulator.store import DURABILITIES, StorageFailed, Store, StoreUnusable
from twinship.simulator.workload.sockets import WorkloadSockets
from twinship.simulator.workload.workload import SocketFolderError, socket_folder

logger = logging.getLogger(__name__)

POLICY: Final = "iothubowner"
KILL_AFTER_S: Final = 0.05


class HubError(Exception):
    """The hub cannot start; one line with the cure."""


@dataclass(frozen=True)
class HubOptions:
    """One hub's command line."""

    folder: Path
    hub_address: str
    edges: Mapping[str, str]  # edge device -> its address
    rest_port: int
    durability: str
    upstream: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; returns the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    parsed = _parser().parse_args(arguments)
    try:
        options, settings = _options(parsed), _settings(parsed, os.environ)
        with _alone_in(options.folder):
            return asyncio.run(run(options, settings))
    except (HubError, AddressUnusable, StoreUnusable, SocketFolderError) as error:
        sys.stderr.write(f"hub: {error}\n")
        return 1


async def run(options: HubOptions, settings: EdgeHubSettings) -> int:
    """Start everything, wait for a signal or a storage failure, stop everything."""
    stop = asyncio.Event()
    status = 0

    def storage_failed(error: StorageFailed) -> None:
        nonlocal status
        status = 1
        logger.critical("storage failed, the hub ends and acknowledges nothing more: %s", error)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as running:
        await _start(options, settings, running, storage_failed)
        # What lives as long as the process need not be looked at by each full collection: that is a pause of
        # some ten milliseconds in the middle of the frames.
        gc.collect()
        gc.freeze()
        await stop.wait()
    return status


async def _start(
    options: HubOptions,
    settings: EdgeHubSettings,
    running: contextlib.AsyncExitStack,
    storage_failed: Callable[[StorageFailed], None],
) -> None:
    """Open everything, in the order in which each part needs the others; endpoints.json last."""
    store = Store(options.folder / "hub.sqlite", options.durability)
    store.on_failure = storage_failed
    running.push_async_callback(store.close)
    registry = Registry(store, options.hub_address, time.time)
    authority = Authority.open(options.folder, datetime.now(UTC))
    clock, faults = LoopClock(asyncio.get_running_loop()), Faults()
    edge_hub = EdgeHub(
        registry,
        clock,
        gateways=options.edges,
        upstream_path=options.upstream,
        settings=settings,
        faults=faults,
    )
    running.callback(edge_hub.close)
    _enrol(registry, edge_hub, options)
    reached: dict[str, EdgeAddress] = {}
    listeners = []
    for device, address in ((None, options.hub_address), *options.edges.items()):
        context = authority.server_context([address])
        if device is not None:
            methods = edge_https(registry, edge_hub, gateway=device, edges=options.edges)
            reached[device] = await serve_edge_https(
                methods, store, device=device, address=address, context=context, running=running
            )
        listener = Listener(edge_hub, clock, gateway=device, context=context, faults=faults)
        await listener.open(address, MQTT_PORT)
        running.callback(listener.close)
        listeners.append(listener)
    await _serve_control(options, edge_hub, faults, listeners, running)
    sockets = WorkloadSockets(
        registry, socket_folder(options.folder), options.edges, trust_bundle=authority.ca_pem
    )
    await sockets.start()
    running.push_async_callback(sockets.close)
    key = _policy_key(store)
    rest_ports = await _serve_rest(options, registry, edge_hub, authority, key, running)
    metrics = await serve_metrics(Metrics(registry, edge_hub, options.folder), options.edges, running)
    files = await serve_model_files(
        options.folder.resolve() / "model-files", options.hub_address, store, datetime.now(UTC), running
    )
    _write_files(options, key, rest_ports, reached, metrics, files, running)


def _enrol(registry: Registry, edge_hub: EdgeHub, options: HubOptions) -> None:
    configuration = EdgeConfiguration(registry, edge_hub, options.edges)
    configuration.start()
    registry.on_desired.append(configuration.desired_changed)
    registry.on_desired.append(edge_hub.desired_changed)
    registry.on_revoked.append(edge_hub.revoke)
    registry.on_removed.append(edge_hub.remove)


async def _serve_control(
    options: HubOptions,
    edge_hub: EdgeHub,
    faults: Faults,
    listeners: Sequence[Listener],
    running: contextlib.AsyncExitStack,
) -> None:
    def drop_connections() -> None:
        for listener in listeners:
            listener.drop_connections()

    def kill() -> None:  # whoever asked for it is answered before
        asyncio.get_running_loop().call_later(KILL_AFTER_S, os.kill, os.getpid(), signal.SIGKILL)

    def counters() -> dict[str, Any]:
        carried: dict[str, list[int]] = {}
        for listener in listeners:
            carried |= listener.carried()
        return {**edge_hub.counters(), "carried": carried}

    acts = {DROP_CONNECTIONS: drop_connections, RESTART_HUB: kill}
    runner = await serve_control(socket_folder(options.folder), faults, acts, counters)
    running.push_async_callback(runner.cleanup)


async def _serve_rest(
    options: HubOptions,
    registry: Registry,
    edge_hub: EdgeHub,
    authority: Authority,
    key: str,
    running: contextlib.AsyncExitStack,
) -> list[int]:
    """Serve the service's API; returns the ports: 443 is one of them where this user may have it."""
    application = service_api(registry, edge_hub, {POLICY: [key]})
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_WITHIN_S)
    await runner.setup()
    running.push_async_callback(runner.cleanup)
    context = authority.server_context([options.hub_address])
    await serve_port(runner, options.hub_address, options.rest_port, context)
    ports = [options.rest_port]
    if options.rest_port != HTTPS_PORT:
        try:
            await serve_port(runner, options.hub_address, HTTPS_PORT, context)
            ports.append(HTTPS_PORT)
        except AddressUnusable as error:
            logger.info("REST on port %d only: %s", options.rest_port, error)
    return ports


def _policy_key(store: Store) -> str:
    """The service policy's key: made once, so that a connection string stays good over a restart."""
    kept = store.documents("policy")
    if POLICY not in kept:
        kept[POLICY] = base64.b64encode(secrets.token_bytes(32)).decode("ascii")
        store.put("policy", POLICY, kept[POLICY])
    return str(kept[POLICY])


def _write_files(
    options: HubOptions,
    key: str,
    rest_ports: Sequence[int],
    reached: Mapping[str, EdgeAddress],
    metrics: Mapping[str, Mapping[str, str]],
    files: ModelFiles,
    running: contextlib.AsyncExitStack,
) -> None:
    """service.env, then endpoints.json, whole or not at all: whoever sees it finds everything else."""
    folder, hub = options.folder, options.hub_address
    connection_string = (
        f"HostName={hub}:{options.rest_port};SharedAccessKeyName={POLICY};SharedAccessKey={key}"
    )
    write_private(
        folder / "service.env",
        f"IOTHUB_CONNECTION_STRING={connection_string}\nREQUESTS_CA_BUNDLE={folder.resolve() / 'ca.pem'}\n"
        f"MODEL_STORE_FOLDER={files.folder}\nMODEL_STORE_URL={files.url}\n",
    )
    endpoints = {
        "pid": os.getpid(),
        "hub_name": hub,
        "hub_address": hub,
        "rest_ports": list(rest_ports),
        "mqtt_port": MQTT_PORT,
        "edges": dict(options.edges),
        "https_ports": {device: each.https_port for device, each in reached.items()},
        "proxies": {device: each.proxy for device, each in reached.items() if each.proxy is not None},
        "metrics": {device: dict(urls) for device, urls in metrics.items()},
        "socket_folder": str(socket_folder(folder)),
        "model_files": {"url": files.url, "trusted_pem": str(files.trusted_pem)},
        "control": str(control_path(socket_folder(folder))),
        "upstream": str(options.upstream),
    }
    write_private(folder / "endpoints.json", json.dumps(endpoints, indent=1) + "\n")
    running.callback((folder / "endpoints.json").unlink, missing_ok=True)
    logger.info("ready: hub %s, edges %s", hub, ", ".join(f"{d}={a}" for d, a in options.edges.items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twinship.simulator.hub", description="IoT Hub and edgeHub, locally."
    )
    parser.add_argument("--folder", type=Path, required=True, help="state and files of this simulator")
    parser.add_argument("--hub-address", required=True, metavar="IP", help="loopback address of IoT Hub")
    parser.add_argument("--edge", action="append", required=True, metavar="DEVICE=IP", help="an edge device")
    parser.add_argument("--rest-port", type=int, default=8443)
    parser.add_argument("--delivery-window", type=int, default=1, help="messages under way to one module")
    parser.add_argument(
        "--durability", choices=DURABILITIES, default="normal", help="full outlives power loss"
    )
    parser.add_argument("--upstream", type=Path, help="default: upstream.jsonl in the folder")
    parser.add_argument("--hop-delay-ms", type=float, default=0.0, help="added to each delivery to a module")
    return parser


def _options(parsed: argparse.Namespace) -> HubOptions:
    """Raises HubError or AddressUnusable."""
    edges = dict(_edge(text) for text in parsed.edge)
    if len({parsed.hub_address, *edges.values()}) <= len(edges):
        raise HubError(
            "the hub and each edge device need an address of their own: IoT Hub answers unlike edgeHub"
        )
    for address in (parsed.hub_address, *edges.values()):
        check_loopback(address)
    parsed.folder.mkdir(parents=True, exist_ok=True)
    return HubOptions(
        folder=parsed.folder,
        hub_address=parsed.hub_address,
        edges=edges,
        rest_port=parsed.rest_port,
        durability=parsed.durability,
        upstream=parsed.upstream or parsed.folder / "upstream.jsonl",
    )


def _edge(text: str) -> tuple[str, str]:
    device, equals, address = text.rpartition("=")
    if not equals or not device:
        raise HubError(f"--edge {text!r} is not DEVICE=IP")
    return device, address


def _settings(parsed: argparse.Namespace, environment: Mapping[str, str]) -> EdgeHubSettings:
    if parsed.delivery_window < 1 or parsed.hop_delay_ms < 0:
        raise HubError("--delivery-window is at least 1 and --hop-delay-ms at least 0")
    default = EdgeHubSettings()
    return EdgeHubSettings(
        message_ack_timeout_s=_number(environment, "MessageAckTimeoutSecs", default.message_ack_timeout_s),
        max_connected_clients=int(_number(environment, "MaxConnectedClients", default.max_connected_clients)),
        delivery_window=parsed.delivery_window,
        hop_delay_s=parsed.hop_delay_ms / 1000,
    )


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise HubError(f"environment variable {name} is {text[:40]!r}, not a whole number above 0")
    return int(text)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder; the system lets go of it however this process ends. Raises HubError."""
    with (folder / "hub.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HubError(f"another hub runs in {folder}; stop it or choose another --folder") from None
        yield


if __name__ == "__main__":
    sys.exit(main())
