"""Idle and very slow connections: the hub still serves the modules."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from tests.wire.raw_traffic import connected, receiving, store, take
from twinship.simulator.mqtt.packets import Connect, Pingreq, Pingresp

pytestmark = pytest.mark.e2e

STRANGERS = 1000
TLS_BUFFER_BYTES = 256 << 10
MAX_GROWTH_BYTES = 300 << 20  # what a thousand TLS connections may cost the hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubUnderTest]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = STRANGERS + 200  # on each side
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this system allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        with running_hub(tmp_path) as running:
            running.deploy("sender", "receiver")
            yield running
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_bytes(hub: HubUnderTest) -> int:
    """The memory of the hub process."""
    pid = json.loads((hub.folder / "endpoints.json").read_text())["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def test_a_thousand_idle_connections_do_not_block_the_modules(hub: HubUnderTest) -> None:
    """They only open TLS: a module connects, sends and receives, and the memory stays bounded."""
    before = resident_bytes(hub)
    context = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))
    with contextlib.ExitStack() as idle:
        for _ in range(STRANGERS):
            plain = idle.enter_context(socket.create_connection((hub.gateway, 8883), timeout=60))
            idle.enter_context(context.wrap_socket(plain, server_hostname=hub.gateway))
        with receiving(hub) as receiver, connected(hub, "sender") as sender:
            for number in range(1, 101):
                store(sender, number, b"%d" % number)
                assert take(receiver).body == b"%d" % number
        assert resident_bytes(hub) - before < MAX_GROWTH_BYTES


def test_a_slow_loris_is_closed_and_blocks_no_one(hub: HubUnderTest) -> None:
    """A connection that never begins TLS is closed; a CONNECT that arrives slowly is accepted."""
    with contextlib.ExitStack() as slow:
        silent = slow.enter_context(socket.create_connection((hub.gateway, 8883), timeout=60))
        dribblers = [slow.enter_context(contextlib.closing(RawModule(hub))) for _ in range(20)]
        connect = Connect("edge/sender", "x" * 200, b"", 60).encode()
        with connected(hub, "sender") as good:
            for byte in connect[:20]:
                for dribbler in dribblers:
                    dribbler._socket.sendall(bytes((byte,)))
                good.send(Pingreq())
                good.next(Pingresp)
        assert silent.recv(1) == b""


def test_memory_of_ended_connections_goes_back_to_the_system(hub: HubUnderTest) -> None:
    """Also if a younger connection stays: holes in the heap would remain resident."""
    context = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))

    def opened() -> ssl.SSLSocket:
        plain = socket.create_connection((hub.gateway, 8883), timeout=60)
        return context.wrap_socket(plain, server_hostname=hub.gateway)

    opened().close()
    before = resident_bytes(hub)
    connections = [opened() for _ in range(100)]
    with connections.pop():
        assert resident_bytes(hub) - before > 100 * TLS_BUFFER_BYTES / 2
        for connection in connections:
            connection.close()
        wait_for(
            lambda: resident_bytes(hub) - before < 100 * TLS_BUFFER_BYTES / 2,
            "the hub to give back the memory of ended connections",
        )
