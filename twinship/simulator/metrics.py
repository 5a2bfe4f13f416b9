"""The metrics of edgeHub and edgeAgent under their own names (ref 9), from what the hub counts anyway.

Nothing is rendered until somebody asks. Counted are connections, messages in and out, drops, twin calls,
direct methods and queue lengths; edgeAgent's are read from what `$edgeAgent` has reported and from /proc.

Missing, because nothing here measures them: every `..._duration_seconds` and `message_size_bytes`,
`messages_unack_total` (a storage failure ends the hub), `offline_...` (the cloud is in the same process),
`operation_retry_total`; of edgeAgent all but the names below. Labels that are missing for the same reason:
`from` and `from_route_output` of sent and dropped messages, `from` of direct methods, `id` of refused
clients. Drops are counted for the whole hub: with several edge devices each shows the sum. Reasons of drops
beyond edgeHub's two (no_route, ttl_expiry) say what edgeHub drops without counting.
"""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import EDGE_AGENT, NotFound, Registry

_ESCAPED: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(frozen=True)
class Family:
    """All samples of one name. `kind`: counter (then its name ends in `_total`) or gauge."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def text(families: Iterable[Family], labels: Mapping[str, str]) -> str:
    """The families that have samples, each sample with these labels as well."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            lines += [_line(family.name, {**labels, **own}, value) for own, value in family.samples]
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    written = ",".join(f'{key}="{label.translate(_ESCAPED)}"' for key, label in labels.items())
    return f"{name}{{{written}}} {_number(value)}"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN"
    return str(int(value)) if value == int(value) else repr(float(value))


Labelled = Iterable[tuple[Mapping[str, str], float]]


class Metrics:
    """What both runtime modules of each edge device would show at /metrics."""

    def __init__(self, registry: Registry, edge_hub: EdgeHub, folder: Path) -> None:
        self._registry = registry
        self._edge_hub = edge_hub
        self._folder = folder
        self._instance = str(uuid.uuid4())

    def edge_hub(self, device: str) -> str:
        """edgeHub's page for one edge device."""
        return text(_edge_hub(self._edge_hub, device), self._labels(device))

    def edge_agent(self, device: str) -> str:
        """edgeAgent's page for one edge device."""
        try:
            reported = self._registry.twin(Identity(device, EDGE_AGENT)).reported
        except NotFound:
            reported = {}
        return text([*_modules(reported), *_host(self._folder)], self._labels(device))

    def _labels(self, device: str) -> dict[str, str]:
        """The labels that every sample has."""
        return {
            "iothub": self._registry.hub_name,
            "edge_device": device,
            "instance_number": self._instance,
        }


def _edge_hub(hub: EdgeHub, device: str) -> list[Family]:
    sent, waiting, clients = _sent(hub, device), _waiting(hub, device), hub.connected_clients(device)
    dropped = [({"reason": reason}, n) for reason, n in hub.dropped.items()]
    methods = [({"to": str(to)}, n) for to, n in hub.counts.methods.items() if to.device == device]
    return [
        *(_counter(each.name, each.what, each.samples(hub, device)) for each in COUNTED),
        _counter("edgehub_messages_sent", "Messages that were acknowledged", sent),
        _counter("edgehub_messages_dropped", "Messages dropped, by reason", dropped),
        _counter("edgehub_direct_methods", "Direct method calls, answered or not", methods),
        _gauge("edgehub_connected_clients", "Clients on the line", [({}, clients)]),
        _gauge("edgehub_queue_length", "Messages that wait", waiting),
    ]


@dataclass(frozen=True)
class Counted:
    """What is counted by edge device and further parts of a key, and the labels that show these."""

    name: str
    what: str
    counts: Callable[[EdgeHub], Mapping[Any, int]]  # (edge device, *parts) -> how many
    labels: tuple[str, ...] = ("id",)
    fixed: Mapping[str, str] = field(default_factory=dict)

    def samples(self, hub: EdgeHub, device: str) -> Labelled:
        """Those of one edge device."""
        for (gateway, *parts), number in self.counts(hub).items():
            if gateway == device:
                yield {**self.fixed, **dict(zip(self.labels, map(str, parts), strict=True))}, number


COUNTED: Final = (
    Counted("edgehub_client_connect_success", "Clients let in", lambda hub: hub.connections.connects),
    Counted(
        "edgehub_client_connect_failed",
        "Clients refused, by CONNACK code",
        lambda hub: hub.connections.refusals,
        ("reason",),
    ),
    Counted("edgehub_client_disconnect", "Connections that ended", lambda hub: hub.connections.disconnects),
    Counted(
        "edgehub_messages_received",
        "Messages from clients",
        lambda hub: hub.counts.received,
        ("id", "route_output"),
    ),
    Counted("edgehub_gettwin", "Twins read", lambda hub: hub.counts.twin_gets, fixed={"source": "edge_hub"}),
    Counted(
        "edgehub_reported_properties",
        "Reported patches taken",
        lambda hub: hub.counts.reported,
        fixed={"target": "edge_hub"},
    ),
)


def _sent(hub: EdgeHub, device: str) -> Labelled:
    for delivery in hub.deliveries(device):
        for (name, priority), number in delivery.sent.items():
            labels = {"to": str(delivery.identity), "to_route_input": name, "priority": str(priority)}
            yield labels, number


def _waiting(hub: EdgeHub, device: str) -> Labelled:
    for delivery in hub.deliveries(device):
        for priority, number in delivery.queue.lengths().items():
            yield {"endpoint": str(delivery.identity), "priority": str(priority)}, number


def _modules(reported: Mapping[str, Any]) -> list[Family]:
    modules = {
        **_objects(reported.get("systemModules")),
        **_objects(reported.get("modules")),
    }
    starts = [
        ({"module_name": name, "module_version": str(module.get("version", ""))}, _starts(module))
        for name, module in modules.items()
    ]
    return [_counter("edgeAgent_module_start", "Starts of a module's process", starts)]


def _starts(module: Mapping[str, Any]) -> int:
    restarts = module.get("restartCount")
    ever = module.get("statusDescription") != "not started"
    return int(restarts) + ever if isinstance(restarts, int) else int(ever)


def _host(folder: Path) -> list[Family]:
    """The machine as a whole: /proc, and the disk under the simulator's folder."""
    disk, memory = shutil.disk_usage(folder), _meminfo()
    on_disk, host = {"disk_name": str(folder)}, {"module_name": "host"}
    uptime = float(_first_word(Path("/proc/uptime")) or "nan")
    families = [
        _gauge("edgeAgent_host_uptime_seconds", "Since the machine started", [({}, uptime)]),
        _gauge("edgeAgent_available_disk_space_bytes", "Free disk space", [(on_disk, disk.free)]),
        _gauge("edgeAgent_total_disk_space_bytes", "Disk space", [(on_disk, disk.total)]),
    ]
    if {"MemTotal", "MemAvailable"} <= memory.keys():
        used = memory["MemTotal"] - memory["MemAvailable"]
        families += [
            _gauge("edgeAgent_total_memory_bytes", "Memory", [(host, memory["MemTotal"])]),
            _gauge("edgeAgent_used_memory_bytes", "Memory that is not available", [(host, used)]),
        ]
    return families


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; empty where there is none."""
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


def _counter(name: str, what: str, samples: Labelled) -> Family:
    return Family(f"{name}_total", "counter", what, tuple(samples))


def _gauge(name: str, what: str, samples: Labelled) -> Family:
    return Family(name, "gauge", what, tuple(samples))
