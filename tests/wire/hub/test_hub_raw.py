"""A raw client against the real hub process: behaviour that the SDK cannot show."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub
from tests.wire.raw_module import RawModule
from twinship.simulator.mqtt.packets import (
    NOT_AUTHORIZED,
    Connack,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
)

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub"), MessageAckTimeoutSecs="1") as running:
        running.deploy("sender", "receiver")
        yield running


@pytest.fixture
def raw(hub: HubUnderTest) -> Iterator[RawModule]:
    with contextlib.closing(RawModule(hub)) as module:
        yield module


def test_tls_1_3_is_accepted_and_1_1_is_not(hub: HubUnderTest) -> None:
    """1.2 and later; the SDK itself uses only 1.2 (ref 0)."""
    with contextlib.closing(RawModule(hub, ssl.TLSVersion.TLSv1_3)) as module:
        assert module.connect("sender").code == 0
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises(ssl.SSLError):
        RawModule(hub, ssl.TLSVersion.TLSv1_1)


def test_a_refused_connect_is_answered_and_closed(raw: RawModule) -> None:
    """CONNACK 5, then the end of the connection (ref 4.2)."""
    assert raw.connect("sender", password=b"SharedAccessSignature sr=a&sig=b&se=1") == Connack(NOT_AUTHORIZED)
    raw.wait_closed()


def test_a_silent_client_is_closed_at_one_and_a_half_keep_alives(raw: RawModule) -> None:
    """A PINGREQ is answered and restarts the time (ref statement 21)."""
    raw.connect("sender", keep_alive_s=1)
    begin = time.monotonic()
    raw.send(Pingreq())
    raw.next(Pingresp)
    raw.wait_closed()
    assert time.monotonic() - begin >= 1.5


def test_an_expired_token_ends_the_connection(raw: RawModule) -> None:
    """Also while the client sends packets (ref statement 9)."""
    raw.connect("sender", ttl_s=2)
    raw.wait_closed()


def test_a_newer_connection_closes_the_older(hub: HubUnderTest, raw: RawModule) -> None:
    """Both connections have the same identity (ref statement 20)."""
    raw.connect("sender")
    with contextlib.closing(RawModule(hub)) as newer:
        newer.connect("sender")
        raw.wait_closed()
        newer.send(Pingreq())
        newer.next(Pingresp)


@pytest.mark.parametrize("data", [b"\x00\x00", Publish("a", b"", 2, 1).encode(), b"\x30\xff\xff\xff\x7f"])
def test_a_protocol_error_ends_only_its_own_connection(hub: HubUnderTest, data: bytes) -> None:
    """Garbage, QoS 2, a packet larger than the limit (ref statement 22, statement 36)."""
    with contextlib.closing(RawModule(hub)) as good, contextlib.closing(RawModule(hub)) as bad:
        good.connect("sender")
        bad.connect("receiver")
        bad._socket.sendall(data)
        bad.wait_closed()
        good.send(Pingreq())
        good.next(Pingresp)


def test_a_message_without_a_puback_is_sent_again(hub: HubUnderTest, raw: RawModule) -> None:
    """After MessageAckTimeoutSecs with DUP, and before any other message (ref statement 39)."""
    raw.connect("receiver")
    raw.send(Subscribe(1, ((f"devices/{DEVICE}/modules/receiver/inputs/#", 1),)))
    raw.next(Suback)
    with contextlib.closing(RawModule(hub)) as sender:
        sender.connect("sender")
        topic = f"devices/{DEVICE}/modules/sender/messages/events/%24.on=work"
        for number in (1, 2):
            sender.send(Publish(topic, b"%d" % number, 1, number))
            assert sender.next(Puback) == Puback(number)
    first, again = raw.next(Publish), raw.next(Publish)
    assert (first.body, first.dup, again.body, again.dup) == (b"1", False, b"1", True)
    assert first.packet_id is not None
    raw.send(Puback(first.packet_id))
    while (second := raw.next(Publish)).body == b"1":
        assert second.dup  # the PUBACK took another second
    assert second.body == b"2"
    assert second.packet_id is not None
    raw.send(Puback(second.packet_id))


def test_an_address_in_use_is_named_with_the_remedy(hub: HubUnderTest, tmp_path: Path) -> None:
    """One line on stderr, exit status 1."""
    command = [sys.executable, "-m", "twinship.simulator.hub", "--folder", str(tmp_path / "other")]
    command += ["--hub-address", hub.hub_address, "--edge", f"{DEVICE}={hub.gateway}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1
    assert f"{hub.hub_address}:8883" in last
    assert "stop it" in last


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--hub-address", "127.9.9.9", "--edge", "d=127.9.9.9"], "different addresses"),
        (["--hub-address", "0.0.0.0", "--edge", "d=127.9.9.9"], "not a loopback address"),
        (["--hub-address", "127.9.9.9", "--edge", "127.9.9.8"], "DEVICE=IP"),
        (["--hub-address", "127.9.9.9", "--edge", "d=127.9.9.8", "--delivery-window", "0"], "at least 1"),
    ],
)
def test_invalid_options_are_refused_in_one_line(
    options: list[str], word: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Before the hub opens anything."""
    from twinship.simulator.hub import main

    assert main(["--folder", str(tmp_path), *options]) == 1
    assert word in capsys.readouterr().err.splitlines()[-1]


def test_two_hubs_do_not_share_a_folder(hub: HubUnderTest) -> None:
    """Two writers of one upstream file would write lines twice."""
    command = [sys.executable, "-m", "twinship.simulator.hub", "--folder", str(hub.folder)]
    command += ["--hub-address", "127.200.1.1", "--edge", "d=127.200.1.2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "another hub runs in" in ended.stderr
