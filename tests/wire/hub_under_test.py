"""The real hub process on free loopback addresses, for the wire tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.wire.sdk_module import PATIENCE_S, SdkModule
from twinship.simulator import sas
from twinship.simulator.identity import Identity
from twinship.simulator.loopback import free_addresses
from twinship.simulator.workload.workload import API_VERSION, socket_folder, socket_path

DEVICE = "edge"
REST_PORT = 8443
#: The defect of the hub (tests/wire/hub/defects.py); only the counter-proof sets it.
DEFECT = os.environ.get("TWINSHIP_TEST_DEFECT")
HUB = ("twinship.simulator.hub",) if DEFECT is None else ("tests.wire.hub.defects", DEFECT)

ROUTES: Mapping[str, Any] = {
    "schemaVersion": "1.1",
    "routes": {
        "work": "FROM /messages/modules/sender/outputs/work "
        'INTO BrokeredEndpoint("/modules/receiver/inputs/work")',
        "cloud": "FROM /messages/modules/sender/outputs/cloud INTO $upstream",
    },
}


class HubUnderTest:
    """One hub process at a time, in one folder and on one pair of addresses, also after a kill."""

    device_id = DEVICE

    def __init__(self, folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.hub_address, self.gateway = free_addresses(2, (8883, REST_PORT))
        self._options = options
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until endpoints.json names it."""
        command = [sys.executable, "-m", *HUB, "--folder", str(self.folder)]
        command += ["--hub-address", self.hub_address, "--edge", f"{DEVICE}={self.gateway}", *self._options]
        with (self.folder.parent / "hub.log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, env={**os.environ, **self._environment})
        wait_for(self._is_ready, f"the hub; its log:\n{self.log()}")

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it with SIGTERM; returns its exit status."""
        return self._end(signal.SIGTERM)

    def close(self) -> None:
        """Stop it if it runs."""
        if self._process is not None:
            self.stop()

    def log(self) -> str:
        """The stderr of the hub so far."""
        return (self.folder.parent / "hub.log").read_text()

    def upstream(self) -> list[dict[str, Any]]:
        """The lines of upstream.jsonl."""
        path = self.folder / "upstream.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def deploy(self, *modules: str, routes: Mapping[str, Any] = ROUTES) -> None:
        """Create an edge device with these modules and routes."""
        self.service("PUT", f"/devices/{DEVICE}", {"deviceId": DEVICE, "capabilities": {"iotEdge": True}})
        for module in modules:
            self.service(
                "PUT", f"/devices/{DEVICE}/modules/{module}", {"deviceId": DEVICE, "moduleId": module}
            )
        self.service("PATCH", f"/twins/{DEVICE}/modules/$edgeHub", {"properties": {"desired": routes}})

    def service(self, method: str, path: str, body: object = None) -> Any:
        """Call the service's REST API with the connection string that the hub wrote."""
        env = dict(line.split("=", 1) for line in (self.folder / "service.env").read_text().splitlines())
        parts = dict(part.split("=", 1) for part in env["IOTHUB_CONNECTION_STRING"].split(";"))
        token = sas.sign(
            parts["SharedAccessKey"], parts["HostName"], int(time.time()) + 60, parts["SharedAccessKeyName"]
        )
        context = ssl.create_default_context(cafile=env["REQUESTS_CA_BUNDLE"])
        with contextlib.closing(
            http.client.HTTPSConnection(parts["HostName"], context=context)
        ) as connection:
            headers = {"Authorization": token, "Content-Type": "application/json"}
            connection.request(method, f"{path}?api-version=2021-04-12", json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        assert answer.status < 300, (answer.status, content)
        return json.loads(content) if content else None

    def key(self, module: str) -> str:
        """A module's primary key."""
        return self.keys(Identity(DEVICE, module))[0]

    def keys(self, identity: Identity) -> tuple[str, str]:
        """Primary and secondary key of a device or module."""
        keys = self.service("GET", _path(identity))["authentication"]["symmetricKey"]
        return keys["primaryKey"], keys["secondaryKey"]

    def create(self, identity: Identity, **body: object) -> tuple[str, str]:
        """Create a device or module; returns its keys."""
        names = {"deviceId": identity.device, **({"moduleId": identity.module} if identity.module else {})}
        keys = self.service("PUT", _path(identity), {**names, **body})["authentication"]["symmetricKey"]
        return keys["primaryKey"], keys["secondaryKey"]

    def device(
        self, device: str, *, gateway: str | None = None, trust_by_environment: bool = False, **options: Any
    ) -> SdkModule:
        """A process with a device's SDK client, for IoT Hub itself or a gateway's address."""
        ca = str(self.folder / "ca.pem")
        made = SdkModule({"SSL_CERT_FILE": ca} if trust_by_environment else {}, **options)
        connection_string = f"HostName={self.hub_address};DeviceId={device};"
        if gateway is not None:
            connection_string += f"GatewayHostName={gateway};"
        connection_string += f"SharedAccessKey={self.keys(Identity(device))[0]}"
        try:
            made.call(
                "create_from", connection_string=connection_string, ca=None if trust_by_environment else ca
            )
        except BaseException:
            made.kill()
            raise
        return made

    def simulator_variables(self, module: str, key: str | None = None) -> dict[str, str]:
        """The variables that iotedgehubdev sets (ref 1.2)."""
        connection_string = (
            f"HostName={self.hub_address};GatewayHostName={self.gateway};DeviceId={DEVICE};"
            f"ModuleId={module};SharedAccessKey={key or self.key(module)}"
        )
        proxy = self.proxy()
        return {
            "EdgeHubConnectionString": connection_string,
            "EdgeModuleCACertificateFile": str(self.folder / "ca.pem"),
            **({} if proxy is None else {"https_proxy": proxy}),
        }

    def edge_agent_variables(self, module: str) -> dict[str, str]:
        """The variables that edgeAgent sets: the workload socket gives trust and signatures (ref 1.1)."""
        shown = self.service("GET", _path(Identity(DEVICE, module)))
        socket = socket_path(socket_folder(self.folder), Identity(DEVICE, module))
        return {
            "IOTEDGE_WORKLOADURI": f"unix://{socket}",
            "IOTEDGE_AUTHSCHEME": "sasToken",
            "IOTEDGE_MODULEGENERATIONID": shown["generationId"],
            "IOTEDGE_IOTHUBHOSTNAME": self.hub_address,
            "IOTEDGE_GATEWAYHOSTNAME": self.gateway,
            "IOTEDGE_DEVICEID": DEVICE,
            "IOTEDGE_MODULEID": module,
            "IOTEDGE_APIVERSION": API_VERSION,
        }

    def endpoints(self) -> dict[str, Any]:
        """The content of endpoints.json."""
        return dict(json.loads((self.folder / "endpoints.json").read_text()))

    def proxy(self) -> str | None:
        """The proxy to the HTTPS of the edge device; None if it has port 443."""
        proxy: str | None = self.endpoints()["proxies"].get(DEVICE)
        return proxy

    def module(self, module: str, variables: Mapping[str, str] | None = None, **options: Any) -> SdkModule:
        """A module process with an SDK client that is not connected yet."""
        made = SdkModule(variables or self.simulator_variables(module), **options)
        try:
            made.call("create")
        except BaseException:
            made.kill()
            raise
        return made

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the hub ended:\n{self.log()}"
        try:
            endpoints = json.loads((self.folder / "endpoints.json").read_text())
        except FileNotFoundError:
            return False
        return bool(endpoints["pid"] == self._process.pid)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        status = self._process.wait(PATIENCE_S)
        self._process = None
        return status


def _path(identity: Identity) -> str:
    device = f"/devices/{quote(identity.device)}"
    return device if identity.module is None else f"{device}/modules/{quote(identity.module)}"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until the condition is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def running_hub(folder: Path, *options: str, **environment: str) -> Iterator[HubUnderTest]:
    """Start a hub, and stop it at the end."""
    hub = HubUnderTest(folder / "simulator", *options, environment=environment)
    hub.start()
    try:
        yield hub
    finally:
        hub.close()
