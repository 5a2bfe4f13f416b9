"""Statements 46 to 58: routes and their conditions, with the unmodified SDK."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from tests.wire.sdk_module import SdkModule
from twinship.bench.rig.watching import metrics_page, total
from twinship.simulator.mqtt.packets import Puback, Publish, Suback, Subscribe

pytestmark = [pytest.mark.conformance, pytest.mark.e2e]

TO_B = 'INTO BrokeredEndpoint("/modules/B/inputs/y")'
LAST = 'FROM /messages/modules/A/outputs/last INTO BrokeredEndpoint("/modules/B/inputs/last")'
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}


@dataclass
class Edge:
    """Module A, which sends, and module B, which listens to all its inputs."""

    hub: HubUnderTest
    a: SdkModule
    b: SdkModule
    heard: int = 0  # messages of B
    lasts: int = 0  # of them, those that end `arrived`

    def configure(self, routes: Mapping[str, Any], schema_version: str = "1.1") -> Mapping[str, Any]:
        """Set these routes and the route that ends a test; returns the report of $edgeHub."""
        desired = {"schemaVersion": schema_version, "routes": {**routes, "last": LAST}}
        self.hub.service("PUT", self.edge_hub, {"properties": {"desired": desired}})
        reported: Mapping[str, Any] = self.twin()["properties"]["reported"]
        assert reported["lastDesiredVersion"] == self.twin()["properties"]["desired"]["$version"]
        return reported

    @property
    def edge_hub(self) -> str:
        return f"/twins/{DEVICE}/modules/$edgeHub"

    def twin(self) -> Mapping[str, Any]:
        """The twin of $edgeHub in the view of the service."""
        twin: Mapping[str, Any] = self.hub.service("GET", self.edge_hub)
        return twin

    def went_up(self) -> list[str]:
        """The ids of the upstream messages."""
        return [line["SystemProperties"]["messageId"] for line in self.hub.upstream()]

    def arrived(self) -> list[Any]:
        """The messages of B, in any order: the SDK calls its handler on several threads.

        Messages from A to B keep their order in the hub, so when B has acknowledged the last one, the hub
        knows how many there are.
        """
        self.a.send("last", b"last")
        self.lasts += 1
        wait_for(lambda: self._acknowledged(to_route_input="last") == self.lasts, "the last message")
        count = self._acknowledged() - self.heard
        self.heard += count
        messages = [self.b.next("message") for _ in range(count)]
        return [message for message in messages if message["input_name"] != "last"]

    def _acknowledged(self, **labels: str) -> int:
        page = metrics_page(self.hub.folder, DEVICE)
        return total(page, "edgehub_messages_sent_total", to=f"{DEVICE}/B", **labels)

    def inputs(self) -> list[str]:
        """The input of each message that B has received."""
        return [message["input_name"] for message in self.arrived()]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running_hub(tmp_path_factory.mktemp("hub"), MessageAckTimeoutSecs="5") as hub:
        hub.deploy("A", "B", "C")
        with hub.module("A") as a, hub.module("B") as b:
            b.call("listen", kind="message")
            a.call("connect")
            yield Edge(hub, a, b)


@pytest.mark.parametrize(
    "source",
    [
        "/messages/modules/A/outputs/x",
        "/messages/modules/a/outputs/X",
        "/Messages/Modules/A/Outputs/x",
    ],
)
def test_46_a_route_connects_one_output_to_one_input(edge: Edge, source: str) -> None:
    """Only output x, to input y; the letter case of module and output does not matter."""
    edge.configure({"r": f"FROM {source} {TO_B}"})
    for output in ("x", "X", "z", "xx", ""):
        edge.a.send(output, output.encode())
    assert edge.inputs() == ["y", "y"]


@pytest.mark.parametrize("source", ["/messages/modules/A", "/messages/modules/A/*"])
def test_47_a_module_as_source_matches_all_its_messages(edge: Edge, source: str) -> None:
    """With and without an output name; a copy of the message that ends the test arrives too."""
    edge.configure({"r": f"FROM {source} {TO_B}"})
    edge.a.send("x", b"1")
    edge.a.send(None, b"2")
    assert edge.inputs() == ["y", "y", "y"]


def test_48_half_a_name_matches_nothing(edge: Edge) -> None:
    """`*` is a wildcard neither inside a name nor in the middle of a path."""
    sources = ("/mess*", "/messages/*/outputs/x", "/messages/modules/A/out*")
    half = edge.configure({f"r{n}": f"FROM {source} {TO_B}" for n, source in enumerate(sources)})
    assert half["lastDesiredStatus"]["code"] == 200
    edge.a.send("x", b"")
    assert edge.inputs() == []


def test_49_a_property_is_text_until_it_is_converted(edge: Edge) -> None:
    """`temp > 20` is an invalid configuration; `as_number(temp) > 20` compares numbers."""
    faulty = edge.configure({"r": f"FROM /messages/modules/A/outputs/x WHERE temp > 20 {TO_B}"})
    assert faulty["lastDesiredStatus"]["code"] == 400
    good = edge.configure({"r": f"FROM /messages/modules/A/outputs/x WHERE as_number(temp) > 20 {TO_B}"})
    assert good["lastDesiredStatus"]["code"] == 200
    for temp in ("9", "20", "20.5", "100", "warm"):
        edge.a.send("x", b"", {"temp": temp})
    edge.a.send("x", b"")
    assert sorted(message["properties"]["temp"] for message in edge.arrived()) == ["100", "20.5"]


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        (JSON, True),
        ({"content_type": "application/json"}, False),
        ({"content_encoding": "utf-8"}, False),
        ({**JSON, "content_type": "text/plain"}, False),
        ({**JSON, "content_encoding": "gzip"}, False),
        ({}, False),
    ],
)
def test_50_a_body_is_read_only_if_declared_as_json(
    edge: Edge, fields: dict[str, Any], matches: bool
) -> None:
    """The sender must set both system properties; otherwise a condition on the body is never true."""
    edge.configure({"r": f"FROM /messages/modules/A/outputs/x WHERE $body.a > 1 {TO_B}"})
    edge.a.send("x", b'{"a": 2}', **fields)
    edge.a.send("x", b'{"a": 1}', **fields)
    edge.a.send("x", b"[2]", **fields)
    assert edge.inputs() == (["y"] if matches else [])


def test_51_an_application_property_hides_a_system_property(edge: Edge) -> None:
    """`$connectionModuleId` is an application property of this name if there is one, unless in braces."""
    plain, braces = "WHERE $connectionModuleId = 'A'", "WHERE {$connectionModuleId} = 'A'"
    route = "FROM /messages/modules/A/outputs/x {} INTO BrokeredEndpoint('/modules/B/inputs/{}')"
    edge.configure({"plain": route.format(plain, "p"), "braces": route.format(braces, "b")})
    edge.a.send("x", b"")
    assert sorted(edge.inputs()) == ["b", "p"]
    edge.a.send("x", b"", {"connectionModuleId": "other"})
    assert edge.inputs() == ["b"]


def test_52_two_routes_to_one_endpoint_are_one_copy(edge: Edge) -> None:
    """Each endpoint gets one copy, also of the message that ends the test."""
    edge.configure({"one": f"FROM /messages/modules/A/outputs/x {TO_B}", "two": f"FROM /messages/* {TO_B}"})
    edge.a.send("x", b"once")
    assert edge.inputs() == ["y", "y"]


def test_53_two_inputs_of_a_module_are_two_copies(edge: Edge) -> None:
    """Each input is an endpoint."""
    route = "FROM /messages/modules/A/outputs/x INTO BrokeredEndpoint('/modules/B/inputs/{}')"
    edge.configure({"one": route.format("one"), "two": route.format("two")})
    edge.a.send("x", b"")
    assert sorted(edge.inputs()) == ["one", "two"]


def test_54_urgent_messages_overtake_at_the_end_of_a_batch(edge: Edge) -> None:
    """After a batch of ten of priority 9, priority 0 is sent before the eleventh."""
    route = 'FROM /messages/modules/A/outputs/{} INTO BrokeredEndpoint("/modules/C/inputs/{}")'
    edge.configure(
        {
            "slow": {"route": route.format("slow", "in"), "priority": 9},
            "fast": {"route": route.format("fast", "in"), "priority": 0},
        }
    )
    for number in range(15):
        edge.a.send("slow", b"slow %d" % number)
    with contextlib.closing(RawModule(edge.hub)) as c:
        c.connect("C")
        c.send(Subscribe(1, ((f"devices/{DEVICE}/modules/C/inputs/#", 1),)))
        c.next(Suback)
        under_way = c.next(Publish)
        for number in range(3):
            edge.a.send("fast", b"fast %d" % number)
        order: list[str] = []
        while len(order) < 18:
            order.append(under_way.body.decode())
            assert under_way.packet_id is not None
            c.send(Puback(under_way.packet_id))
            if len(order) < 18:
                under_way = c.next(Publish)
    slow, fast = [f"slow {number}" for number in range(15)], [f"fast {number}" for number in range(3)]
    assert order == [*slow[:10], *fast, *slow[10:]]


def test_55_one_bad_route_leaves_the_old_configuration_in_force(edge: Edge) -> None:
    """The new configuration is refused as a whole, and the report of $edgeHub names the route."""
    good = f"FROM /messages/modules/A/outputs/x {TO_B}"
    assert edge.configure({"good": good})["lastDesiredStatus"] == {"code": 200, "description": ""}
    reported = edge.configure({"new": good.replace("/x", "/new"), "bad": "FROM nowhere"})
    status = reported["lastDesiredStatus"]
    assert status["code"] == 400
    assert status["description"].startswith("Error while parsing desired properties - ")
    assert "bad" in status["description"]
    edge.a.send("x", b"")
    edge.a.send("new", b"")
    assert edge.inputs() == ["y"]


def test_56_new_routes_apply_without_a_reconnect(edge: Edge) -> None:
    """After a desired patch of $edgeHub; no connection ends."""

    def connections() -> int:
        return edge.hub.log().count(": connected, session")

    edge.configure({"r": f"FROM /messages/modules/A/outputs/old {TO_B}"})
    before = connections()
    patch = {"routes": {"r": f"FROM /messages/modules/A/outputs/new {TO_B}"}}
    edge.hub.service("PATCH", edge.edge_hub, {"properties": {"desired": patch}})
    edge.a.send("old", b"")
    edge.a.send("new", b"")
    assert edge.inputs() == ["y"]
    assert connections() == before


@pytest.mark.parametrize(("schema_version", "code"), [("1.0", 400), ("1.1", 200), ("1.2", 200)])
def test_57_a_route_may_be_an_object_since_schema_1_1(edge: Edge, schema_version: str, code: int) -> None:
    """Schema 1.0 accepts only text."""
    route = {"route": f"FROM /messages/modules/A/outputs/x {TO_B}", "priority": 1, "timeToLiveSecs": 60}
    assert edge.configure({"r": route}, schema_version)["lastDesiredStatus"]["code"] == code
    edge.configure({})


@pytest.mark.parametrize("sink", ["$upstream", "$UPSTREAM", "$UpStream"])
def test_58_upstream_matches_in_any_letter_case(edge: Edge, sink: str) -> None:
    """The message is upstream; a sink with another name makes the configuration invalid."""
    assert (
        edge.configure({"r": f"FROM /messages/modules/A/outputs/x INTO {sink}"})["lastDesiredStatus"]["code"]
        == 200
    )
    edge.a.send("x", sink.encode(), message_id=sink)
    wait_for(lambda: sink in edge.went_up(), "the message upstream")
    for unknown in ("$downstream", "upstream", "Endpoint('/modules/B/inputs/y')", "BrokeredEndpoint('/B/y')"):
        refused = edge.configure({"r": f"FROM /messages/modules/A/outputs/x INTO {unknown}"})
        assert refused["lastDesiredStatus"]["code"] == 400, unknown
    edge.configure({})
