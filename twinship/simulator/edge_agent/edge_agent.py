"""The edgeAgent of one device: applies the manifest, runs its modules as processes, reports their states.

It follows the desired properties of `$edgeAgent`, so a later deployment starts, stops and restarts modules.
The launcher starts and ends the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinship.simulator.common.log_lines import printable
from twinship.simulator.common.private_files import private_folder
from twinship.simulator.edge_agent import methods
from twinship.simulator.edge_agent.hub_process import Endpoints
from twinship.simulator.edge_agent.log_search import LogSearch
from twinship.simulator.edge_agent.methods import NotRestarted
from twinship.simulator.edge_agent.processes import ProcessRecord
from twinship.simulator.edge_agent.reported import LastDesired, reported
from twinship.simulator.edge_agent.service_client import ServiceClient, ServiceRefused
from twinship.simulator.edge_agent.supervisor import Program, RunState, Supervised
from twinship.simulator.identity import Identity
from twinship.simulator.manifest.modules_content import Deployment, ManifestError, Module, deployment
from twinship.simulator.workload.workload import API_VERSION, socket_path

logger = logging.getLogger(__name__)

RETRY_S = 1.0  # after the hub could not be reached
LONG_CALL_S = 60.0  # longer than the hub holds a call
BATCH_S = 0.05  # changes within this time go into one report
MIN_GRACE_S = 1.0
RESTART_GRACE_S = 10.0
SOCKET_WITHIN_S = 5.0
EDGE_HUB_MODULE = "edgeHub"  # edgeAgent's name for it
SYSTEM_MODULES = ("edgeAgent", EDGE_HUB_MODULE)
# A module inherits only these variables, as in a container. Proxy variables are left out, because the SDK
# would send loopback connections to the proxy (ref 0).
INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")


class ModuleNotReady(Exception):
    """A module cannot be started. The text is one line with the reason."""


@dataclass(frozen=True)
class Device:
    """The simulated edge device: its name, its folders, and the user's settings for its modules."""

    name: str
    folder: Path
    sockets: Path
    endpoints: Endpoints
    leave_out: frozenset[str] = frozenset()
    module_environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)


class EdgeAgent:
    """Runs the modules of one device. Call `apply` first, then `start_modules`, and `close` at the end."""

    def __init__(self, device: Device, hub: Supervised, client: ServiceClient, record: ProcessRecord) -> None:
        self._device = device
        self._hub = hub
        self._client = client
        self._record = record
        self._modules: Mapping[str, Module] = {}
        self._supervised: dict[str, Supervised] = {}
        self._ended: dict[str, RunState] = {}
        self._started = False
        self._last = LastDesired()
        self._reported_modules: set[str] = set()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._answers: set[asyncio.Task[None]] = set()
        self._log_search = LogSearch()

    async def apply(self, manifest: Deployment) -> None:
        """Create the edge device if it does not exist, and apply the manifest to it."""
        name = self._device.name
        identity = {"deviceId": name, "status": "enabled", "capabilities": {"iotEdge": True}}
        try:
            await self._client.call("PUT", "devices", name, body=identity)
        except ServiceRefused as refused:
            if refused.status != 409:
                raise
        content = {"modulesContent": manifest.modules_content}
        await self._client.call("POST", "devices", name, "applyConfigurationContent", body=content)
        await self._apply_desired(await self._client.call("GET", "edge-agent", name, after="0"))
        self._tasks = [
            asyncio.create_task(self._follow(), name="follow $edgeAgent"),
            asyncio.create_task(self._report(), name="report $edgeAgent"),
            asyncio.create_task(self._serve_calls(), name="methods of $edgeAgent"),
        ]

    async def environment(self, name: str) -> dict[str, str]:
        """The manifest's variables and those that edgeAgent sets (ref 1.1); raises ModuleNotReady."""
        if name not in self._modules:
            raise ModuleNotReady(
                f"the manifest has no module {name!r}; it has {', '.join(sorted(self._modules))}"
            )
        identity = await self._client.call("GET", "devices", self._device.name, "modules", name)
        data = private_folder(private_folder(self._device.folder / "modules") / name)
        return {
            # a user needs the same two settings for a model server on this machine with its own authority
            "SSL_CERT_FILE": str(self._device.endpoints.trusted_pem),
            "MODEL_SOURCE_ALLOW": "loopback",
            **self._modules[name].environment,
            "IOTEDGE_WORKLOADURI": f"unix://{await self._socket(name)}",
            "IOTEDGE_AUTHSCHEME": "sasToken",
            "IOTEDGE_MODULEGENERATIONID": identity["generationId"],
            "IOTEDGE_IOTHUBHOSTNAME": self._device.endpoints.hub_name,
            "IOTEDGE_GATEWAYHOSTNAME": self._device.endpoints.gateway,
            "IOTEDGE_DEVICEID": self._device.name,
            "IOTEDGE_MODULEID": name,
            "IOTEDGE_APIVERSION": API_VERSION,
            "RuntimeLogLevel": "info",
            "DATA_FOLDER": str(data),
            **self._proxy(),
            **self._device.module_environment.get(name, {}),
        }

    def _proxy(self) -> dict[str, str]:
        proxy = self._device.endpoints.proxy
        return {} if proxy is None else {"https_proxy": proxy}

    async def start_modules(self) -> None:
        """Start the modules that the manifest wants running, in startup order, if they do not run yet."""
        self._started = True
        for module in sorted(self._modules.values(), key=lambda each: (each.startup_order, each.name)):
            if self._is_wanted(module) and module.name not in self._supervised:
                await self._start(module)

    async def stop_modules(self, timeout_s: float) -> None:
        """End the modules, the last started first. They share `timeout_s` before they are killed."""
        self._started = False
        deadline = time.monotonic() + timeout_s
        for name in reversed(list(self._supervised)):
            await self._stop(name, max(MIN_GRACE_S, deadline - time.monotonic()))

    def states(self) -> dict[str, RunState]:
        """The state of each module."""
        return self._ended | {name: supervised.state for name, supervised in self._supervised.items()}

    def kill(self) -> None:
        """SIGKILL every module."""
        for supervised in self._supervised.values():
            supervised.kill()

    async def close(self, timeout_s: float) -> None:
        """Stop following the hub, stop the modules, and report that they stopped."""
        tasks = [*self._tasks, *self._answers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.stop_modules(timeout_s)
        with contextlib.suppress(OSError, ServiceRefused):
            await self._send(timeout_s=MIN_GRACE_S)

    def hub_changed(self) -> None:
        """Report again, because the hub's state is part of the report."""
        self._changed.set()

    async def _search_logs(self, payload: Any) -> list[Any]:
        """Search the logs of the modules and of edgeHub; raises PayloadInvalid."""
        device = self._device
        folder, hub = device.folder / "logs", device.endpoints.hub_name
        logs = {name: folder / f"{name}.log" for name in self._modules}
        logs[EDGE_HUB_MODULE] = folder / "hub.log"
        return await self._log_search.run(payload, time.time(), logs, hub=hub, device=device.name)

    async def _restart(self, name: str) -> None:
        """Restart a running module; raises NotRestarted."""
        if name in SYSTEM_MODULES:
            raise NotRestarted(f"this simulator cannot restart {name} by a method")
        if name not in self._modules:
            raise NotRestarted(f"Module {name} not found in the current environment")
        supervised = self._supervised.get(name)
        if supervised is None or not await supervised.restart(RESTART_GRACE_S):
            raise NotRestarted(f"Module {name} cannot be restarted since it is not running")

    def _is_wanted(self, module: Module) -> bool:
        return module.status == "running" and module.name not in self._device.leave_out

    async def _start(self, module: Module) -> None:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment = {**inherited, "PYTHONUNBUFFERED": "1", **await self.environment(module.name)}
        # -P: a file in the working directory must not replace a library
        command = (sys.executable, "-P", "-m", module.name)
        program = Program(module.name, command, environment, module.restart_policy)
        supervised = Supervised(program, self._device.folder / "logs", self._record, self._changed.set)
        self._supervised[module.name] = supervised
        supervised.start()

    async def _stop(self, name: str, grace_s: float) -> None:
        supervised = self._supervised[name]
        await supervised.stop(grace_s)
        self._ended[name] = supervised.state
        self._supervised.pop(name, None)

    async def _socket(self, name: str) -> Path:
        """The module's workload socket; the hub creates it shortly after the identity."""
        path = socket_path(self._device.sockets, Identity(self._device.name, name))
        deadline = time.monotonic() + SOCKET_WITHIN_S
        while not path.is_socket():
            if time.monotonic() > deadline:
                raise ModuleNotReady(f"the hub created no workload socket for module {name!r} ({path})")
            await asyncio.sleep(0.01)
        return path

    async def _follow(self) -> None:
        """Apply every later deployment as soon as the hub has it."""
        while True:
            await self._apply_desired(await self._poll(after=str(self._last.version)))

    async def _poll(self, *path: str, **query: str) -> Any:
        """Repeat a long call until the hub returns something."""
        while True:
            try:
                result = await self._client.call(
                    "GET", "edge-agent", self._device.name, *path, timeout_s=LONG_CALL_S, **query
                )
            except (OSError, ServiceRefused) as error:
                logger.debug("$edgeAgent cannot reach the hub: %s", error)
                await asyncio.sleep(RETRY_S)
            else:
                if result is not None:
                    return result

    async def _apply_desired(self, desired: dict[str, Any]) -> None:
        version = desired.pop("$version")
        content = {"$edgeAgent": {"properties.desired": desired}, "$edgeHub": {"properties.desired": {}}}
        try:
            modules = deployment(content).modules
            before, self._modules = self._modules, modules
            if self._started:
                await self._reconcile(before)
            self._last = LastDesired(version)
        except (ManifestError, ModuleNotReady, OSError, ServiceRefused) as error:
            logger.warning("deployment version %d cannot be applied: %s", version, printable(str(error)))
            self._last = LastDesired(version, 400, str(error))
        self._changed.set()

    async def _reconcile(self, before: Mapping[str, Module]) -> None:
        """Stop removed and changed modules; start new and changed modules."""
        for name in list(self._supervised):
            now = self._modules.get(name)
            if now is None or now != before.get(name):
                await self._stop(name, RESTART_GRACE_S)
        await self.start_modules()

    async def _serve_calls(self) -> None:
        """Fetch the calls of direct methods and answer them concurrently."""
        while True:
            task = asyncio.create_task(self._answer(await self._poll("methods")))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _answer(self, call: dict[str, Any]) -> None:
        result = await methods.answer(
            call["name"], call["payload"], search=self._search_logs, restart=self._restart
        )
        path = ("edge-agent", self._device.name, "methods", call["id"])
        try:
            body = {"status": result.status, "payload": result.payload}
            await self._client.call("POST", *path, body=body)
        except (OSError, ServiceRefused) as error:
            name = printable(call["name"])
            logger.warning("the answer to method %s could not be delivered: %s", name, error)

    async def _report(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(BATCH_S)
            self._changed.clear()
            try:
                await self._send(timeout_s=10.0)
            except (OSError, ServiceRefused) as error:
                logger.debug("$edgeAgent's state cannot be reported: %s", error)
                self._changed.set()
                await asyncio.sleep(RETRY_S)

    async def _send(self, *, timeout_s: float) -> None:
        state = reported(self._modules, self.states(), self._hub.state, self._last)
        modules = dict.fromkeys(self._reported_modules - self._modules.keys()) | state["modules"]
        patch = {**state, "modules": modules}
        await self._client.call("PATCH", "edge-agent", self._device.name, body=patch, timeout_s=timeout_s)
        # not self._modules: a later deployment may have been applied meanwhile
        self._reported_modules = set(state["modules"])
