"""One hop through a broker, by two raw MQTT clients in a process of their own: how long, how many a second.

    python -m twinship.bench.scenarios.hub.hop < order.json > figures.json

Knows no broker: where to connect, as whom and between which topics is in the order. QoS 1 both ways, TLS 1.2
as the device SDK, TCP_NODELAY, and bodies that number the messages: one that is lost, doubled or out of order
ends the measurement. A hop is timed from the write of a PUBLISH to the arrival of the bytes of the same on
its way out: this client's TLS counts, its writing and reading of packets does not.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from twinship.bench import BenchFailed
from twinship.simulator.mqtt.connection import PacketReader
from twinship.simulator.mqtt.packets import Connack, Connect, Packet, Puback, Publish, Suback, Subscribe

PATIENCE_S = 60.0
NUMBER_BYTES = 8
#: Sent and not yet acknowledged; paho, and so the SDK, allows itself 20.
IN_FLIGHT = 20
P = TypeVar("P", bound=Packet)


@dataclass(frozen=True)
class Login:
    """One client's CONNECT."""

    client_id: str
    username: str
    password: str


@dataclass(frozen=True)
class Order:
    """What to measure. `pairs`: messages one at a time; `stream`: messages as fast as they are taken."""

    address: str
    port: int
    ca: str
    sender: Login
    receiver: Login
    publish_to: str
    subscribe_to: str
    body_bytes: int
    pairs: int
    stream: int
    watch: int | None = None  # a process whose memory is looked at
    warm_up: int = 0  # messages of the stream before the first look

    def to_json(self) -> str:
        """As it goes to the process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what to_json wrote."""
        parts: dict[str, Any] = json.loads(text)
        clients = {name: Login(**parts.pop(name)) for name in ("sender", "receiver")}
        return cls(**{**parts, **clients})


class Client:
    """A connection whose CONNECT was accepted. Raises BenchFailed, OSError."""

    def __init__(self, order: Order, login: Login) -> None:
        context = ssl.create_default_context(cafile=order.ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        plain = socket.create_connection((order.address, order.port), timeout=PATIENCE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = context.wrap_socket(plain, server_hostname=order.address)
        self._reader = PacketReader()
        self._packets: list[Packet] = []
        self.send(Connect(login.client_id, login.username, login.password.encode(), 60, True))
        if (code := self.next(Connack).code) != 0:
            raise BenchFailed(f"the broker refused {login.client_id} with CONNACK {code}")

    def send(self, packet: Packet) -> None:
        """Write a packet."""
        self.write(packet.encode())

    def write(self, data: bytes) -> None:
        """Write an encoded packet."""
        self._tls.sendall(data)

    def read(self, least: int = 1) -> bytes:
        """The next bytes that arrive, so many at least."""
        data = b""
        while len(data) < least:
            if not (piece := self._tls.recv(65536)):
                raise BenchFailed("the broker closed the connection")
            data += piece
        return data

    def next(self, kind: type[P], data: bytes = b"") -> P:
        """The next packet, which must be of this kind; `data`: what read() gave before."""
        self._packets += self._reader.feed(data)
        while not self._packets:
            self._packets += self._reader.feed(self.read())
        packet = self._packets.pop(0)
        if not isinstance(packet, kind):
            raise BenchFailed(f"the broker sent {packet!r:.100}")
        return packet


def measure(order: Order) -> dict[str, float]:
    """Latencies in ms of single messages, the rate of a stream, and how much the watched process grew."""
    sender, receiver = Client(order, order.sender), Client(order, order.receiver)
    receiver.send(Subscribe(1, ((order.subscribe_to, 1),)))
    receiver.next(Suback)
    messages = Messages(order)
    took = sorted(_pairs(sender, receiver, messages, order.pairs, order.body_bytes))
    figures = {
        "hop_p50_ms": round(took[len(took) // 2] * 1000, 3),
        "hop_p99_ms": round(took[len(took) * 99 // 100] * 1000, 3),
    }
    return figures | _stream(sender, receiver, messages, order)


class Messages:
    """Makes numbered messages and checks that they arrive in their order, each once."""

    def __init__(self, order: Order) -> None:
        self._topic = order.publish_to
        self._rest = bytes(order.body_bytes - NUMBER_BYTES)
        self._made = self._seen = 0

    def make(self) -> Publish:
        """The next one."""
        self._made += 1
        body = self._made.to_bytes(NUMBER_BYTES, "big") + self._rest
        return Publish(self._topic, body, 1, self._made % 0xFFFF + 1)

    def check(self, got: Publish) -> Puback:
        """Its PUBACK, if it is the one that must come now. Raises BenchFailed."""
        self._seen += 1
        if (number := int.from_bytes(got.body[:NUMBER_BYTES], "big")) != self._seen:
            raise BenchFailed(f"message {number} arrived in the place of {self._seen}")
        assert got.packet_id is not None
        return Puback(got.packet_id)


def _pairs(sender: Client, receiver: Client, messages: Messages, count: int, least: int) -> Iterator[float]:
    """Seconds from a PUBLISH on its way in to the same on its way out, nothing else under way."""
    for _ in range(count):
        message = messages.make().encode()
        begin = time.perf_counter()
        sender.write(message)
        data = receiver.read(least)
        yield time.perf_counter() - begin
        receiver.send(messages.check(receiver.next(Publish, data)))
        sender.next(Puback)


def _stream(sender: Client, receiver: Client, messages: Messages, order: Order) -> dict[str, float]:
    """As many as go through with IN_FLIGHT under way at the sender; the receiver takes one at a time."""
    for _ in range(min(IN_FLIGHT, order.stream)):
        sender.send(messages.make())
    memory, processor, begin = 0, time.process_time(), time.perf_counter()
    for number in range(order.stream):
        receiver.send(messages.check(receiver.next(Publish)))
        sender.next(Puback)
        if number + IN_FLIGHT < order.stream:
            sender.send(messages.make())
        if number == order.warm_up:
            memory = _resident(order.watch)
    elapsed = time.perf_counter() - begin
    return {
        "per_s": round(order.stream / elapsed),
        "growth_mb": round((_resident(order.watch) - memory) / 2**20, 1),
        # near 1 the figure would be the load's own, not the broker's
        "load_share": round((time.process_time() - processor) / elapsed, 2),
    }


def resident_bytes(pid: int) -> int:
    """What a process occupies in memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def _resident(pid: int | None) -> int:
    return 0 if pid is None else resident_bytes(pid)


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(measure(Order.from_json(sys.stdin.read()))))
    except (BenchFailed, OSError) as error:
        sys.exit(f"hop: {error}")
