"""Topics and property bags in both directions."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinship.simulator.edge_hub.topics import (
    MethodResponse,
    ReportedPatch,
    Subscription,
    Telemetry,
    TopicError,
    TwinGet,
    join_bag,
    matches,
    parse,
    split_bag,
    subscription,
)
from twinship.simulator.identity import Identity


@pytest.mark.parametrize(
    ("topic", "inbound"),
    [
        ("devices/d/modules/m/messages/events/", Telemetry(Identity("d", "m"), {}, {})),
        ("devices/d/modules/m/messages/events", Telemetry(Identity("d", "m"), {}, {})),
        ("devices/d/messages/events/a=b", Telemetry(Identity("d"), {"a": "b"}, {})),
        (
            "devices/d d/modules/$m/messages/events/%24.on=out%2F1%20x&%24.mid=1&b%20k=v%3D%26/",
            Telemetry(Identity("d d", "$m"), {"b k": "v=&"}, {"outputName": "out/1 x", "messageId": "1"}),
        ),
        ("$iothub/twin/GET/?$rid=r-1", TwinGet("r-1")),
        ("$iothub/twin/PATCH/properties/reported/?$rid=r&$version=3", ReportedPatch("r")),
        ("$iothub/methods/res/207/?$rid=1", MethodResponse(207, "1")),
        ("$iothub/methods/res/what/?$rid=1", MethodResponse(400_000, "1")),
    ],
)
def test_topics_are_parsed(topic: str, inbound: object) -> None:
    """Every topic that the SDK publishes to (ref 2.3, 2.4)."""
    assert parse(topic) == inbound


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "x",
        "devices//messages/events/",
        "devices/d/modules//messages/events/",
        "devices/d/modules/m/messages/events/a=%ff",
        "$iothub/twin/GET/",
        "$iothub/twin/GET/?$rid=",
        "$iothub/twin/POST/?$rid=1",
        "$iothub/methods/res/200/",
        "devices/" + "d" * 129 + "/messages/events/",
    ],
)
def test_any_other_topic_is_a_topic_error(topic: str) -> None:
    """Such a publish is acknowledged and dropped (ref 4.4)."""
    with pytest.raises(TopicError):
        parse(topic)


def test_an_empty_value_and_a_missing_one_read_the_same() -> None:
    """`k=` and `k` both have an empty value (ref statement 33)."""
    assert split_bag("a=&b&c=1") == ({"a": "", "b": "", "c": "1"}, {})


def test_unknown_system_names_are_application_properties() -> None:
    """No property of a sender is lost."""
    assert split_bag("%24.unheard=1") == ({"$.unheard": "1"}, {})


def test_the_bag_to_a_module_has_edge_hubs_names() -> None:
    """Application properties first, without output and interface (ref 4.5)."""
    system = {
        "connectionDeviceId": "d", "connectionModuleId": "m", "messageId": "1", "cid": "2", "userId": "u",
        "contentType": "a/b", "contentEncoding": "utf-8", "outputName": "o", "iothub-interface-id": "i",
        "edgeMessageId": "guid", "edgeHubOriginInterface": "internal", "creationTime": "t",
    }  # fmt: skip
    assert join_bag({"k": "v"}, system) == (
        "k=v&%24.cid=2&%24.mid=1&%24.uid=u&%24.ct=a%2Fb&%24.ce=utf-8&%24.ctime=t&%24.cdid=d&%24.cmid=m"
    )


plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=200)
@given(st.dictionaries(plain.filter(lambda key: key and not key.startswith(("$.", "ack", "iothub"))), plain))
def test_every_property_survives(properties: dict[str, str]) -> None:
    """With any characters (ref statement 33)."""
    assert split_bag(join_bag(properties, {})) == (properties, {})


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_parse_raises_only_topic_errors(text: str) -> None:
    """No text causes another exception."""
    for topic in (
        text,
        f"devices/d/modules/m/messages/events/{text}",
        f"$iothub/methods/res/{text}/?$rid={text}",
    ):
        with contextlib.suppress(TopicError):
            parse(topic)


@pytest.mark.parametrize(
    ("topic_filter", "meaning"),
    [
        ("$iothub/methods/POST/#", Subscription.METHODS),
        ("$iothub/twin/PATCH/properties/desired/#", Subscription.DESIRED),
        ("$iothub/twin/res/#", Subscription.TWIN_RESPONSES),
        ("$iothub/twin/res/200/#", None),
        ("devices/d/modules/m/inputs/#", Subscription.INPUTS),
        ("devices/d/modules/m/inputs/a", None),
        ("devices/d/messages/devicebound/#", Subscription.CLOUD_TO_DEVICE),
        ("#", None),
    ],
)
def test_filters_have_a_meaning(topic_filter: str, meaning: Subscription | None) -> None:
    """Each filter of ref 4.3; other filters have none."""
    assert subscription(topic_filter) is meaning


@pytest.mark.parametrize(
    ("topic_filter", "topic", "covered"),
    [
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("#", "a/b", True),
        ("a/+/c", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("a/+/#", "a/b", True),
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a#/b", "a#/b", True),
        ("d/x+y/#", "d/x+y/z", True),
    ],
)
def test_filters_cover_topics(topic_filter: str, topic: str, covered: bool) -> None:
    """By MQTT 3.1.1, 4.7; `+` and `#` inside a level are ordinary characters."""
    assert matches(topic_filter, topic) is covered
