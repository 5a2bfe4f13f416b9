"""The unmodified SDK and a kill -9 of the real hub: no acknowledged message is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import HubUnderTest, running_hub, wait_for
from tests.wire.sdk_module import SdkError, SdkModule

pytestmark = pytest.mark.e2e


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path) as running:
        running.deploy("sender", "receiver")
        yield running


def test_a_message_stored_before_a_kill_is_delivered_after_it(hub: HubUnderTest) -> None:
    """send_message returned, so the message is on the disk (ref statement 27, statement 41)."""
    with hub.module("sender") as sender:
        sender.send("work", b"kept")
        hub.kill()
        sender.kill()
    hub.start()
    with hub.module("receiver") as receiver:
        receiver.call("listen", kind="message")
        assert receiver.next_body() == b"kept"


def test_clients_come_back_with_their_subscriptions(hub: HubUnderTest) -> None:
    """Inputs, twin and methods work after a kill without a new SUBSCRIBE (statements 16 to 19)."""
    with hub.module("receiver") as receiver, hub.module("sender") as sender:
        receiver.call("listen", kind="message")
        receiver.call("listen", kind="method")
        receiver.call("get_twin")
        sender.send("work", b"before")
        assert receiver.next_body() == b"before"
        hub.kill()
        hub.start()
        wait_for(lambda: hub.log().count("edge/receiver: connected, session present") == 1, "the receiver")
        send_until_stored(sender, "work", b"after")
        # At least once: the kill may have come between the PUBACK of "before" and its removal.
        while (body := receiver.next_body()) != b"after":
            assert body == b"before"
        assert receiver.call("get_twin")["desired"]["$version"] == 1
        path = "/twins/edge/modules/receiver/methods"
        assert hub.service("POST", path, {"methodName": "m", "payload": 1})["status"] == 207


def test_a_kill_loses_no_message_and_doubles_no_line(hub: HubUnderTest) -> None:
    """Every message that was sent arrives; upstream has each exactly once."""
    with hub.module("receiver") as receiver, hub.module("sender") as sender:
        receiver.call("listen", kind="message")
        sent = [b"%d" % number for number in range(30)]
        for number, body in enumerate(sent):
            if number == 15:
                hub.kill()
                hub.start()
            send_until_stored(sender, "work", body)
            send_until_stored(sender, "cloud", body)
        got = [receiver.next_body()]
        while set(got) != set(sent):
            got.append(receiver.next_body())
    assert len(hub.upstream()) == len(sent)


def test_a_clean_stop(hub: HubUnderTest) -> None:
    """Exit status 0, no endpoints.json, and the clients reconnect to the next process."""
    with hub.module("sender") as sender:
        sender.send("cloud", b"1")
        assert hub.stop() == 0
        assert not (hub.folder / "endpoints.json").exists()
        hub.start()
        send_until_stored(sender, "cloud", b"2")
    assert len(hub.upstream()) == 2


def send_until_stored(sender: SdkModule, output: str, body: bytes) -> None:
    """Send, and try again while the SDK reports that it is not connected and has sent nothing."""
    while True:
        try:
            return sender.send(output, body)
        except SdkError as error:
            if error.error not in ("ConnectionFailedError", "NoConnectionError", "ConnectionDroppedError"):
                raise
