"""storeLimits.maxSizeBytes: a full store refuses new messages until it has space again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import DEVICE, ROUTES, HubUnderTest, running_hub, wait_for
from tests.wire.raw_traffic import connected, message, receiving, store, take
from twinship.simulator.faults.client import show_faults

pytestmark = pytest.mark.e2e

LIMIT = 100_000
LIMITED = {
    **ROUTES,
    "storeAndForwardConfiguration": {"timeToLiveSecs": 7200, "storeLimits": {"maxSizeBytes": LIMIT}},
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path) as running:
        running.deploy("sender", "receiver", routes=LIMITED)
        yield running


def test_a_full_store_refuses_messages_and_still_delivers(hub: HubUnderTest) -> None:
    """No PUBACK, the connection closes, a counter rises; each delivery makes space, also after a restart."""
    body = bytes(30_000)
    with connected(hub, "sender") as sender:
        for number in range(1, 4):
            store(sender, number, body)
        sender.send(message(4, body))
        sender.wait_closed()
    counters = show_faults(hub.folder)
    assert counters["unacknowledged"] == {"storage_failure": 1}
    assert 90_000 < counters["message_bytes"] <= LIMIT
    hub.kill()
    hub.start()
    assert show_faults(hub.folder)["message_bytes"] == counters["message_bytes"]
    with connected(hub, "sender") as sender:
        sender.send(message(4, body))
        sender.wait_closed()
    with receiving(hub) as receiver:
        assert [len(take(receiver).body) for _ in range(3)] == [30_000] * 3
    with connected(hub, "sender") as sender:
        store(sender, 4, body)
    with receiving(hub) as receiver:
        assert take(receiver).body == body
    wait_for(lambda: show_faults(hub.folder)["message_bytes"] == 0, "an empty store")


def test_the_sdk_sends_again_until_there_is_space(hub: HubUnderTest) -> None:
    """Its call returns after the receiver has made space."""
    with hub.module("sender") as sender:
        for _ in range(3):
            sender.send("work", bytes(30_000))
        sender.begin("send", output="work", body="A" * 40_000, properties={}, fields={})
        wait_for(lambda: "the store is full" in hub.log(), "the refusal")
        with receiving(hub) as receiver:
            assert [len(take(receiver).body) for _ in range(4)] == [30_000] * 4
        sender.finish()


def test_a_bad_limit_refuses_the_configuration(hub: HubUnderTest) -> None:
    """lastDesiredStatus is 400 and the old limit stays."""
    bad = {"storeAndForwardConfiguration": {"storeLimits": {"maxSizeBytes": -5}}}
    path = f"/twins/{DEVICE}/modules/$edgeHub"
    hub.service("PATCH", path, {"properties": {"desired": bad}})
    status = hub.service("GET", path)["properties"]["reported"]["lastDesiredStatus"]
    assert (status["code"], "maxSizeBytes" in status["description"]) == (400, True)
