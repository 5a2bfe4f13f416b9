"""An edgeHub without sockets: a manual clock, links that record packets, raw clients."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping
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
class ManualAlarm:
    """An alarm of ManualClock."""

    when: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """A clock that stands still until advance()."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._alarms: list[ManualAlarm] = []

    def wall(self) -> float:
        return NOW + self.elapsed

    def mono(self) -> float:
        return self.elapsed

    def later(self, delay_s: float, callback: Callable[[], None]) -> ManualAlarm:
        self._alarms.append(alarm := ManualAlarm(self.elapsed + delay_s, callback))
        return alarm

    def advance(self, seconds: float) -> None:
        """Let time pass and run the alarms that are due."""
        end = self.elapsed + seconds
        while due := [alarm for alarm in self._alarms if not alarm.cancelled and alarm.when <= end]:
            alarm = min(due, key=lambda each: each.when)
            self._alarms.remove(alarm)
            self.elapsed = max(self.elapsed, alarm.when)
            alarm.callback()
        self.elapsed = end


@dataclass
class RecordingLink:
    """A client's end of a connection; it records the packets that the hub sends."""

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
    """A module whose packets the test sends; it acknowledges nothing automatically."""

    def __init__(self, client: Client, link: RecordingLink) -> None:
        self._client, self.link = client, link
        self._packet_id = 0

    def receive(self, packet: Packet) -> None:
        """Send a packet to the hub."""
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
        """Send a message to an output; returns the packet id."""
        identity = self._client.identity
        bag = f"%24.on={output}" + (f"&{bag}" if bag else "")
        topic = f"devices/{identity.device}/modules/{identity.module}/messages/events/{bag}"
        return self.publish(topic, body)

    def acknowledge(self) -> None:
        """PUBACK the last received message."""
        packet_id = self.messages[-1].packet_id
        assert packet_id is not None
        self.receive(Puback(packet_id))

    def drop(self) -> None:
        """Lose the connection."""
        self.link.close("dropped by the test")

    @property
    def messages(self) -> list[Publish]:
        """All messages that this client received."""
        return [packet for packet in self.link.received if isinstance(packet, Publish)]

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of `messages`."""
        return [each.body for each in self.messages]

    @property
    def acknowledged(self) -> list[int]:
        """The packet ids that the hub has PUBACKed."""
        return [packet.packet_id for packet in self.link.received if isinstance(packet, Puback)]

    def _next_id(self) -> int:
        self._packet_id += 1
        return self._packet_id


class Edge:
    """A hub with its state in a folder."""

    def __init__(self, folder: Path, settings: EdgeHubSettings | None = None) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self._settings = settings or EdgeHubSettings()
        self._routing = Routing()
        self.open()

    def open(self) -> None:
        """Start from the state in the folder."""
        self.store = Store(self.folder / "hub.sqlite")
        self.registry = Registry(self.store, HUB, self.clock.wall)
        self.hub = EdgeHub(
            self.registry,
            self.clock,
            gateways={EDGE: GATEWAY, OTHER_EDGE: "other.example"},
            upstream_path=self.folder / "upstream.jsonl",
            settings=self._settings,
        )
        self.hub.router.reconfigure(EDGE, self._routing)

    def restart(self) -> None:
        """Start again from the disk, as after a kill: the old objects are not closed."""
        self.open()

    def create(self, *modules: str) -> None:
        """Create the edge device and its modules."""
        self.registry.create(Identity(EDGE), {"capabilities": {"iotEdge": True}})
        for module in modules:
            self.registry.create(Identity(EDGE, module), {})

    def route(self, **routes: str | Mapping[str, Any]) -> None:
        """Apply routes."""
        self._routing = Routing.parse({"schemaVersion": "1.1", "routes": routes})
        self.hub.router.reconfigure(EDGE, self._routing)

    def connect_packet(self, module: str, *, clean: bool = False, ttl_s: int = 3600) -> Connect:
        """The CONNECT of the SDK."""
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
        """The messages in upstream.jsonl."""
        return [json.loads(line) for line in (self.folder / "upstream.jsonl").read_text().splitlines()]


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond this size: writes end short, then fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def crash_image(folder: Path, image: Path) -> Path:
    """A copy of the folder as a kill at this moment leaves it."""
    return Path(shutil.copytree(folder, image, ignore=shutil.ignore_patterns("*-shm")))


def into(module: str, input_name: str = "in", source: str = "/messages/*") -> str:
    """A route's text."""
    return f'FROM {source} INTO BrokeredEndpoint("/modules/{module}/inputs/{input_name}")'
