"""An edgeHub without sockets: a clock turned by hand, links that keep what they are sent, raw clients."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinship.simulator import sas
from twinship.simulator.edge_hub.client import Client
from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.mqtt.connection import PacketReader
from twinship.simulator.mqtt.packets import Connect, Packet, Puback, Publish, Subscribe
from twinship.simulator.routing.routes import Routing
from twinship.simulator.store import Store

HUB, GATEWAY, EDGE, OTHER_EDGE = "hub.example", "gateway.example", "edge", "other"
NOW = 1_700_000_000.0


@dataclass
class Bell:
    """An alarm of ManualClock."""

    when: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Time that stands still until advance()."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._bells: list[Bell] = []

    def wall(self) -> float:
        return NOW + self.elapsed

    def mono(self) -> float:
        return self.elapsed

    def later(self, delay_s: float, callback: Callable[[], None]) -> Bell:
        self._bells.append(bell := Bell(self.elapsed + delay_s, callback))
        return bell

    def advance(self, seconds: float) -> None:
        """Let time pass, ringing on the way."""
        end = self.elapsed + seconds
        while due := [bell for bell in self._bells if not bell.cancelled and bell.when <= end]:
            bell = min(due, key=lambda each: each.when)
            self._bells.remove(bell)
            self.elapsed = max(self.elapsed, bell.when)
            bell.callback()
        self.elapsed = end


@dataclass
class RecordingLink:
    """A client's end of the line: what the hub sent, as packets, in order."""

    gateway: str | None = EDGE
    received: list[Packet] = field(default_factory=list)
    closed: str | None = None
    client: Client | None = None
    _reader: PacketReader = field(default_factory=PacketReader)

    def send(self, data: bytes) -> None:
        if self.closed is None:
            self.received += self._reader.feed(data)

    def close(self, reason: str) -> None:
        if self.closed is None:
            self.closed = reason
            if self.client is not None:
                self.client.closed()


class RawClient:
    """A module that sends packets by hand and acknowledges nothing by itself."""

    def __init__(self, client: Client, link: RecordingLink) -> None:
        self._client, self.link = client, link
        self._packet_id = 0

    def receive(self, packet: Packet) -> None:
        """Hand a packet to the hub."""
        self._client.receive(packet)

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        """SUBSCRIBE to filters."""
        self.receive(Subscribe(self._next_id(), tuple((each, qos) for each in filters)))

    def subscribe_inputs(self) -> None:
        """SUBSCRIBE to this module's inputs, as the SDK does."""
        identity = self._client.identity
        self.subscribe(f"devices/{identity.device}/modules/{identity.module}/inputs/#")

    def publish(self, topic: str, body: bytes = b"") -> int:
        """PUBLISH with QoS 1; returns the packet id."""
        packet_id = self._next_id()
        self.receive(Publish(topic, body, 1, packet_id))
        return packet_id

    def send(self, output: str, body: bytes, bag: str = "") -> int:
        """A message to an output; returns the packet id."""
        identity = self._client.identity
        bag = f"%24.on={output}" + (f"&{bag}" if bag else "")
        topic = f"devices/{identity.device}/modules/{identity.module}/messages/events/{bag}"
        return self.publish(topic, body)

    def acknowledge(self) -> None:
        """PUBACK the last message that came."""
        packet_id = self.messages[-1].packet_id
        assert packet_id is not None
        self.receive(Puback(packet_id))

    def drop(self) -> None:
        """Lose the connection."""
        self.link.close("dropped by the test")

    @property
    def messages(self) -> list[Publish]:
        """Everything that was published to this client."""
        return [packet for packet in self.link.received if isinstance(packet, Publish)]

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of messages()."""
        return [each.body for each in self.messages]

    @property
    def acknowledged(self) -> list[int]:
        """The packet ids that the hub has PUBACKed."""
        return [packet.packet_id for packet in self.link.received if isinstance(packet, Puback)]

    def _next_id(self) -> int:
        self._packet_id += 1
        return self._packet_id


class Edge:
    """A hub over a folder; restart() is what a process's end and a new one leave of it."""

    def __init__(self, folder: Path, settings: EdgeHubSettings | None = None) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self._settings = settings or EdgeHubSettings()
        self._routing = Routing()
        self.open()

    def open(self) -> None:
        """Start on what the folder holds."""
        self.store = Store(self.folder / "hub.sqlite")
        self.registry = Registry(self.store, HUB, self.clock.wall)
        self.hub = EdgeHub(
            self.registry,
            self.clock,
            gateways={EDGE: GATEWAY, OTHER_EDGE: "other.example"},
            upstream_path=self.folder / "upstream.jsonl",
            settings=self._settings,
        )
        self.hub.reconfigure(EDGE, self._routing)

    def restart(self) -> None:
        """Begin again from the disk, as after a kill: nothing is said to the parts of before."""
        self.open()

    def create(self, *modules: str) -> None:
        """The edge device and modules of it."""
        self.registry.create(Identity(EDGE), {"capabilities": {"iotEdge": True}})
        for module in modules:
            self.registry.create(Identity(EDGE, module), {})

    def route(self, **routes: str | Mapping[str, Any]) -> None:
        """Put routes in force."""
        self._routing = Routing.parse({"schemaVersion": "1.1", "routes": routes})
        self.hub.reconfigure(EDGE, self._routing)

    def connect_packet(self, module: str, *, clean: bool = False, ttl_s: int = 3600) -> Connect:
        """The CONNECT that the SDK would send."""
        identity = Identity(EDGE, module)
        keys = self.registry.keys(identity)
        assert keys is not None
        token = sas.sign(keys[0], identity.resource(HUB), int(self.clock.wall()) + ttl_s)
        username = f"{HUB}/{identity}/?api-version=2019-10-01&DeviceClientType=test"
        return Connect(str(identity), username, token.encode(), 60, clean)

    def connect(self, module: str, *, clean: bool = False) -> RawClient:
        """A connected client."""
        link = RecordingLink()
        link.client = self.hub.connect(self.connect_packet(module, clean=clean), link)
        return RawClient(link.client, link)

    def upstream(self) -> list[Any]:
        """The lines that have left for the cloud."""
        return [json.loads(line) for line in (self.folder / "upstream.jsonl").read_text().splitlines()]


def crash_image(folder: Path, image: Path) -> Path:
    """What is on the disk at this moment: what a kill would leave."""
    return Path(shutil.copytree(folder, image, ignore=shutil.ignore_patterns("*-shm")))


def into(module: str, input_name: str = "in", source: str = "/messages/*") -> str:
    """A route's text."""
    return f'FROM {source} INTO BrokeredEndpoint("/modules/{module}/inputs/{input_name}")'
