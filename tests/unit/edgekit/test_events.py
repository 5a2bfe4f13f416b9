"""Events: sent when something changed, repeated for receivers that start later."""

import json

import pytest

from edgekit.events import REPEAT_NS, Events
from edgekit.frame.message import Message


class Outbox:
    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.full = False

    def send(self, output: str, message: Message) -> bool:
        assert output == "events"
        if not self.full:
            self.sent.append(message)
        return not self.full

    def bodies(self) -> list[dict[str, object]]:
        return [json.loads(each.body) for each in self.sent]


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def events(outbox: Outbox) -> Events:
    return Events(outbox.send)


def test_each_change_is_sent_once(events: Events, outbox: Outbox) -> None:
    for state in ("proving", "proving", "active", "proving"):
        events.changed("model", {"state": state}, now_ns=0)
    assert [each["state"] for each in outbox.bodies()] == ["proving", "active", "proving"]
    assert {each.properties["repeated"] for each in outbox.sent} == {"false"}


def test_the_last_event_of_each_kind_is_repeated_with_the_time_of_its_change(
    events: Events, outbox: Outbox
) -> None:
    events.changed("model", {"state": "active"}, now_ns=0)
    events.changed("drift", {"state": "none"}, now_ns=5)
    events.repeat(now_ns=REPEAT_NS - 1)
    assert len(outbox.sent) == 2
    events.repeat(now_ns=REPEAT_NS)
    events.repeat(now_ns=REPEAT_NS + 1)
    first, _second, again = outbox.bodies()
    assert again == {**first, "repeated": True}
    events.repeat(now_ns=REPEAT_NS + 5)
    assert [each.properties for each in outbox.sent[-1:]] == [{"kind": "drift", "repeated": "true"}]


def test_a_change_that_the_outbox_refused_is_sent_later_as_a_change(events: Events, outbox: Outbox) -> None:
    outbox.full = True
    events.changed("model", {"state": "active"}, now_ns=0)
    outbox.full = False
    events.repeat(now_ns=1)
    events.repeat(now_ns=2)
    assert [each["repeated"] for each in outbox.bodies()] == [False]
