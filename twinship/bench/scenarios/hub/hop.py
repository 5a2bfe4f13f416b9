"""One hop through a broker, measured by two raw MQTT clients in a process of their own: latency and rate.

    python -m twinship.bench.scenarios.hub.hop < task.json > figures.json

The task names the broker, the logins and the topics. The clients use QoS 1 both ways, TLS 1.2 as the device
SDK, and TCP_NODELAY. Bodies number the messages: a lost, repeated or reordered message ends the measurement.
A hop is timed from writing a PUBLISH to reading its bytes on the receiver's socket: it includes this client's
TLS, but not its encoding and decoding of packets.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeVar

from twinship.bench import BenchFailed
from twinship.bench.rig.memory import resident_mb
from twinship.simulator.mqtt.connection import PacketReader
from twinship.simulator.mqtt.packets import Connack, Connect, Packet, Puback, Publish, Suback, Subscribe

PATIENCE_S = 60.0
NUMBER_BYTES = 8
STAMP_BYTES = 8
#: Messages sent and not yet acknowledged; paho, and so the SDK, allows 20.
IN_FLIGHT = 20
P = TypeVar("P", bound=Packet)


@dataclass(frozen=True)
class Login:
    """One client's CONNECT."""

    client_id: str
    username: str
    password: str


@dataclass(frozen=True)
class Task:
    """What to measure. `pairs`: messages one at a time; `stream`: messages at the maximum rate."""

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
    pairs_per_s: float = 0.0  # at most so many pairs a second; 0: as fast as they are acknowledged
    watch: int | None = None  # a process whose memory is measured
    warm_up: int = 0  # messages of the stream before its memory is first measured

    def to_json(self) -> str:
        """The text for the process's stdin."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the result of to_json."""
        fields: dict[str, Any] = json.loads(text)
        logins = {name: Login(**fields.pop(name)) for name in ("sender", "receiver")}
        return cls(**{**fields, **logins})


class Client:
    """A connected MQTT client. Raises BenchFailed, OSError."""

    def __init__(self, task: Task, login: Login) -> None:
        context = ssl.create_default_context(cafile=task.ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        plain = socket.create_connection((task.address, task.port), timeout=PATIENCE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = context.wrap_socket(plain, server_hostname=task.address)
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
        """Read at least so many bytes."""
        data = b""
        while len(data) < least:
            if not (received := self._tls.recv(65536)):
                raise BenchFailed("the broker closed the connection")
            data += received
        return data

    def next(self, kind: type[P], data: bytes = b"") -> P:
        """The next packet, which must be of this kind. `data` is the result of an earlier read()."""
        self._packets += self._reader.feed(data)
        while not self._packets:
            self._packets += self._reader.feed(self.read())
        packet = self._packets.pop(0)
        if not isinstance(packet, kind):
            raise BenchFailed(f"the broker sent {packet!r:.100}")
        return packet


def measure(task: Task) -> dict[str, float]:
    """Latency of single messages in ms, the rate of a stream, and the growth of the watched process."""
    sender, receiver = Client(task, task.sender), Client(task, task.receiver)
    receiver.send(Subscribe(1, ((task.subscribe_to, 1),)))
    receiver.next(Suback)
    messages, begin = Messages(task), time.perf_counter()
    took = sorted(_pairs(sender, receiver, messages, task))
    figures = {
        "pairs_per_s": round(task.pairs / (time.perf_counter() - begin)),
        "hop_p50_ms": round(took[len(took) // 2] * 1000, 3),
        "hop_p99_ms": round(took[len(took) * 99 // 100] * 1000, 3),
    }
    return figures | _stream(sender, receiver, messages, task)


class Messages:
    """Numbers messages and checks that each arrives once and in order. A body has the time of sending too."""

    def __init__(self, task: Task) -> None:
        self._topic = task.publish_to
        self._rest = bytes(task.body_bytes - NUMBER_BYTES - STAMP_BYTES)
        self._made = self._seen = 0

    def make(self) -> Publish:
        """The next message."""
        self._made += 1
        stamp = time.monotonic_ns().to_bytes(STAMP_BYTES, "big")
        body = self._made.to_bytes(NUMBER_BYTES, "big") + stamp + self._rest
        return Publish(self._topic, body, 1, self._made % 0xFFFF + 1)

    def check(self, got: Publish) -> Puback:
        """The PUBACK for a message. Raises BenchFailed if it is not the next in order."""
        self._seen += 1
        if (number := int.from_bytes(got.body[:NUMBER_BYTES], "big")) != self._seen:
            raise BenchFailed(f"message {number} arrived instead of {self._seen}")
        assert got.packet_id is not None
        return Puback(got.packet_id)


def sent_at(body: bytes) -> int:
    """When the message was made, monotonic ns."""
    return int.from_bytes(body[NUMBER_BYTES : NUMBER_BYTES + STAMP_BYTES], "big")


def _pairs(sender: Client, receiver: Client, messages: Messages, task: Task) -> Iterator[float]:
    """Seconds of each hop, with one message at a time."""
    pause = 1 / task.pairs_per_s if task.pairs_per_s else 0.0
    due = time.perf_counter()
    for _ in range(task.pairs):
        if pause:
            due = max(due + pause, time.perf_counter())
            time.sleep(max(due - time.perf_counter(), 0.0))
        message = messages.make().encode()
        begin = time.perf_counter()
        sender.write(message)
        data = receiver.read(task.body_bytes)
        yield time.perf_counter() - begin
        receiver.send(messages.check(receiver.next(Publish, data)))
        sender.next(Puback)


def _stream(sender: Client, receiver: Client, messages: Messages, task: Task) -> dict[str, float]:
    """The maximum rate with IN_FLIGHT messages under way at the sender; the receiver takes one at a time."""
    for _ in range(min(IN_FLIGHT, task.stream)):
        sender.send(messages.make())
    memory_mb, processor, begin = 0.0, time.process_time(), time.perf_counter()
    for number in range(task.stream):
        receiver.send(messages.check(receiver.next(Publish)))
        sender.next(Puback)
        if number + IN_FLIGHT < task.stream:
            sender.send(messages.make())
        if number == task.warm_up:
            memory_mb = _resident_mb(task.watch)
    elapsed = time.perf_counter() - begin
    return {
        "per_s": round(task.stream / elapsed),
        "growth_mb": round(_resident_mb(task.watch) - memory_mb, 1),
        # near 1, these clients and not the broker limit the rate
        "load_share": round((time.process_time() - processor) / elapsed, 2),
    }


def _resident_mb(pid: int | None) -> float:
    return 0.0 if pid is None else resident_mb(pid)


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(measure(Task.from_json(sys.stdin.read()))))
    except (BenchFailed, OSError) as error:
        sys.exit(f"hop: {error}")
