"""The hub process: IoT Hub and edgeHub of one simulator, with all their sockets and state.

    python -m twinship.simulator.hub --folder DIR --hub-address IP --edge DEVICE=IP [--edge ...]

The hub is ready when endpoints.json in the folder contains its pid. It exits with 0 after SIGTERM or SIGINT,
otherwise with 1 and one line on stderr.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import gc
import json
import logging
import os
import resource
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from twinship.simulator import hub_options
from twinship.simulator.amqp.peer import ENTITY, Service
from twinship.simulator.certificates import Authority
from twinship.simulator.clock import LoopClock
from twinship.simulator.common import allocator, log_lines
from twinship.simulator.common.private_files import open_private, write_private
from twinship.simulator.edge_hub.configuration import EdgeConfiguration
from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.faults.control import control_path, serve_control
from twinship.simulator.faults.faults import DROP_CONNECTIONS, RESTART_HUB, Faults
from twinship.simulator.hub_options import HubError, HubOptions
from twinship.simulator.iot_hub.event_log import EventLog
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.listeners.amqp_listener import AMQP_PORT, AMQPS_PORT, Peers, serve_amqp
from twinship.simulator.listeners.amqp_websocket import amqp_over_websockets
from twinship.simulator.listeners.https import EdgeAddress, HubAddress, serve_edge_https, serve_hub_https
from twinship.simulator.listeners.metrics_server import serve_metrics
from twinship.simulator.listeners.model_files import ModelFiles, serve_model_files
from twinship.simulator.listeners.mqtt_listener import Listener
from twinship.simulator.listeners.mqtt_websocket import serve_mqtt
from twinship.simulator.loopback import MQTT_PORT, AddressUnusable
from twinship.simulator.metrics import Metrics
from twinship.simulator.service_api.app import service_api
from twinship.simulator.service_api.module_methods import edge_https
from twinship.simulator.store import StorageFailed, Store, StoreUnusable
from twinship.simulator.workload.sockets import WorkloadSockets
from twinship.simulator.workload.workload import SocketFolderError, remove_socket_folder, socket_folder

logger = logging.getLogger(__name__)

POLICY: Final = "iothubowner"
KILL_AFTER_S: Final = 0.05
MAX_DESCRIPTORS: Final = 65_536


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    _allow_many_connections()
    allocator.give_back_large_blocks()
    log_lines.configure()
    try:
        options, settings = hub_options.parse(arguments)
        with _locked(options.folder):
            return asyncio.run(run(options, settings))
    except (HubError, AddressUnusable, StoreUnusable, StorageFailed, SocketFolderError, OSError) as error:
        sys.stderr.write(f"hub: {log_lines.printable(str(error))}\n")
        return 1


def _allow_many_connections() -> None:
    """Use as many descriptors as this user may: idle connections of one program must not block the others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def run(options: HubOptions, settings: EdgeHubSettings) -> int:
    """Start everything, wait for a signal or a storage failure, stop everything."""
    stop = asyncio.Event()
    status = 0

    def storage_failed(error: StorageFailed) -> None:
        nonlocal status
        status = 1
        logger.critical("storage failed; the hub stops and acknowledges no more messages: %s", error)
        stop.set()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_failure)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with contextlib.AsyncExitStack() as running:
            await _Hub(options, settings, running, storage_failed).start()
            # Without this, a full collection visits all long-lived objects and takes about 10 ms.
            gc.collect()
            gc.freeze()
            await stop.wait()
    except StorageFailed:  # storage_failed() has logged it
        return 1
    return status


def _log_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback failed. After a storage failure they all do, and storage_failed() has logged the reason."""
    if not isinstance(context.get("exception"), StorageFailed):
        loop.default_exception_handler(context)


class _Hub:
    """Starts each service in the order in which they need each other; `running` stops them in reverse."""

    def __init__(
        self,
        options: HubOptions,
        settings: EdgeHubSettings,
        running: contextlib.AsyncExitStack,
        storage_failed: Callable[[StorageFailed], None],
    ) -> None:
        self._options = options
        self._running = running
        self._store = Store(options.folder / "hub.sqlite", options.durability)
        self._store.on_failure = storage_failed
        running.push_async_callback(self._store.close)
        self._registry = Registry(self._store, options.hub_address, time.time)
        self._authority = Authority.open(options.folder, datetime.now(UTC))
        self._clock, self._faults = LoopClock(asyncio.get_running_loop()), Faults()
        self._edge_hub = EdgeHub(
            self._registry,
            self._clock,
            gateways=options.edges,
            upstream_path=options.upstream,
            settings=settings,
            faults=self._faults,
            events=EventLog(self._store, self._clock, retention_s=options.retention_s),
        )
        running.callback(self._edge_hub.close)
        self._sockets = socket_folder(options.folder)
        running.callback(remove_socket_folder, self._sockets)
        self._listeners: list[Listener] = []

    async def start(self) -> None:
        """Open everything; endpoints.json comes last."""
        options, running = self._options, self._running
        self._subscribe_to_registry()
        edges = {}
        at_hub = await self._listen(None, options.hub_address)
        for device, address in options.edges.items():
            at_edge = await self._listen(device, address)
            edges[device] = await self._serve_edge_https(device, address, at_edge)
        await self._serve_control()
        workload = WorkloadSockets(
            self._registry, self._sockets, options.edges, trust_bundle=self._authority.ca_pem
        )
        await workload.start()
        running.push_async_callback(workload.close)
        key = _policy_key(self._store)
        peers = self._amqp_peers(key)
        rest = await self._serve_rest(key, peers, at_hub)
        amqp_ports = await self._serve_amqp(peers)
        pages = Metrics(self._registry, self._edge_hub, options.folder)
        metrics = await serve_metrics(pages, options.edges, running)
        files = await serve_model_files(
            options.folder.resolve() / "model-files",
            options.hub_address,
            self._store,
            datetime.now(UTC),
            running,
        )
        self._write_service_env(key, files, rest, amqp_ports)
        self._write_endpoints(rest, amqp_ports, edges, metrics, files)

    def _subscribe_to_registry(self) -> None:
        registry, edge_hub = self._registry, self._edge_hub
        configuration = EdgeConfiguration(registry, edge_hub, self._options.edges)
        configuration.start()
        registry.on_desired.append(configuration.desired_changed)
        registry.on_desired.append(edge_hub.desired_changed)
        if self._options.twin_change_events:
            registry.on_change.append(edge_hub.twin_changed)
        registry.on_revoked.append(edge_hub.revoke)
        registry.on_removed.append(edge_hub.remove)

    async def _listen(self, device: str | None, address: str) -> Listener:
        """Serve MQTT of an edge device, or of IoT Hub (None)."""
        context = self._authority.server_context([address])
        listener = Listener(self._edge_hub, self._clock, gateway=device, context=context, faults=self._faults)
        await listener.open(address, MQTT_PORT)
        self._running.callback(listener.close)
        self._listeners.append(listener)
        return listener

    async def _serve_edge_https(self, device: str, address: str, mqtt: Listener) -> EdgeAddress:
        application = edge_https(self._registry, self._edge_hub, gateway=device, edges=self._options.edges)
        serve_mqtt(application, mqtt)
        return await serve_edge_https(
            application,
            self._store,
            device=device,
            address=address,
            context=self._authority.server_context([address]),
            running=self._running,
        )

    async def _serve_control(self) -> None:
        def drop_connections() -> None:
            for listener in self._listeners:
                listener.drop_connections()

        def kill() -> None:  # delayed, so that the caller gets its answer
            asyncio.get_running_loop().call_later(KILL_AFTER_S, os.kill, os.getpid(), signal.SIGKILL)

        def counters() -> dict[str, Any]:
            carried: dict[str, list[int]] = {}
            for listener in self._listeners:
                carried |= listener.carried()
            return {**self._edge_hub.counters(), "carried": carried}

        acts = {DROP_CONNECTIONS: drop_connections, RESTART_HUB: kill}
        runner = await serve_control(self._sockets, self._faults, acts, counters)
        self._running.push_async_callback(runner.cleanup)

    async def _serve_rest(self, key: str, peers: Peers, mqtt: Listener) -> HubAddress:
        """Serve the service API, and MQTT and AMQP over WebSockets."""
        options = self._options
        application = service_api(self._registry, self._edge_hub, {POLICY: [key]})
        serve_mqtt(application, mqtt)
        application.middlewares.insert(0, amqp_over_websockets(peers))  # first: they share a path
        return await serve_hub_https(
            application,
            self._store,
            address=options.hub_address,
            port=options.rest_port,
            context=self._authority.server_context([options.hub_address]),
            running=self._running,
        )

    def _amqp_peers(self, key: str) -> Peers:
        service = Service(
            self._options.hub_address,
            {POLICY: [key]},
            self._clock,
            self._store,
            self._edge_hub.events,
            self._edge_hub.cloud_to_device,
            self._registry.generation,
            self._options.consumer_groups,
            created_ms=int(self._clock.wall() * 1000),
        )
        peers = Peers(service)
        self._running.callback(peers.close)
        return peers

    async def _serve_amqp(self, peers: Peers) -> dict[str, int]:
        """Serve the built-in endpoint and cloud-to-device messages; returns the ports that could be bound."""
        address, ports = self._options.hub_address, {}
        wanted = [("amqps", AMQPS_PORT, self._authority.server_context([address]))]
        for name, port, context in wanted + [("amqp", AMQP_PORT, None)] * self._options.plain_amqp:
            try:
                server = await serve_amqp(peers, address, port, context)
            except AddressUnusable as error:  # MQTT and REST do not need it
                logger.warning("no AMQP on port %d: %s", port, error)
                continue
            self._running.callback(server.close)
            ports[name] = port
        return ports

    def _write_service_env(
        self, key: str, files: ModelFiles, rest: HubAddress, amqp_ports: Mapping[str, int]
    ) -> None:
        options = self._options
        # clients put HostName into device connection strings, where no port belongs
        host = options.hub_address if rest.default_port else f"{options.hub_address}:{options.rest_port}"
        shared_key = f"SharedAccessKeyName={POLICY};SharedAccessKey={key}"
        events = f"Endpoint=sb://{options.hub_address}/;{shared_key};EntityPath={ENTITY}"
        write_private(
            options.folder / "service.env",
            f"IOTHUB_CONNECTION_STRING=HostName={host};{shared_key}\n"
            + (f"IOTHUB_EVENTHUB_CONNECTION_STRING={events}\n" if "amqps" in amqp_ports else "")
            + f"REQUESTS_CA_BUNDLE={options.folder.resolve() / 'ca.pem'}\n"
            f"MODEL_STORE_FOLDER={files.folder}\nMODEL_STORE_URL={files.url}\n",
        )

    def _write_endpoints(
        self,
        rest: HubAddress,
        amqp_ports: Mapping[str, int],
        edges: Mapping[str, EdgeAddress],
        metrics: Mapping[str, Mapping[str, str]],
        files: ModelFiles,
    ) -> None:
        """Written atomically and last: when a client sees it, every other file and socket exists."""
        options = self._options
        endpoints = {
            "pid": os.getpid(),
            "hub_name": options.hub_address,
            "hub_address": options.hub_address,
            "rest_ports": list(rest.ports),
            "hub_proxy": rest.proxy,
            "mqtt_port": MQTT_PORT,
            "event_hub": {
                "ports": dict(amqp_ports),
                "endpoint": f"sb://{options.hub_address}/",
                "entity_path": ENTITY,
                "consumer_groups": list(options.consumer_groups),
                "partitions": self._edge_hub.events.partitions,
            },
            "edges": dict(options.edges),
            "https_ports": {device: each.https_port for device, each in edges.items()},
            "proxies": {device: each.proxy for device, each in edges.items() if each.proxy is not None},
            "metrics": {device: dict(urls) for device, urls in metrics.items()},
            "socket_folder": str(self._sockets),
            "model_files": {"url": files.url, "trusted_pem": str(files.trusted_pem)},
            "control": str(control_path(self._sockets)),
            "upstream": str(options.upstream),
        }
        path = options.folder / "endpoints.json"
        write_private(path, json.dumps(endpoints, indent=1) + "\n")
        self._running.callback(path.unlink, missing_ok=True)
        addresses = ", ".join(f"{device}={address}" for device, address in options.edges.items())
        logger.info("ready: hub %s, edges %s", options.hub_address, addresses)


def _policy_key(store: Store) -> str:
    """The service policy's key. It is made once, so that connection strings stay valid after a restart."""
    stored = store.documents("policy")
    if POLICY not in stored:
        stored[POLICY] = base64.b64encode(secrets.token_bytes(32)).decode("ascii")
        store.put("policy", POLICY, stored[POLICY])
    return str(stored[POLICY])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder; the kernel releases the lock when this process ends in any way. Raises HubError."""
    with os.fdopen(open_private(folder / "hub.lock", os.O_RDWR), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HubError(f"another hub runs in {folder}; stop it or choose another --folder") from None
        yield


if __name__ == "__main__":
    sys.exit(main())
