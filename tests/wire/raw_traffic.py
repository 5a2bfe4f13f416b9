"""Common steps with a raw client: send and wait for the PUBACK, receive and acknowledge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.wire.hub_under_test import DEVICE, HubUnderTest
from tests.wire.raw_module import RawModule
from twinship.simulator.mqtt.packets import Disconnect, Puback, Publish, Suback, Subscribe


@contextlib.contextmanager
def connected(hub: HubUnderTest, module: str, **options: int) -> Iterator[RawModule]:
    """A raw client whose CONNECT was accepted."""
    with contextlib.closing(RawModule(hub)) as raw:
        assert raw.connect(module, **options).code == 0  # type: ignore[arg-type]
        yield raw
        with contextlib.suppress(OSError):  # the hub must read the last PUBACK before the connection ends
            raw.send(Disconnect())
            raw.wait_closed()


@contextlib.contextmanager
def receiving(hub: HubUnderTest, module: str = "receiver") -> Iterator[RawModule]:
    """A raw client that has subscribed to its inputs."""
    with connected(hub, module) as raw:
        listen(raw, module)
        yield raw


def listen(raw: RawModule, module: str = "receiver") -> None:
    """SUBSCRIBE to the inputs; next() returns messages that arrive before the SUBACK."""
    raw.send(Subscribe(1, ((f"devices/{DEVICE}/modules/{module}/inputs/#", 1),)))
    early: list[Publish] = []
    either: Any = (Publish, Suback)
    while isinstance(
        packet := raw.next(either), Publish
    ):  # a present session sends without waiting for the SUBACK
        early.append(packet)
    raw._packets[:0] = early


def message(number: int, body: bytes, output: str = "work", bag: str = "", *, dup: bool = False) -> Publish:
    """A PUBLISH of module `sender`; `bag`: more properties, encoded, with a leading &."""
    topic = f"devices/{DEVICE}/modules/sender/messages/events/%24.on={output}{bag}"
    return Publish(topic, body, 1, number, dup)


def store(raw: RawModule, number: int, body: bytes, output: str = "work", bag: str = "") -> None:
    """Send a message and wait until it is acknowledged."""
    raw.send(message(number, body, output, bag))
    assert raw.next(Puback) == Puback(number)


def take(raw: RawModule) -> Publish:
    """Receive the next message to an input and acknowledge it."""
    got = raw.next(Publish)
    assert got.packet_id is not None
    raw.send(Puback(got.packet_id))
    return got
