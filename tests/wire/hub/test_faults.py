"""Every fault: its effect while it is on, and no effect after it is switched off."""

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
    """Seconds from a PINGREQ to its answer."""
    begin = time.monotonic()
    raw.send(Pingreq())
    raw.next(Pingresp)
    return time.monotonic() - begin


def test_the_control_socket_is_for_this_user_only(hub: HubUnderTest) -> None:
    """Mode 0600; an unknown fault or a value out of range is refused in one line that lists the faults."""
    mode = control_path(socket_folder(hub.folder)).stat().st_mode
    assert (stat.S_ISSOCK(mode), mode & 0o777) == (True, 0o600)
    for name, value in (("no-such", None), ("duplicate-delivery", 1.5), ("drop-connections", 1.0)):
        with pytest.raises(NoControl):
            set_fault(hub.folder, name, value)
    assert show_faults(hub.folder)["faults"] == {}


def test_the_command_switches_faults_on_and_off(hub: HubUnderTest) -> None:
    """`twinship fault NAME [VALUE]`; without a name it lists; a refusal of the hub is exit code 1."""

    def fault(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "twinship", "fault", *arguments, "--folder", str(hub.folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert json.loads(fault("late-twin", "0.5", "--json").stdout)["faults"] == {"late-twin": 0.5}
    assert "late-twin" in fault().stdout
    for name, value, code in (("late twin/", "1", 2), ("duplicate-delivery", "1.5", 1)):
        refused = fault(name, value)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (code, 1)
    assert json.loads(fault("late-twin", "off", "--json").stdout)["faults"] == {}


def test_without_a_hub_the_remedy_is_named(tmp_path: Path) -> None:
    """In one line and without a traceback."""
    with pytest.raises(NoControl, match="twinship simulate"):
        show_faults(tmp_path)


def test_duplicate_delivery_doubles_messages_to_inputs(hub: HubUnderTest) -> None:
    """Two packets with two ids and one body; after the fault one packet."""
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        set_fault(hub.folder, "duplicate-delivery")
        store(sender, 1, b"twice")
        first, second = take(receiver), take(receiver)
        assert (first.body, second.body, first.packet_id != second.packet_id) == (b"twice", b"twice", True)
        set_fault(hub.folder, "duplicate-delivery", 0)
        store(sender, 2, b"once")
        store(sender, 3, b"next")
        assert [take(receiver).body for _ in range(2)] == [b"once", b"next"]


def test_a_delayed_puback_does_not_delay_the_delivery(hub: HubUnderTest) -> None:
    """The receiver gets the message before the sender gets the PUBACK, which the end of the fault sends."""
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
    """The answer comes when the fault ends, and the next one without delay."""
    with connected(hub, "sender") as raw:
        raw.send(Subscribe(1, (("$iothub/twin/res/#", 0),)))
        raw.next(Suback)
        set_fault(hub.folder, "late-twin", 3600)
        raw.send(Publish("$iothub/twin/GET/?$rid=1", b" ", 1, 2))
        ping_s(raw)
        set_fault(hub.folder, "late-twin", 0)
        assert raw.next(Publish).topic.startswith("$iothub/twin/res/200/?$rid=1")
        assert raw.next(Puback) == Puback(2)


def test_dropped_connections_may_reconnect(hub: HubUnderTest) -> None:
    """Every connection ends; the session is present when its client reconnects."""
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        set_fault(hub.folder, "drop-connections")
        receiver.wait_closed()
        sender.wait_closed()
    with contextlib.closing(RawModule(hub)) as again:
        assert again.connect("receiver").session_present


def test_expired_tokens_close_and_refuse_connections(hub: HubUnderTest) -> None:
    """Connections end, and new ones get CONNACK 5 until the fault ends."""
    with connected(hub, "sender") as sender:
        set_fault(hub.folder, "expire-tokens")
        sender.wait_closed()
    with contextlib.closing(RawModule(hub)) as late:
        assert late.connect("sender").code == NOT_AUTHORIZED
    set_fault(hub.folder, "expire-tokens", 0)
    with connected(hub, "sender") as sender:
        ping_s(sender)


def test_with_upstream_cut_the_cloud_gets_all_messages_later(hub: HubUnderTest) -> None:
    """PUBACK and local delivery continue; after the fault each message is upstream once, in order."""
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


def test_a_black_hole_accepts_and_never_answers(hub: HubUnderTest) -> None:
    """TCP connects; TLS and PINGRESP come only after the fault, also on the old connection."""
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


def test_a_black_hole_closes_no_connection(hub: HubUnderTest) -> None:
    """It lasts longer than one and a half keep-alives, and the connection works afterwards."""
    with connected(hub, "sender", keep_alive_s=1) as sender:
        set_fault(hub.folder, "black-hole")
        threading.Event().wait(2.5)  # the fault is a silence of this length: there is no event in it
        set_fault(hub.folder, "black-hole", 0)
        ping_s(sender)


def test_a_link_delay_applies_in_each_direction(hub: HubUnderTest) -> None:
    """A round trip takes twice the delay while it is on."""
    with connected(hub, "sender") as sender:
        set_fault(hub.folder, "link-delay", 0.2)
        assert ping_s(sender) >= 0.4
        set_fault(hub.folder, "link-delay", 0)
        assert any(ping_s(sender) < 0.4 for _ in range(100))


def test_a_link_rate_applies_in_each_direction(hub: HubUnderTest) -> None:
    """50 kB at 50 kB/s take one second to be stored and another to be delivered."""
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


def test_a_slow_link_slows_the_sender_and_loses_nothing(hub: HubUnderTest) -> None:
    """Bytes wait at the client: the hub accepts little more than its limit."""
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


def test_a_hub_killed_by_a_fault_restarts_without_faults(tmp_path: Path) -> None:
    """It answers, then ends as by kill -9; the faults end with it, stored messages do not."""
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
