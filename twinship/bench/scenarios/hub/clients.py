"""The hub's process with one edge device, and the clients that measure a hop through it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinship.bench import BenchFailed
from twinship.bench.rig.waiting import until
from twinship.bench.scenarios.hub.hop import Login, Task
from twinship.simulator import sas
from twinship.simulator.edge_agent.hub_process import REST_PORT
from twinship.simulator.edge_agent.service_client import ConnectionString, ServiceClient
from twinship.simulator.identity import Identity
from twinship.simulator.loopback import MQTT_PORT, free_addresses

DEVICE: Final = "edge"
SENDER, RECEIVER = Identity(DEVICE, "sender"), Identity(DEVICE, "receiver")
WORK: Final = 'FROM /messages/modules/sender/* INTO BrokeredEndpoint("/modules/receiver/inputs/work")'
BODY_BYTES: Final = 1024
START_S: Final = 60.0
LOAD_S: Final = 600.0
TOKEN_S: Final = 3600


@dataclass(frozen=True)
class HubProcess:
    """Addresses and folder of a hub that `running` starts."""

    folder: Path
    hub_address: str
    gateway: str

    @classmethod
    def at_free_addresses(cls, folder: Path) -> HubProcess:
        """One that keeps everything in this folder."""
        return cls(folder, *free_addresses(2, (MQTT_PORT, REST_PORT)))

    @contextlib.contextmanager
    def running(self, ready: Callable[[], bool] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """The process from the moment it is ready; terminated at the end. Raises BenchFailed."""
        command = [sys.executable, "-P", "-m", "twinship.simulator.hub", "--folder", str(self.folder)]
        command += ["--hub-address", self.hub_address, "--edge", f"{DEVICE}={self.gateway}"]
        log = self.folder.parent / "hub.log"
        with log.open("ab") as lines:
            process = subprocess.Popen(command, stdout=lines, stderr=lines)
        try:
            until(
                ready or (self.folder / "endpoints.json").exists,
                START_S,
                f"the start of the hub (see {log})",
                every_s=0.005,
                process=process,
            )
            yield process
        finally:
            process.terminate()
            process.wait()

    def variables(self) -> dict[str, str]:
        """The content of service.env."""
        lines = (self.folder / "service.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def deploy(self, routes: Mapping[str, str]) -> dict[Identity, Login]:
        """Create an edge device with two modules and these routes; return the modules' logins."""
        return asyncio.run(self._deploy(routes))

    async def _deploy(self, routes: Mapping[str, str]) -> dict[Identity, Login]:
        found = self.variables()
        service = ServiceClient(
            ConnectionString.parse(found["IOTHUB_CONNECTION_STRING"]), Path(found["REQUESTS_CA_BUNDLE"])
        )
        try:
            await service.call("PUT", "devices", DEVICE, body={"capabilities": {"iotEdge": True}})
            logins = {module: await self._login(service, module) for module in (SENDER, RECEIVER)}
            desired = {"schemaVersion": "1.1", "routes": dict(routes)}
            twin = ("twins", DEVICE, "modules", "$edgeHub")
            await service.call("PATCH", *twin, body={"properties": {"desired": desired}})
        finally:
            await service.close()
        return logins

    async def _login(self, service: ServiceClient, module: Identity) -> Login:
        made = await service.call("PUT", "devices", DEVICE, "modules", str(module.module), body={})
        key = made["authentication"]["symmetricKey"]["primaryKey"]
        token = sas.sign(key, module.resource(self.hub_address), int(time.time()) + TOKEN_S)
        return Login(str(module), f"{self.hub_address}/{module}/?api-version=2019-10-01", token)

    def task(self, logins: Mapping[Identity, Login], pairs: int, stream: int) -> Task:
        """Messages of 1 KB from the sender to the receiver."""
        return Task(
            address=self.gateway,
            port=MQTT_PORT,
            ca=str(self.folder / "ca.pem"),
            sender=logins[SENDER],
            receiver=logins[RECEIVER],
            publish_to=f"devices/{DEVICE}/modules/sender/messages/events/%24.on=work",
            subscribe_to=f"devices/{DEVICE}/modules/receiver/inputs/#",
            body_bytes=BODY_BYTES,
            pairs=pairs,
            stream=stream,
        )


def load(task: Task) -> dict[str, float]:
    """The figures of hop.measure in a process of its own. Raises BenchFailed."""
    command = [sys.executable, "-P", "-m", "twinship.bench.scenarios.hub.hop"]
    try:
        result = subprocess.run(
            command, input=task.to_json(), capture_output=True, text=True, timeout=LOAD_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchFailed(
            f"not all messages arrived within {LOAD_S:g} s; cure: stop other programs on this machine"
        ) from None
    if result.returncode != 0:
        raise BenchFailed(result.stderr.strip().splitlines()[-1])
    figures: dict[str, float] = json.loads(result.stdout)
    return figures
