"""Statements 16 to 26: sessions over reconnects, restarts and takeovers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.peers.tap import Tap, tapping
from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from tests.wire.raw_traffic import connected
from tests.wire.sdk_module import SdkError, SdkModule
from twinship.simulator.identity import Identity
from twinship.simulator.mqtt.packets import (
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
)

pytestmark = [pytest.mark.conformance, pytest.mark.e2e]

RETRY_S = 1  # connection_retry_interval of SdkModule
RECEIVER = Identity(DEVICE, "receiver")
TWIN = f"/twins/{DEVICE}/modules/receiver"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy("sender", "receiver")
        yield running


@pytest.fixture
def tap(hub: HubUnderTest) -> Iterator[Tap]:
    with tapping(hub) as tap:
        yield tap


def test_16_only_the_first_session_is_new(hub: HubUnderTest) -> None:
    """Session present 0, then 1, and 1 after a kill of the hub; a clean session is always new."""
    identity = Identity(DEVICE, "fresh")
    key = hub.create(identity)[0]

    def answer(*, clean: bool = False) -> Connack:
        with contextlib.closing(RawModule(hub)) as raw:
            return raw.connect_as(identity, key, clean=clean)

    assert [answer(), answer()] == [Connack(0, False), Connack(0, True)]
    hub.kill()
    hub.start()
    assert answer() == Connack(0, True)
    assert [answer(clean=True), answer()] == [Connack(0, False), Connack(0, False)]


def test_17_after_a_dropped_connection_subscriptions_still_work(hub: HubUnderTest, tap: Tap) -> None:
    """Inputs, methods, desired patches and twin answers arrive without a new SUBSCRIBE."""
    _reconnects(hub, tap, tap.drop)


def test_18_after_a_restart_of_the_hub_subscriptions_still_work(hub: HubUnderTest, tap: Tap) -> None:
    """After kill -9 the new process reads the subscriptions from the disk."""

    def restart() -> None:
        hub.kill()
        hub.start()

    _reconnects(hub, tap, restart)


def test_19_get_twin_works_at_once_after_a_dropped_connection(hub: HubUnderTest, tap: Tap) -> None:
    """Called at the moment of the reconnect, several times."""
    with hub.module("receiver", _through(hub, tap)) as receiver:
        version = receiver.call("get_twin")["desired"]["$version"]
        for _ in range(3):
            before = len(tap.packets(Connack))
            tap.drop()
            tap.wait_for(Connack, before + 1)
            assert receiver.call("get_twin")["desired"]["$version"] == version
    assert len(tap.packets(Subscribe)) == 1


def test_20_the_newest_of_two_processes_of_one_identity_is_served(hub: HubUnderTest) -> None:
    """The first is disconnected, the second receives; the first does not."""
    with (
        hub.module("receiver", connection_retry=False) as first,
        hub.module("receiver") as second,
        hub.module("sender") as sender,
    ):
        first.call("listen", kind="message")
        sender.send("work", b"to the first")
        assert first.next_body() == b"to the first"
        second.call("listen", kind="message")
        wait_for(lambda: not first.call("connected"), "the first to be disconnected")
        sender.send("work", b"to the second")
        assert second.next_body() == b"to the second"
        assert first.heard_nothing("message")


def test_21_a_ping_is_answered_and_a_silent_client_is_closed(hub: HubUnderTest) -> None:
    """After one and a half keep-alives from its last packet; another client stays connected."""
    with contextlib.closing(RawModule(hub)) as silent, contextlib.closing(RawModule(hub)) as alive:
        silent.connect("receiver", keep_alive_s=1)
        alive.connect("sender", keep_alive_s=60)
        begin = time.monotonic()
        silent.send(Pingreq())
        silent.next(Pingresp)
        silent.wait_closed()
        assert time.monotonic() - begin >= 1.5
        alive.send(Pingreq())
        alive.next(Pingresp)


def test_22_qos_2_is_not_supported(hub: HubUnderTest) -> None:
    """A publish with it ends the connection; a subscribe is granted 1 for any filter."""
    topic = f"devices/{DEVICE}/modules/sender/messages/events/"
    with contextlib.closing(RawModule(hub)) as raw:
        raw.connect("sender")
        raw.send(Subscribe(1, (("$iothub/twin/res/#", 2), ("no/such/thing", 1), ("nor/this", 0))))
        assert raw.next(Suback) == Suback(1, (1, 1, 0))
        raw.send(Publish(topic, b"1", 1, 2))
        assert raw.next(Puback) == Puback(2)
        raw.send(Publish(topic, b"2", 2, 3))
        raw.wait_closed()


def test_23_messages_wait_for_an_absent_client(hub: HubUnderTest, tap: Tap) -> None:
    """After shutdown() a client that sets its handler before it connects gets all, in order."""
    bodies = [b"%d" % number for number in range(5)]
    with hub.module("receiver", _through(hub, tap)) as receiver:
        receiver.call("listen", kind="message")
    with hub.module("sender") as sender:
        for body in bodies:
            sender.send("work", body)
    with contextlib.closing(RawModule(hub)) as returned:
        assert returned.connect("receiver") == Connack(0, True)
        first = returned.next(Publish)  # without a SUBSCRIBE
        assert first.body == bodies[0]
    with hub.module("receiver", _through(hub, tap)) as receiver:
        receiver.call("listen", kind="message")
        # the SDK's handler threads overtake each other (statement 96): the order is that of the wire
        assert sorted(receiver.next_body() for _ in bodies) == bodies
        assert receiver.heard_nothing("message")
        sent = tap.packets(Publish, tap.last_connection())
    assert [each.body for each in sent if "/inputs/" in each.topic] == bodies


def test_24_not_ready_is_3_and_5_is_final(tmp_path: Path) -> None:
    """A reconnecting SDK tries again after CONNACK 3, and connects when the hub is ready for it.

    Here the hub is not ready because another client has the only place and the module's session is forgotten.
    Until this is so, the tap refuses the SDK. After a 5, which the tap sends, the SDK gives up.
    """
    with running_hub(tmp_path, MaxConnectedClients="1") as hub, tapping(hub) as tap:
        hub.deploy("sender", "receiver")
        with hub.module("receiver", _through(hub, tap)) as module:
            module.call("connect")
            tap.answer = SERVER_UNAVAILABLE
            tap.drop()
            tap.wait_for(Connect, 2)
            with contextlib.closing(RawModule(hub)) as forgetting:
                assert forgetting.connect_as(RECEIVER, hub.key("receiver"), clean=True).code == 0
                forgetting.send(Disconnect())
                forgetting.wait_closed()
            with connected(hub, "sender"):
                tap.answer = None
                assert tap.wait_for(Connack, 2) == Connack(SERVER_UNAVAILABLE)
            wait_for(lambda: bool(module.call("connected")), "the module to be back after CONNACK 3")
            tap.answer = NOT_AUTHORIZED
            tried = len(tap.packets(Connect))
            tap.drop()
            tap.wait_for(Connect, tried + 1)
            tap.answer = None
            time.sleep(3 * RETRY_S)
            assert len(tap.packets(Connect)) == tried + 1
            assert module.call("connected") is False
            module.call("connect")
            assert module.call("connected") is True


def test_25_while_the_hub_is_down_a_send_fails_at_once(hub: HubUnderTest) -> None:
    """ConnectionFailedError; when the hub is up again the SDK reconnects by itself."""
    with hub.module("sender") as sender:
        sender.call("connect")
        assert hub.stop() == 0
        wait_for(lambda: not sender.call("connected"), "the SDK to notice")
        with pytest.raises(SdkError, match="ConnectionFailedError"):
            sender.send("cloud", b"1")  # the SDK does not store it
        hub.start()
        wait_for(lambda: bool(sender.call("connected")), "the SDK to be back")
        sender.send("cloud", b"2")


def test_26_too_many_clients_are_refused(tmp_path: Path) -> None:
    """A new identity gets code 3, connected clients stay, and a known client may return."""
    with running_hub(tmp_path, MaxConnectedClients="1") as hub:
        hub.deploy("sender", "receiver")
        with hub.module("sender") as sender:
            sender.send("cloud", b"1")
            with contextlib.closing(RawModule(hub)) as raw:
                assert raw.connect("receiver") == Connack(SERVER_UNAVAILABLE)
                raw.wait_closed()
            with hub.module("receiver") as receiver, pytest.raises(SdkError, match="ConnectionFailedError"):
                receiver.call("connect")
            sender.send("cloud", b"2")
        with contextlib.closing(RawModule(hub)) as raw, contextlib.closing(RawModule(hub)) as known:
            assert raw.connect("receiver") == Connack(0, False)  # there is a free place now
            assert known.connect("sender") == Connack(0, True)
            raw.send(Pingreq())
            raw.next(Pingresp)


def _reconnects(hub: HubUnderTest, tap: Tap, interrupt: Callable[[], None]) -> None:
    """Everything arrives before the interruption, and after it without another SUBSCRIBE."""
    options = {"ensure_desired_properties": False}
    with hub.module("receiver", _through(hub, tap), **options) as receiver, hub.module("sender") as sender:
        for kind in ("message", "patch", "method"):
            receiver.call("listen", kind=kind)
        receiver.call("get_twin")
        _everything_arrives(hub, sender, receiver, "before")
        subscribed, connections = len(tap.packets(Subscribe)), len(tap.packets(Connack))
        interrupt()
        assert tap.wait_for(Connack, connections + 1) == Connack(0, True)
        _everything_arrives(hub, sender, receiver, "after")
        assert len(tap.packets(Subscribe)) == subscribed == 4


def _everything_arrives(hub: HubUnderTest, sender: SdkModule, receiver: SdkModule, word: str) -> None:
    send_when_connected(sender, word.encode())
    while receiver.next_body() != word.encode():
        pass  # at least once: an earlier message may arrive again
    hub.service("PATCH", TWIN, {"properties": {"desired": {"word": word}}})
    patch = receiver.next("patch")["patch"]
    assert patch["word"] == word
    assert receiver.call("get_twin")["desired"] == patch
    answer = hub.service("POST", f"{TWIN}/methods", {"methodName": word, "payload": 1})
    assert answer["payload"] == {"name": word, "got": 1}


def send_when_connected(sender: SdkModule, body: bytes) -> None:
    """Send, and try again while the SDK reports that it is not connected and has sent nothing."""
    while True:
        try:
            return sender.send("work", body)
        except SdkError as error:
            if error.error not in ("ConnectionFailedError", "NoConnectionError", "ConnectionDroppedError"):
                raise


def _through(hub: HubUnderTest, tap: Tap) -> dict[str, str]:
    """The variables of the receiver with the tap as its gateway."""
    variables = hub.simulator_variables("receiver")
    connection_string = variables["EdgeHubConnectionString"].replace(
        f"GatewayHostName={hub.gateway};", f"GatewayHostName={tap.address};"
    )
    return {**variables, "EdgeHubConnectionString": connection_string}
