"""Scenario `hub`: the cost of the simulator's hub itself, next to mosquitto if it is installed.

A hop is one message of 1 KB from a sender's PUBLISH to the receiver's; the hub stores it before it
acknowledges. Raw clients in a process of their own send and receive (hop.py). mosquitto stores and routes
nothing here: it shows the least that a broker with TLS costs on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.peers import mosquitto
from twinship.bench.rig.memory import resident_mb
from twinship.bench.rig.waiting import until
from twinship.bench.scenarios.hub.hop import Login, Task
from twinship.simulator import sas
from twinship.simulator.edge_agent.hub_process import REST_PORT
from twinship.simulator.edge_agent.service_client import ConnectionString, ServiceClient
from twinship.simulator.identity import Identity
from twinship.simulator.loopback import MQTT_PORT, free_addresses

DEVICE: Final = "edge"
SENDER, RECEIVER = Identity(DEVICE, "sender"), Identity(DEVICE, "receiver")
ROUTE: Final = 'FROM /messages/modules/sender/* INTO BrokeredEndpoint("/modules/receiver/inputs/work")'
BODY_BYTES: Final = 1024
START_S: Final = 60.0
MOST_LOAD: Final = 0.9  # share of a core; above, the clients and not the hub limit the rate
LOAD_S: Final = 600.0
TOKEN_S: Final = 3600


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    starts: int = 5
    pairs: int = 5_000  # messages one at a time
    stream: int = 200_000  # messages at the maximum rate
    warm_up: int = 20_000  # messages before memory is first measured: then caches and the log are full


def measure(bench: Bench) -> Mapping[str, Any]:
    """Latency in ms and rate of one hop, seconds to start, MiB idle and growth; the same of mosquitto."""
    return run(bench, Extent())


def run(bench: Bench, extent: Extent) -> Mapping[str, Any]:
    """The figures. Raises BenchFailed."""
    folder = bench.folder / "hub"
    hub_address, gateway = free_addresses(2, (MQTT_PORT, REST_PORT))
    command = [sys.executable, "-P", "-m", "twinship.simulator.hub", "--folder", str(folder)]
    command += ["--hub-address", hub_address, "--edge", f"{DEVICE}={gateway}"]
    bench.progress("starting the hub", 0.0)
    starts = []

    def accepts() -> bool:
        return mosquitto.accepts_tls(gateway, MQTT_PORT, folder / "ca.pem")

    for _ in range(extent.starts):
        begin = time.monotonic()
        with _running(command, folder.parent / "hub.log", accepts):
            starts.append(time.monotonic() - begin)
    with _running(command, folder.parent / "hub.log", (folder / "endpoints.json").exists) as hub:
        clients = asyncio.run(_deploy(folder, hub_address))
        idle_mb = resident_mb(hub.pid)
        bench.progress(f"{extent.stream:,} messages through the hub", 0.1)
        figures = _load(_through_hub(gateway, folder, clients, hub.pid, extent))
    if figures["load_share"] > MOST_LOAD:
        raise BenchFailed(
            "the clients, not the hub, limited the rate; cure: stop other programs on this machine"
        )
    bench.progress("the same through mosquitto", 0.8)
    growth = figures.pop("growth_mb")
    return {
        **figures,
        "start_s": round(statistics.median(starts), 2),
        "idle_mb": round(idle_mb, 1),
        "growth_mb_200k": growth,
        **_mosquitto(bench.folder / "mosquitto", extent),
    }


@contextlib.contextmanager
def _running(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """A process from the moment it is ready; terminated at the end. Raises BenchFailed."""
    with log.open("ab") as lines:
        process = subprocess.Popen(command, stdout=lines, stderr=lines)
    try:
        until(ready, START_S, f"the start of the hub (see {log})", every_s=0.005, process=process)
        yield process
    finally:
        process.terminate()
        process.wait()


async def _deploy(folder: Path, hub_address: str) -> dict[Identity, Login]:
    """Create an edge device with two modules and a route between them; return the modules' logins."""
    variables = dict(line.split("=", 1) for line in (folder / "service.env").read_text().splitlines())
    service = ServiceClient(
        ConnectionString.parse(variables["IOTHUB_CONNECTION_STRING"]), Path(variables["REQUESTS_CA_BUNDLE"])
    )
    try:
        await service.call("PUT", "devices", DEVICE, body={"capabilities": {"iotEdge": True}})
        logins = {}
        for module in (SENDER, RECEIVER):
            made = await service.call("PUT", "devices", DEVICE, "modules", str(module.module), body={})
            key = made["authentication"]["symmetricKey"]["primaryKey"]
            token = sas.sign(key, module.resource(hub_address), int(time.time()) + TOKEN_S)
            username = f"{hub_address}/{module}/?api-version=2019-10-01"
            logins[module] = Login(str(module), username, token)
        desired = {"schemaVersion": "1.1", "routes": {"work": ROUTE}}
        twin = ("twins", DEVICE, "modules", "$edgeHub")
        await service.call("PATCH", *twin, body={"properties": {"desired": desired}})
    finally:
        await service.close()
    return logins


def _through_hub(
    gateway: str, folder: Path, clients: Mapping[Identity, Login], pid: int, extent: Extent
) -> Task:
    return Task(
        address=gateway,
        port=MQTT_PORT,
        ca=str(folder / "ca.pem"),
        sender=clients[SENDER],
        receiver=clients[RECEIVER],
        publish_to=f"devices/{DEVICE}/modules/sender/messages/events/%24.on=work",
        subscribe_to=f"devices/{DEVICE}/modules/receiver/inputs/#",
        body_bytes=BODY_BYTES,
        pairs=extent.pairs,
        stream=extent.stream,
        watch=pid,
        warm_up=extent.warm_up,
    )


def _load(task: Task) -> dict[str, float]:
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


def _mosquitto(folder: Path, extent: Extent) -> dict[str, dict[str, float]]:
    """The figures of mosquitto under its name; {} if it is not installed."""
    if (program := mosquitto.program()) is None:
        return {}
    with mosquitto.running(program, folder, inflight=1) as running:
        figures = _load(
            Task(
                address=mosquitto.HOST,
                port=running.port,
                ca=str(running.ca),
                sender=Login("sender", "x", ""),
                receiver=Login("receiver", "x", ""),
                publish_to="hop",
                subscribe_to="hop",
                body_bytes=BODY_BYTES,
                pairs=extent.pairs,
                stream=extent.warm_up,
            )
        )
    return {"mosquitto": {name: figures[name] for name in ("hop_p50_ms", "per_s")}}
