"""Scenario `hub`: what the simulator's hub itself costs, next to mosquitto where that is installed.

A hop is one 1 KB message from a sender's PUBLISH to the receiver's, stored before it is acknowledged, by raw
clients in a process of their own (hop.py). mosquitto stores nothing here and routes nothing: it is the floor
of what a broker with TLS on this machine can do, not a rival.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench import BenchFailed
from bench.hop import Login, Order, resident_bytes
from bench.scenarios import Bench
from simulator import sas
from simulator.certificates import Authority
from simulator.hub_process import MQTT_PORT, REST_PORT
from simulator.identity import Identity
from simulator.loopback import free_addresses
from simulator.service_client import ConnectionString, ServiceClient

DEVICE: Final = "edge"
SENDER, RECEIVER = Identity(DEVICE, "sender"), Identity(DEVICE, "receiver")
ROUTE: Final = 'FROM /messages/modules/sender/* INTO BrokeredEndpoint("/modules/receiver/inputs/work")'
BODY_BYTES: Final = 1024
PAIRS: Final = 5_000
STREAM: Final = 200_000
WARM_UP: Final = 20_000  # by then every cache and the store's log have their size
STARTS: Final = 5
PATIENCE_S: Final = 60.0
LOAD_S: Final = 600.0
TOKEN_S: Final = 3600


def measure(bench: Bench) -> Mapping[str, Any]:
    """Latency in ms and messages a second of one hop, seconds to start, MB idle and grown; mosquitto's."""
    folder = bench.folder / "hub"
    hub_address, gateway = free_addresses(2, (MQTT_PORT, REST_PORT))
    command = [sys.executable, "-P", "-m", "simulator.hub", "--folder", str(folder)]
    command += ["--hub-address", hub_address, "--edge", f"{DEVICE}={gateway}"]
    bench.progress("starting the hub", 0.0)
    starts = []
    for _ in range(STARTS):
        begin = time.monotonic()
        with _running(command, folder.parent / "hub.log", lambda: _accepts(gateway, folder / "ca.pem")):
            starts.append(time.monotonic() - begin)
    with _running(command, folder.parent / "hub.log", (folder / "endpoints.json").exists) as hub:
        clients = asyncio.run(_deploy(folder, hub_address))
        idle = resident_bytes(hub.pid)
        bench.progress(f"{STREAM:,} messages through the hub", 0.1)
        figures = _load(_through_hub(gateway, folder, clients, hub.pid))
    if figures["load_share"] > 0.9:
        raise BenchFailed("the load was busier than the hub: the figures are the load's own")
    bench.progress("the same through mosquitto", 0.8)
    growth = figures.pop("growth_mb")
    return {
        **figures,
        "start_s": round(statistics.median(starts), 2),
        "idle_mb": round(idle / 2**20, 1),
        "growth_mb_200k": growth,
        **_mosquitto(bench.folder / "mosquitto", gateway),
    }


@contextlib.contextmanager
def _running(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ready; ended on the way out. Raises BenchFailed."""
    with log.open("ab") as lines:
        process = subprocess.Popen(command, stdout=lines, stderr=lines)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"{command[0]} did not start; see {log}")
            time.sleep(0.005)
        yield process
    finally:
        process.terminate()
        process.wait()


def _accepts(address: str, ca: Path) -> bool:
    """Whether a client gets as far as a TLS connection."""
    try:
        context = ssl.create_default_context(cafile=str(ca))
        with (
            socket.create_connection((address, MQTT_PORT), timeout=PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=address),
        ):
            return True
    except OSError:
        return False


async def _deploy(folder: Path, hub_address: str) -> dict[Identity, Login]:
    """An edge device with two modules and a route from one to the other; how these connect."""
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


def _through_hub(gateway: str, folder: Path, clients: Mapping[Identity, Login], pid: int) -> Order:
    return Order(
        address=gateway,
        port=MQTT_PORT,
        ca=str(folder / "ca.pem"),
        sender=clients[SENDER],
        receiver=clients[RECEIVER],
        publish_to=f"devices/{DEVICE}/modules/sender/messages/events/%24.on=work",
        subscribe_to=f"devices/{DEVICE}/modules/receiver/inputs/#",
        body_bytes=BODY_BYTES,
        pairs=PAIRS,
        stream=STREAM,
        watch=pid,
        warm_up=WARM_UP,
    )


def _load(order: Order) -> dict[str, float]:
    command = [sys.executable, "-P", "-m", "bench.hop"]
    ended = subprocess.run(
        command, input=order.to_json(), capture_output=True, text=True, timeout=LOAD_S, check=False
    )
    if ended.returncode != 0:
        raise BenchFailed(ended.stderr.strip().splitlines()[-1])
    figures: dict[str, float] = json.loads(ended.stdout)
    return figures


def _mosquitto(folder: Path, address: str) -> dict[str, dict[str, float]]:
    """Its figures under its name; nothing where it is not installed."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        return {}
    folder.mkdir()
    authority = Authority.open(folder, datetime.now(UTC))
    chain, key = authority.issue([address])
    for name, text in (("chain.pem", chain), ("key.pem", key)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    configuration = {
        "listener": f"{MQTT_PORT} {address}",
        "certfile": folder / "chain.pem",
        "keyfile": folder / "key.pem",
        "allow_anonymous": "true",
        "set_tcp_nodelay": "true",
        "max_queued_messages": "0",
        "user": "root",
    }
    file = folder / "mosquitto.conf"
    file.write_text("".join(f"{name} {value}\n" for name, value in configuration.items()))
    order = Order(
        address=address,
        port=MQTT_PORT,
        ca=str(folder / "ca.pem"),
        sender=Login("sender", "x", ""),
        receiver=Login("receiver", "x", ""),
        publish_to="hop",
        subscribe_to="hop",
        body_bytes=BODY_BYTES,
        pairs=PAIRS,
        stream=STREAM // 10,
    )
    ready = lambda: _accepts(address, folder / "ca.pem")  # noqa: E731
    with _running([program, "-c", str(file)], folder / "mosquitto.log", ready):
        figures = _load(order)
    return {"mosquitto": {name: figures[name] for name in ("hop_p50_ms", "per_s")}}
