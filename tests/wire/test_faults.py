"""Every fault on the wire: what it does while it is on, and that it is over when it is switched off."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from tests.wire.raw_traffic import connected, message, receiving, store, take
from twinship.simulator.faults.client import NoControl, end_faults, set_fault, show_faults
from twinship.simulator.faults.control import control_path
from twinship.simulator.mqtt.packets import (
    NOT_AUTHORIZED,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
)
from twinship.simulator.workload.workload import socket_folder

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as started:
        started.deploy("sender", "receiver")
        yield started


@pytest.fixture
def hub(running: HubUnderTest) -> Iterator[HubUnderTest]:
    yield running
    end_faults(running.folder)


def ping_s(raw: RawModule) -> float:
    """How long a PINGREQ takes to be answered."""
    begin = time.monotonic()
    raw.send(Pingreq())
    raw.next(Pingresp)
    return time.monotonic() - begin


def test_the_control_socket_is_for_this_user_only(hub: HubUnderTest) -> None:
    """Mode 0600, and what is unknown or out of range is refused in one line with what there is."""
    mode = control_path(socket_folder(hub.folder)).stat().st_mode
    assert (stat.S_ISSOCK(mode), mode & 0o777) == (True, 0o600)
    for name, value in (("no-such", None), ("duplicate-delivery", 1.5), ("drop-connections", 1.0)):
        with pytest.raises(NoControl):
            set_fault(hub.folder, name, value)
    assert show_faults(hub.folder)["faults"] == {}


def test_the_verb_switches_on_and_off(hub: HubUnderTest) -> None:
    """`twinship fault NAME [VALUE]`; alone it lists; what is refused is one line and exit code 1."""

    def fault(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "twinship", "fault", *arguments, "--folder", str(hub.folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert json.loads(fault("late-twin", "0.5", "--json").stdout)["faults"] == {"late-twin": 0.5}
    assert "late-twin" in fault().stdout
    refused = fault("late twin/", "1")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert json.loads(fault("late-twin", "off", "--json").stdout)["faults"] == {}


def test_without_a_hub_the_cure_is_named(tmp_path: Path) -> None:
    """One line, not a traceback of sockets."""
    with pytest.raises(NoControl, match="twinship simulate"):
        show_faults(tmp_path)


def test_duplicate_delivery_doubles_messages_to_inputs(hub: HubUnderTest) -> None:
    """Two packets with two ids and one body; one again when it is over."""
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        set_fault(hub.folder, "duplicate-delivery")
        store(sender, 1, b"twice")
        first, second = take(receiver), take(receiver)
        assert (first.body, second.body, first.packet_id != second.packet_id) == (b"twice", b"twice", True)
        set_fault(hub.folder, "duplicate-delivery", 0)
        store(sender, 2, b"once")
        store(sender, 3, b"next")
        assert [take(receiver).body for _ in range(2)] == [b"once", b"next"]


def test_a_delayed_puback_comes_late_although_the_message_is_stored_and_delivered(hub: HubUnderTest) -> None:
    """The receiver has it before the sender knows; the end of the fault lets the PUBACK go at once."""
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        set_fault(hub.folder, "delay-puback", 3600)
        sender.send(message(1, b"stored"))
        assert take(receiver).body == b"stored"
        ping_s(sender)  # and no PUBACK came before the answer
        set_fault(hub.folder, "delay-puback", 0)
        assert sender.next(Puback) == Puback(1)
        set_fault(hub.folder, "delay-puback", 0.3)
        begin = time.monotonic()
        store(sender, 2, b"later")
        assert time.monotonic() - begin >= 0.3
        assert take(receiver).body == b"later"


def test_a_late_twin_is_answered_late(hub: HubUnderTest) -> None:
    """Nothing of it before the fault ends; then at once, and the next one without delay."""
    with connected(hub, "sender") as raw:
        raw.send(Subscribe(1, (("$iothub/twin/res/#", 0),)))
        raw.next(Suback)
        set_fault(hub.folder, "late-twin", 3600)
        raw.send(Publish("$iothub/twin/GET/?$rid=1", b" ", 1, 2))
        ping_s(raw)
        set_fault(hub.folder, "late-twin", 0)
        assert raw.next(Publish).topic.startswith("$iothub/twin/res/200/?$rid=1")
        assert raw.next(Puback) == Puback(2)


def test_dropped_connections_end_and_may_come_back(hub: HubUnderTest) -> None:
    """Every one ends; the session is there when its client returns."""
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        set_fault(hub.folder, "drop-connections")
        receiver.wait_closed()
        sender.wait_closed()
    with contextlib.closing(RawModule(hub)) as again:
        assert again.connect("receiver").session_present


def test_tokens_that_have_expired_close_and_keep_out(hub: HubUnderTest) -> None:
    """Connections end as at their token's time, CONNACK 5 answers new ones, until the clock is right."""
    with connected(hub, "sender") as sender:
        set_fault(hub.folder, "expire-tokens")
        sender.wait_closed()
    with contextlib.closing(RawModule(hub)) as late:
        assert late.connect("sender").code == NOT_AUTHORIZED
    set_fault(hub.folder, "expire-tokens", 0)
    with connected(hub, "sender") as sender:
        ping_s(sender)


def test_with_upstream_cut_the_edge_goes_on_and_the_cloud_gets_all_of_it_later(hub: HubUnderTest) -> None:
    """PUBACK and local delivery as ever, not a line upstream; in order, each once, when the cut is over."""
    before = len(hub.upstream())
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        set_fault(hub.folder, "cut-upstream")
        for number in range(1, 151):
            store(sender, number, b"%d" % number, "cloud", "&%24.ct=application%2Fjson&%24.ce=utf-8")
        store(sender, 151, b"local")
        assert take(receiver).body == b"local"
        assert len(hub.upstream()) == before
        set_fault(hub.folder, "cut-upstream", 0)
        wait_for(lambda: len(hub.upstream()) >= before + 150, "the lines upstream")
    assert [line["Body"] for line in hub.upstream()[before:]] == list(range(1, 151))


def test_a_black_hole_accepts_and_says_nothing(hub: HubUnderTest) -> None:
    """TCP connects, no handshake and no PINGRESP comes; after its end both do, on the old connection too."""
    with connected(hub, "sender") as sender:
        set_fault(hub.folder, "black-hole")
        sender.send(Pingreq())
        sender._socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sender.next(Pingresp)
        with socket.create_connection((hub.gateway, 8883), timeout=0.5) as plain:
            context = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))
            with pytest.raises(TimeoutError):
                context.wrap_socket(plain, server_hostname=hub.gateway)
        set_fault(hub.folder, "black-hole", 0)
        sender._socket.settimeout(60)
        assert sender.next(Pingresp)
        with connected(hub, "receiver") as new:
            ping_s(new)


def test_a_silent_black_hole_outlives_keep_alives_and_closes_nothing(hub: HubUnderTest) -> None:
    """One and a half keep-alives pass inside it; the connection is good afterwards."""
    with connected(hub, "sender", keep_alive_s=1) as sender:
        set_fault(hub.folder, "black-hole")
        threading.Event().wait(2.5)  # the fault is a silence of this length: there is no event in it
        set_fault(hub.folder, "black-hole", 0)
        ping_s(sender)


def test_a_link_delay_is_felt_each_way(hub: HubUnderTest) -> None:
    """A round trip takes twice the delay while it is on."""
    with connected(hub, "sender") as sender:
        set_fault(hub.folder, "link-delay", 0.2)
        assert ping_s(sender) >= 0.4
        set_fault(hub.folder, "link-delay", 0)
        assert any(ping_s(sender) < 0.4 for _ in range(100))


def test_a_link_rate_bounds_the_bytes_each_way(hub: HubUnderTest) -> None:
    """50 kB at 50 kB/s take a second to be stored, and again one to be delivered."""
    body = bytes(50_000)
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        set_fault(hub.folder, "link-rate", 50_000)
        begin = time.monotonic()
        store(sender, 1, body)
        stored_s = time.monotonic() - begin
        assert take(receiver).body == body
        delivered_s = time.monotonic() - begin
        assert (stored_s >= 1.0, delivered_s >= 2.0) == (True, True)
        set_fault(hub.folder, "link-rate", 0)
        store(sender, 2, body)
        assert take(receiver).body == body


def test_a_slow_link_holds_the_sender_back_and_loses_nothing(hub: HubUnderTest) -> None:
    """What the link has not carried stays with the client: the hub takes little more on than its limit."""
    bodies = [bytes([number]) * 200_000 for number in range(5)]
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        set_fault(hub.folder, "link-rate", 500_000)

        def send() -> None:
            for at, body in enumerate(bodies):
                sender.send(message(at + 1, body))

        thread = threading.Thread(target=send)
        thread.start()
        got = [take(receiver).body for _ in bodies]
        thread.join(60)
        assert got == bodies
        assert [sender.next(Puback).packet_id for _ in bodies] == [1, 2, 3, 4, 5]


def test_a_hub_that_is_killed_by_its_fault_comes_back_with_no_fault(tmp_path: Path) -> None:
    """It answers, then ends as by kill -9; all faults ended with it, what was stored did not."""
    with running_hub(tmp_path) as hub:
        hub.deploy("sender", "receiver")
        with connected(hub, "sender") as sender:
            set_fault(hub.folder, "delay-puback", 0.01)
            store(sender, 1, b"kept")
            set_fault(hub.folder, "restart-hub")
            sender.wait_closed()
        hub.kill()  # it is dead already: this only takes note
        hub.start()
        assert show_faults(hub.folder)["faults"] == {}
        with receiving(hub) as receiver:
            assert take(receiver).body == b"kept"
