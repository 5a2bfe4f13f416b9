"""The metrics pages of edgeHub and edgeAgent with the product's names and labels (ref 9).

A page is computed when it is requested, from what the hub counts already: connections, messages in and out,
drops, twin calls, direct methods and queue lengths. edgeAgent's values come from the reported properties of
`$edgeAgent` and from /proc.

Not available: every `..._duration_seconds`, `message_size_bytes`, `messages_unack_total` (a storage failure
ends the hub), `offline_...` (the cloud is in the same process), `operation_retry_total`, and edgeAgent's
metrics except those below. Missing labels: `from` and `from_route_output` of sent and dropped messages,
`from` of direct methods, `id` of refused clients. Drops are counted for the whole hub, so every edge device
shows the sum. edgeHub has two reasons for drops (no_route, ttl_expiry); the other reasons here are drops that
edgeHub does not count. ttl_expiry counts on after a restart of the hub, because these
messages were acknowledged.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import EDGE_AGENT, NotFound, Registry

Samples = Iterable[tuple[Mapping[str, str], float]]  # labels and value


class Metrics:
    """The /metrics pages of both runtime modules of each edge device, in Prometheus' text format."""

    def __init__(self, registry: Registry, edge_hub: EdgeHub, folder: Path) -> None:
        self._registry = registry
        self._edge_hub = edge_hub
        self._folder = folder
        self._instance = str(uuid.uuid4())

    def edge_hub(self, device: str) -> bytes:
        """edgeHub's page for one edge device."""
        hub, page = self._edge_hub, self._page(device)
        for each in COUNTED:
            page.counter(each.name, each.help, each.samples(hub, device))
        page.counter("edgehub_messages_sent", "Acknowledged messages", _sent(hub, device))
        dropped = (({"reason": reason}, number) for reason, number in hub.dropped.items())
        page.counter("edgehub_messages_dropped", "Dropped messages by reason", dropped)
        methods = (({"to": str(to)}, n) for to, n in hub.router.counts.methods.items() if to.device == device)
        page.counter("edgehub_direct_methods", "Direct method calls, with or without an answer", methods)
        clients: Samples = [({}, hub.connected_clients(device))]
        page.gauge("edgehub_connected_clients", "Connected clients", clients)
        page.gauge("edgehub_queue_length", "Waiting messages", _waiting(hub, device))
        return generate_latest(page)

    def edge_agent(self, device: str) -> bytes:
        """edgeAgent's page for one edge device."""
        page = self._page(device)
        try:
            reported = self._registry.twin(Identity(device, EDGE_AGENT)).reported
        except NotFound:
            reported = {}
        page.counter("edgeAgent_module_start", "Starts of a module's process", _module_starts(reported))
        _add_host(page, self._folder)
        return generate_latest(page)

    def _page(self, device: str) -> _Page:
        return _Page(
            {"iothub": self._registry.hub_name, "edge_device": device, "instance_number": self._instance}
        )


class _Page(Collector):
    """Families of samples; every sample gets `labels` too. A family without samples is left out."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._families: list[Metric] = []

    def counter(self, name: str, help: str, samples: Samples) -> None:
        self._add(CounterMetricFamily(name, help), f"{name}_total", samples)

    def gauge(self, name: str, help: str, samples: Samples) -> None:
        self._add(GaugeMetricFamily(name, help), name, samples)

    def collect(self) -> Iterable[Metric]:
        return self._families

    def _add(self, family: Metric, sample_name: str, samples: Samples) -> None:
        for labels, value in samples:
            family.add_sample(sample_name, {**self._labels, **labels}, value)
        if family.samples:
            self._families.append(family)


@dataclass(frozen=True)
class Counted:
    """A counter of the hub: its keys are (edge device, *parts), and `labels` show the parts."""

    name: str
    help: str
    counts: Callable[[EdgeHub], Mapping[Any, int]]
    labels: tuple[str, ...] = ("id",)
    fixed: Mapping[str, str] = field(default_factory=dict)

    def samples(self, hub: EdgeHub, device: str) -> Samples:
        """The samples of one edge device."""
        for (gateway, *parts), number in self.counts(hub).items():
            if gateway == device:
                yield {**self.fixed, **dict(zip(self.labels, map(str, parts), strict=True))}, number


COUNTED: Final = (
    Counted("edgehub_client_connect_success", "Accepted clients", lambda hub: hub.connections.connects),
    Counted(
        "edgehub_client_connect_failed",
        "Refused clients by CONNACK code",
        lambda hub: hub.connections.refusals,
        ("reason",),
    ),
    Counted("edgehub_client_disconnect", "Ended connections", lambda hub: hub.connections.disconnects),
    Counted(
        "edgehub_messages_received",
        "Messages from clients",
        lambda hub: hub.router.counts.received,
        ("id", "route_output"),
    ),
    Counted(
        "edgehub_gettwin", "Twin reads", lambda hub: hub.router.counts.twin_gets, fixed={"source": "edge_hub"}
    ),
    Counted(
        "edgehub_reported_properties",
        "Accepted reported patches",
        lambda hub: hub.router.counts.reported,
        fixed={"target": "edge_hub"},
    ),
)


def _sent(hub: EdgeHub, device: str) -> Samples:
    for delivery in hub.router.deliveries(device):
        for (name, priority), number in delivery.sent.items():
            labels = {"to": str(delivery.identity), "to_route_input": name, "priority": str(priority)}
            yield labels, number


def _waiting(hub: EdgeHub, device: str) -> Samples:
    for delivery in hub.router.deliveries(device):
        for priority, number in delivery.queue.lengths().items():
            yield {"endpoint": str(delivery.identity), "priority": str(priority)}, number


def _module_starts(reported: Mapping[str, Any]) -> Samples:
    for section in ("systemModules", "modules"):
        for name, module in _objects(reported.get(section)).items():
            labels = {"module_name": name, "module_version": str(module.get("version", ""))}
            yield labels, _starts(module)


def _starts(module: Mapping[str, Any]) -> int:
    restarts = module.get("restartCount")
    ever = module.get("statusDescription") != "not started"
    return int(restarts) + ever if isinstance(restarts, int) else int(ever)


def _add_host(page: _Page, folder: Path) -> None:
    """The machine as a whole: /proc, and the disk under the simulator's folder."""
    disk, memory = shutil.disk_usage(folder), _meminfo()
    disk_labels, host = {"disk_name": str(folder)}, {"module_name": "host"}
    uptime = float(_first_word(Path("/proc/uptime")) or "nan")
    page.gauge("edgeAgent_host_uptime_seconds", "Seconds since the machine started", [({}, uptime)])
    page.gauge("edgeAgent_available_disk_space_bytes", "Free disk space", [(disk_labels, disk.free)])
    page.gauge("edgeAgent_total_disk_space_bytes", "Disk space", [(disk_labels, disk.total)])
    if {"MemTotal", "MemAvailable"} <= memory.keys():
        used = memory["MemTotal"] - memory["MemAvailable"]
        page.gauge("edgeAgent_total_memory_bytes", "Memory", [(host, memory["MemTotal"])])
        page.gauge("edgeAgent_used_memory_bytes", "Memory that is not available", [(host, used)])


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; empty on systems without it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":") for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs if value.endswith("kB")}


def _first_word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").split()[0]
    except OSError:
        return ""


def _objects(section: object) -> dict[str, Mapping[str, Any]]:
    if not isinstance(section, Mapping):
        return {}
    return {str(name): value for name, value in section.items() if isinstance(value, Mapping)}
