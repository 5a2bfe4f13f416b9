"""Routes: sources, sinks, priorities, times to live, and refused configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.routing.message import RoutedMessage
from twinship.simulator.routing.routes import LOWEST_PRIORITY, RouteError, Routing, Sink, max_size_bytes

TEMPLATE = Path(__file__).parents[5] / "deployment.template.json"
INTO_B = 'INTO BrokeredEndpoint("/modules/B/inputs/y")'


def routing(*routes: object, schema: str = "1.1", ttl_s: int = 7200) -> Routing:
    """A configuration with these routes, named r0, r1, ..."""
    named = {f"r{number}": route for number, route in enumerate(routes)}
    desired = {"schemaVersion": schema, "routes": named}
    return Routing.parse({**desired, "storeAndForwardConfiguration": {"timeToLiveSecs": ttl_s}})


def sent(source: str = "/messages/modules/A/outputs/x", **properties: str) -> RoutedMessage:
    """A message from this source."""
    return RoutedMessage(source, properties, {"connectionModuleId": "A"}, b"")


def test_the_projects_own_manifest_is_routed() -> None:
    """Frames go to inference with 10 s to live, predictions go upstream with the default."""
    manifest = json.loads(TEMPLATE.read_text())["modulesContent"]
    known = {name for name in manifest if name[0] != "$"}
    routes = Routing.parse(manifest["$edgeHub"]["properties.desired"], known_modules=known)
    frames = routes.match(sent("/messages/modules/camera_sim/outputs/frames"))
    predictions = routes.match(sent("/messages/modules/inference/outputs/predictions"))
    assert frames == (Sink("inference", "frames", 1, 10.0),)
    assert predictions == (Sink(None, "", LOWEST_PRIORITY, 7200.0),)
    assert routes.match(sent("/messages/modules/inference/outputs/other")) == ()


OUTPUT, NO_OUTPUT = "/messages/modules/A/outputs/x", "/messages/modules/A"
DEVICE, TWIN = "/messages", "/twinChangeNotifications"


@pytest.mark.parametrize(
    ("written", "matches"),
    [
        ("/*", {OUTPUT, NO_OUTPUT, DEVICE, TWIN}),
        ("/messages/*", {OUTPUT, NO_OUTPUT, DEVICE}),
        ("/messages", {OUTPUT, NO_OUTPUT, DEVICE}),
        ("/messages/modules/*", {OUTPUT, NO_OUTPUT}),
        ("/messages/modules/A", {OUTPUT, NO_OUTPUT}),
        ("/messages/modules/A/*", {OUTPUT, NO_OUTPUT}),
        ("/MESSAGES/Modules/a/Outputs/X", {OUTPUT}),
        ("/messages/modules/A/outputs/*", {OUTPUT}),
        ("/messages/modules/A/outputs", {OUTPUT}),
        ("/messages/modules/A/outputs/x", {OUTPUT}),
        (" / messages / modules / A / outputs / x ", {OUTPUT}),
        ("/messages/modules/A/outputs/x/*", {OUTPUT}),
        ("/messages/modules/A/outputs/xy", set()),
        ("/messages/modules/A/outputs/x*y", set()),
        ("/messages/modules/te*", set()),
        ("/messages/modules", {OUTPUT, NO_OUTPUT}),
        ("/messages/*/outputs/x", set()),
        ("/messages/modules/B", set()),
        ("/twinChangeNotifications", {TWIN}),
        ("/twinchangenotifications/*", {TWIN}),
    ],
)
def test_a_source_matches_whole_path_segments(written: str, matches: set[str]) -> None:
    """In any letter case, `*` only at the end (ref 4.6, statement 46, statement 47, statement 48)."""
    routes = routing(f"FROM {written} INTO $upstream")
    assert {source for source in (OUTPUT, NO_OUTPUT, DEVICE, TWIN) if routes.match(sent(source))} == matches


def test_a_source_does_not_match_a_longer_name() -> None:
    """`te*` is not a wildcard, and module A is not module AB."""
    routes = routing("FROM /messages/modules/A INTO $upstream")
    assert routes.match(sent("/messages/modules/AB")) == ()
    assert routes.match(sent("/messages/modules/AB/outputs/x")) == ()


@pytest.mark.parametrize(
    ("written", "endpoint"),
    [
        ("$upstream", (None, "")),
        ("$UPSTREAM", (None, "")),
        ('BrokeredEndpoint("/modules/B/inputs/y")', ("B", "y")),
        ("brokeredendpoint('/modules/B/inputs/y')", ("B", "y")),
        ("BrokeredEndpoint ( ' modules/B/inputs/y/ ' )", ("B", "y")),
    ],
)
def test_sinks(written: str, endpoint: tuple[str | None, str]) -> None:
    """Upstream in any letter case (statement 58), or a module's input in either kind of quotes."""
    (found,) = routing(f"FROM /* INTO {written}").match(sent())
    assert found.endpoint == endpoint


@pytest.mark.parametrize("start", ["FROM", "from", "SELECT * FROM", "select*from"])
def test_keywords_in_any_case_and_an_optional_select(start: str) -> None:
    """SELECT is optional and takes only `*`."""
    if start == "select*from":  # one word to edgeHub's lexer
        with pytest.raises(RouteError, match="expected FROM"):
            routing(f"{start} /* where true into $upstream")
    else:
        assert routing(f"{start} /* where true into $upstream").match(sent())


def test_a_condition_selects_messages() -> None:
    """Three routes from one source have a condition each."""
    routes = routing(
        "FROM /messages/* WHERE label = '7' INTO $upstream",
        f"FROM /messages/* WHERE as_number(confidence) < 0.5 {INTO_B}",
        "FROM /messages/* WHERE $connectionModuleId = 'Z' INTO BrokeredEndpoint('/modules/C/inputs/z')",
    )
    assert [sink.module for sink in routes.match(sent(label="7", confidence="0.4"))] == [None, "B"]
    assert [sink.module for sink in routes.match(sent(confidence="0.4"))] == ["B"]
    assert routes.match(sent(label="8", confidence="0.9")) == ()


def test_into_in_a_string_is_not_a_keyword() -> None:
    """The grammar, not the first INTO, ends the condition."""
    routes = routing("FROM /* WHERE label = ' INTO $upstream' INTO $upstream")
    assert routes.match(sent(label=" INTO $upstream"))


def test_twin_change_includes_needs_the_twin_source() -> None:
    """A route from another source with this function is refused."""
    condition = "WHERE twin_change_includes(properties.reported.a) INTO $upstream"
    routes = routing(f"FROM /twinChangeNotifications {condition}")
    system = {"contentType": "application/json", "contentEncoding": "utf-8"}
    body = b'{"properties": {"reported": {"a": 1}}}'
    assert routes.match(RoutedMessage(TWIN, {}, system, body))
    with pytest.raises(RouteError, match="twinChangeNotifications"):
        routing(f"FROM /* {condition}")


def test_an_endpoint_gets_one_copy_by_the_most_urgent_route() -> None:
    """The matching route with the lowest priority number wins, with its own time to live (statement 52)."""
    routes = routing(
        f"FROM /* {INTO_B}",
        {"route": f"FROM /messages/* {INTO_B}", "priority": 3, "timeToLiveSecs": 30},
        {"route": f"FROM /messages/* {INTO_B}", "priority": 5, "timeToLiveSecs": 50},
        {"route": f"FROM /messages/* WHERE urgent = 'yes' {INTO_B}", "priority": 0},
    )
    assert routes.match(sent()) == (Sink("B", "y", 3, 30.0),)
    assert routes.match(sent(urgent="yes")) == (Sink("B", "y", 0, 7200.0),)
    assert routes.match(sent(TWIN)) == (Sink("B", "y", LOWEST_PRIORITY, 7200.0),)


def test_two_inputs_of_one_module_are_two_endpoints() -> None:
    """Each gets a copy (statement 53)."""
    other = INTO_B.replace("inputs/y", "inputs/z")
    assert [sink.input for sink in routing(f"FROM /* {INTO_B}", f"FROM /* {other}").match(sent())] == [
        "y",
        "z",
    ]


@pytest.mark.parametrize(
    ("route", "default", "ttl_s"),
    [
        ({}, 7200, 7200.0),
        ({"timeToLiveSecs": 0}, 60, 60.0),
        ({"timeToLiveSecs": 5}, 60, 5.0),
        ({"timeToLiveSecs": 5}, -1, 5.0),
        ({"timeToLiveSecs": 0}, -1, None),
        ({}, -1, None),
        ({}, 0, 0.0),
    ],
)
def test_time_to_live(route: dict[str, int], default: int, ttl_s: float | None) -> None:
    """A route's 0 means that of storeAndForwardConfiguration, where negative is no limit (ref 4.7)."""
    routes = routing({"route": "FROM /* INTO $upstream", **route}, ttl_s=default)
    assert [sink.ttl_s for sink in routes.match(sent())] == [ttl_s]


def test_a_text_route_has_the_default_time_to_live() -> None:
    """Without a storeAndForwardConfiguration it is two hours."""
    assert routing("FROM /* INTO $upstream", ttl_s=60).match(sent())[0].ttl_s == 60.0
    bare = Routing.parse({"schemaVersion": "1.0", "routes": {"r": "FROM /* INTO $upstream"}})
    assert bare.match(sent())[0].ttl_s == 7200.0


def test_route_objects_need_schema_1_1() -> None:
    """They are refused with 1.0 and accepted with 1.1 and later (statement 57)."""
    route = {"route": "FROM /* INTO $upstream", "priority": 0}
    with pytest.raises(RouteError, match=r"route 'r0': is an object; schemaVersion 1\.0 takes only text"):
        routing(route, schema="1.0")
    for schema in ("1.1", "1.2", "1.3"):
        assert routing(route, schema=schema).match(sent())[0].priority == 0


def test_only_schema_1_0_ignores_an_empty_route() -> None:
    """As edgeHub's two parsers do."""
    assert routing("  ", schema="1.0").routes == ()
    with pytest.raises(RouteError, match="column 3: expected FROM"):
        routing("  ", schema="1.1")


BAD_TEXTS = {
    "FROM /messages/* WHERE temp > 20 INTO $upstream": "column 29: .*as_number",
    "FROM /messages/* INTO $downstream": r"column 23: expected \$upstream or BrokeredEndpoint",
    "FROM /messages/* INTO upstream": r"column 23: expected \$upstream or BrokeredEndpoint",
    "FROM /messages/* INTO Endpoint('/modules/B/inputs/y')": "column 23: expected",
    "FROM /messages/* INTO BrokeredEndpoint('/modules/B')": "column 40: expected an address",
    "FROM /messages/* INTO BrokeredEndpoint('/modules/B/inputs/y/z')": "column 40: expected an address",
    "FROM /messages/* INTO BrokeredEndpoint('/modules//inputs/y')": "column 40: expected an address",
    "FROM /messages/* INTO BrokeredEndpoint('/module/B/inputs/y')": "column 40: expected an address",
    "FROM /messages/* INTO BrokeredEndpoint(modules)": "column 40: expected an address in quotes",
    "FROM /messages/* INTO BrokeredEndpoint('/modules/B/inputs/y'": "found the end",
    "FROM /messages/* INTO BrokeredEndpoint": "found the end",
    "FROM /messages/* INTO": "found the end",
    "FROM /messages/*": "column 17: expected WHERE or INTO, found the end",
    "FROM messages/* INTO $upstream": "column 6: expected a source",
    "FROM INTO $upstream": "column 6: expected a source",
    "FROM / INTO $upstream": "expected a name or",
    "FROM /messages// INTO $upstream": "expected a name or",
    "FROM /messages/ INTO $upstream": "expected a name or",
    "FROM /messages/* WHERE INTO $upstream": "expected a value, found 'INTO'",
    "FROM /messages/* WHERE true true INTO $upstream": "column 29: expected an operator or INTO",
    "FROM /messages/* INTO $upstream INTO $upstream": "expected nothing after the sink",
    "SELECT FROM /messages/* INTO $upstream": r"column 8: expected '\*' after SELECT",
    "SELECT temp FROM /messages/* INTO $upstream": r"expected '\*' after SELECT",
    "SELECT": r"expected '\*' after SELECT",
    "INTO $upstream": "column 1: expected FROM",
    "FROM /messages/* WHERE label = 'open INTO $upstream": "column 32: string .* is not closed",
}


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_bad_route_is_refused_by_name_and_column(text: str) -> None:
    """One bad route refuses all of them (statement 49, statement 55, statement 58)."""
    with pytest.raises(RouteError, match=rf"^route 'r1': column .*{BAD_TEXTS[text].removeprefix('column ')}"):
        routing("FROM /* INTO $upstream", text)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "neither text nor an object"),
        (7, "neither text nor an object"),
        ({}, "no text under 'route'"),
        ({"route": 1}, "no text under 'route'"),
        ({"priority": 10}, "priority is 10, not a whole number from 0 to 9"),
        ({"priority": -1}, "priority is -1"),
        ({"priority": "1"}, "priority is '1'"),
        ({"priority": True}, "priority is True"),
        ({"priority": None}, "priority is None"),
        ({"timeToLiveSecs": -1}, "timeToLiveSecs is -1"),
        ({"timeToLiveSecs": 1.5}, "timeToLiveSecs is 1.5"),
        ({"timeToLiveSecs": 2**32}, "timeToLiveSecs is 4294967296"),
    ],
)
def test_a_bad_route_object_is_refused_by_name(value: Any, reason: str) -> None:
    """Priorities are 0 to 9, seconds from 0, both whole numbers and not texts."""
    complete = isinstance(value, Mapping) and "route" not in value and value
    route = {"route": "FROM /* INTO $upstream", **value} if complete else value
    with pytest.raises(RouteError, match=rf"^route 'r0': .*{reason}"):
        routing(route)


@pytest.mark.parametrize(
    ("desired", "reason"),
    [
        ({}, "schemaVersion is None"),
        ({"schemaVersion": "x"}, "schemaVersion is 'x'"),
        ({"schemaVersion": "1"}, "schemaVersion is '1'"),
        ({"schemaVersion": "2.0"}, r"2\.0 is not supported"),
        ({"schemaVersion": "1.4"}, r"1\.4 is not supported"),
        ({"schemaVersion": "1.1", "routes": []}, "routes is not an object"),
        ({"schemaVersion": "1.1", "storeAndForwardConfiguration": 7}, "timeToLiveSecs is None"),
        ({"schemaVersion": "1.1", "storeAndForwardConfiguration": {"timeToLiveSecs": "7"}}, "is '7'"),
        ({"schemaVersion": "1.2", "mqttBroker": {}}, "mqttBroker is not supported"),
    ],
)
def test_a_bad_configuration_is_refused_by_name(desired: dict[str, Any], reason: str) -> None:
    """The message names the bad part of $edgeHub's desired properties."""
    with pytest.raises(RouteError, match=reason):
        Routing.parse({"routes": {}, **desired})


def test_a_configuration_without_routes_is_valid() -> None:
    """No message has a sink."""
    assert Routing.parse({"schemaVersion": "1.1"}).match(sent()) == ()
    assert Routing().match(sent()) == ()


def test_an_unknown_module_is_refused_if_the_modules_are_given() -> None:
    """edgeHub accepts such a route and stores its messages for ever."""
    desired = {"schemaVersion": "1.1", "routes": {"r": f"FROM /* {INTO_B}"}}
    assert Routing.parse(desired, known_modules={"B"})
    with pytest.raises(RouteError, match="route 'r': names module 'B', which does not exist"):
        Routing.parse(desired, known_modules={"A"})


def test_the_cache_of_sources_is_bounded() -> None:
    """A module chooses its output names and may invent many."""
    routes = routing("FROM /messages/* INTO $upstream")
    for number in range(3000):
        assert routes.match(sent(f"/messages/modules/A/outputs/o{number}"))
    assert routes._from.cache_info().currsize <= 1024


pieces = [
    "FROM",
    "SELECT",
    "*",
    "/",
    "/messages/*",
    "/*",
    "*/",
    "WHERE",
    "INTO",
    "$upstream",
    "BrokeredEndpoint",
]
pieces += [
    "('/modules/B/inputs/y')",
    "label",
    "=",
    "'7'",
    "(",
    ")",
    "AND",
    "NOT",
    "$body.a",
    "20",
    "\\",
    "'",
    "{",
    "?",
]


@given(st.text(max_size=60) | st.lists(st.sampled_from(pieces), max_size=12).map(" ".join))
def test_random_text_is_a_route_or_a_route_error(text: str) -> None:
    """No text causes another exception."""
    try:
        routes = routing(text)
    except RouteError as error:
        refusal = str(error)
    else:
        routes.match(sent(label="7"))
        return
    assert refusal.startswith("route 'r0': column ")


def test_the_store_limit_is_read() -> None:
    """The value of storeLimits.maxSizeBytes in storeAndForwardConfiguration; None without storeLimits."""
    assert max_size_bytes({}) is None
    assert max_size_bytes({"storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}) is None
    limits = {"storeLimits": {"maxSizeBytes": 10_000}}
    assert max_size_bytes({"storeAndForwardConfiguration": limits}) == 10_000


@pytest.mark.parametrize(
    "limits", [7, {}, {"maxSizeBytes": 0}, {"maxSizeBytes": "1"}, {"maxSizeBytes": True}]
)
def test_a_bad_store_limit_is_refused(limits: object) -> None:
    """Anything but a whole number above 0."""
    with pytest.raises(RouteError, match=r"storeLimits.maxSizeBytes is .*, not a whole number above 0"):
        max_size_bytes({"storeAndForwardConfiguration": {"storeLimits": limits}})
