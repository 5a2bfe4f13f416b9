"""A hub process for tests of modules: start, kill, freeze, and calls of its REST API."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from twinship.simulator import sas
from twinship.simulator.edge_agent.service_client import API_VERSION as SERVICE_API_VERSION
from twinship.simulator.edge_agent.service_client import ConnectionString
from twinship.simulator.identity import Identity
from twinship.simulator.loopback import free_addresses
from twinship.simulator.workload.workload import API_VERSION, socket_folder, socket_path

DEVICE = "edge"
REST_PORT = 8443


class SimulatedHub:
    """One hub with one edge device; the same folder, addresses and keys across restarts."""

    def __init__(self, folder: Path, *, modules: tuple[str, ...], routes: dict[str, str]) -> None:
        self.folder = folder / "hub"
        self.folder.mkdir()
        self._log = folder / "hub.log"
        self._modules = modules
        self._routes = routes
        self.hub_address, self.gateway = free_addresses(2, (8883, REST_PORT))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SimulatedHub":
        self.start()
        self._deploy()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process and wait until everything listens."""
        (self.folder / "endpoints.json").unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "twinship.simulator.hub", "--folder", str(self.folder)),
                    *("--hub-address", self.hub_address, "--edge", f"{DEVICE}={self.gateway}"),
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not (self.folder / "endpoints.json").exists():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop the process with SIGSTOP; the kernel still accepts connections for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def environment(self, module: str) -> dict[str, str]:
        """The variables that edgeAgent sets (ref 1.1)."""
        generation = self.call("GET", "devices", DEVICE, "modules", module)["generationId"]
        socket = socket_path(socket_folder(self.folder), Identity(DEVICE, module))
        return {
            "IOTEDGE_WORKLOADURI": f"unix://{socket}",
            "IOTEDGE_AUTHSCHEME": "sasToken",
            "IOTEDGE_MODULEGENERATIONID": generation,
            "IOTEDGE_IOTHUBHOSTNAME": self.hub_address,
            "IOTEDGE_GATEWAYHOSTNAME": self.gateway,
            "IOTEDGE_DEVICEID": DEVICE,
            "IOTEDGE_MODULEID": module,
            "IOTEDGE_APIVERSION": API_VERSION,
        }

    def call(self, method: str, *path: str, body: object = None, update: bool = False) -> Any:
        """One call of the REST API with the service's key. `update`: change an existing identity."""
        return asyncio.run(self._call(method, *path, body=body, update=update))

    def twin(self, module: str) -> dict[str, Any]:
        """The module's twin as the service sees it: its `properties`."""
        properties: dict[str, Any] = self.call("GET", "twins", DEVICE, "modules", module)["properties"]
        return properties

    def desire(self, module: str, **desired: object) -> None:
        """Patch desired properties."""
        self.call("PATCH", "twins", DEVICE, "modules", module, body={"properties": {"desired": desired}})

    def enable(self, enabled: bool) -> None:
        """Enable or disable the edge device."""
        device = self.call("GET", "devices", DEVICE) | {"status": "enabled" if enabled else "disabled"}
        self.call("PUT", "devices", DEVICE, body=device, update=True)

    def upstream(self) -> list[dict[str, Any]]:
        """The messages that reached IoT Hub so far."""
        path = self.folder / "upstream.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def _call(self, method: str, *path: str, body: object, update: bool) -> Any:
        lines = (self.folder / "service.env").read_text().splitlines()
        values = dict(line.split("=", 1) for line in lines)
        service = ConnectionString.parse(values["IOTHUB_CONNECTION_STRING"])
        context = ssl.create_default_context(cafile=values["REQUESTS_CA_BUNDLE"])
        token = sas.sign(service.key, service.host, int(time.time()) + 300, service.policy)
        headers = {"Authorization": token} | ({"If-Match": "*"} if update else {})
        address = f"https://{service.host}/{'/'.join(path)}?api-version={SERVICE_API_VERSION}"
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.request(method, address, json=body, headers=headers) as answer,
        ):
            assert answer.status < 300, await answer.text()
            return None if answer.status == 204 else await answer.json()

    def _deploy(self) -> None:
        self.call("PUT", "devices", DEVICE, body={"deviceId": DEVICE, "capabilities": {"iotEdge": True}})
        modules = {name: {"settings": {"image": name}, "type": "docker"} for name in self._modules}
        content: dict[str, Any] = {
            "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": modules}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": self._routes}},
        }
        content |= {name: {"properties.desired": {}} for name in self._modules}
        self.call("POST", "devices", DEVICE, "applyConfigurationContent", body={"modulesContent": content})


def minimal_environment() -> dict[str, str]:
    """The variables of a module's process in addition to those of edgeAgent."""
    return {"PATH": os.environ["PATH"]}
