"""Scenario `hub`: the cost of the simulator's hub itself, next to mosquitto if it is installed.

A hop is one message of 1 KB from a sender's PUBLISH to the receiver's; the hub stores it before it
acknowledges. Raw clients in a process of their own send and receive (hop.py). mosquitto stores and routes
nothing here: it shows the least that a broker with TLS costs on this machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.peers import mosquitto
from twinship.bench.rig.memory import resident_mb
from twinship.bench.scenarios.hub.clients import BODY_BYTES, WORK, HubProcess, load
from twinship.bench.scenarios.hub.hop import Login, Task
from twinship.simulator.loopback import MQTT_PORT

MOST_LOAD: Final = 0.9  # share of a core; above, the clients and not the hub limit the rate


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
    hub = HubProcess.at_free_addresses(bench.folder / "hub")
    bench.progress("starting the hub", 0.0)
    starts = []

    def accepts() -> bool:
        return mosquitto.accepts_tls(hub.gateway, MQTT_PORT, hub.folder / "ca.pem")

    for _ in range(extent.starts):
        begin = time.monotonic()
        with hub.running(accepts):
            starts.append(time.monotonic() - begin)
    with hub.running() as process:
        task = hub.task(hub.deploy({"work": WORK}), extent.pairs, extent.stream)
        idle_mb = resident_mb(process.pid)
        bench.progress(f"{extent.stream:,} messages through the hub", 0.1)
        figures = load(replace(task, watch=process.pid, warm_up=extent.warm_up))
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


def _mosquitto(folder: Path, extent: Extent) -> dict[str, dict[str, float]]:
    """The figures of mosquitto under its name; {} if it is not installed."""
    if (program := mosquitto.program()) is None:
        return {}
    with mosquitto.running(program, folder, inflight=1) as running:
        figures = load(
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
