"""Parses and writes the MQTT topics and property bags of IoT Hub (ref 2.3, 2.4, 4.3, 4.5).

Device and module ids stand in topics without encoding. In property bags every character except letters,
digits and `_.~-` is percent-encoded.

>>> parse("devices/edge/modules/camera/messages/events/%24.on=frames&k=a%20b")
Telemetry(sender=Identity(device='edge', module='camera'), properties={'k': 'a b'}, \
system={'outputName': 'frames'})
>>> join_bag({"k": "a b"}, {"messageId": "7"})
'k=a%20b&%24.mid=7'
>>> subscription("$iothub/methods/POST/#")
<Subscription.METHODS: 1>
>>> parse("some/topic")
Traceback (most recent call last):
    ...
twinship.simulator.edge_hub.topics.TopicError: nothing here listens to topic 'some/topic'
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import quote, unquote

from twinship.simulator.identity import Identity, identity_of

# Wire names → names of system properties in routes (ref 4.6), in the order in which edgeHub writes them.
INCOMING: Final = {
    "$.exp": "absolute-expiry-time",
    "$.cid": "cid",
    "$.mid": "messageId",
    "$.to": "to",
    "$.uid": "userId",
    "ack": "ack",
    "$.on": "outputName",
    "$.ct": "contentType",
    "$.ce": "contentEncoding",
    "$.schema": "messageSchema",
    "iothub-operation": "operation",
    "$.ctime": "creationTime",
    "$.sub": "dt-subject",
    "$.ifid": "iothub-interface-id",
}
# ref 4.5: `$.on` and `$.ifid` are not forwarded; the sender is.
OUTGOING: Final = {name: wire for wire, name in INCOMING.items() if wire not in ("$.on", "$.ifid")} | {
    "connectionDeviceId": "$.cdid",
    "connectionModuleId": "$.cmid",
}
TWIN_RESPONSES_FILTER: Final = "$iothub/twin/res/#"


class TopicError(ValueError):
    """A publish to a topic without a meaning: acknowledged, logged and dropped (ref 4.4)."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A message of a device or module. `system` has the names that routes use."""

    sender: Identity
    properties: Mapping[str, str]
    system: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TwinGet:
    rid: str


@dataclass(frozen=True, slots=True)
class ReportedPatch:
    rid: str


@dataclass(frozen=True, slots=True)
class MethodResponse:
    """`status` is 400000 if the module's status is not a number (ref 3)."""

    status: int
    rid: str


Inbound: TypeAlias = Telemetry | TwinGet | ReportedPatch | MethodResponse

UNDECODABLE_STATUS: Final = 400_000
_TELEMETRY: Final = "/messages/events"
_SENDER = re.compile(r"devices/([^/]+)(?:/modules/([^/]+))?")
_TWIN_GET = re.compile(r"\$iothub/twin/GET/\?(.*)", re.DOTALL)
_REPORTED = re.compile(r"\$iothub/twin/PATCH/properties/reported/\?(.*)", re.DOTALL)
_METHOD_RESPONSE = re.compile(r"\$iothub/methods/res/([^/]*)/\?(.*)", re.DOTALL)


def parse(topic: str) -> Inbound:
    """Parse the topic of a client's publish; raises TopicError."""
    if topic.startswith("devices/"):
        address, found, bag = topic.partition(_TELEMETRY)
        if found and (not bag or bag[0] == "/"):
            return Telemetry(_sender(address), *split_bag(bag[1:].rstrip("/")))
    if match := _TWIN_GET.fullmatch(topic):
        return TwinGet(_rid(match[1]))
    if match := _REPORTED.fullmatch(topic):
        return ReportedPatch(_rid(match[1]))
    if match := _METHOD_RESPONSE.fullmatch(topic):
        return MethodResponse(_status(match[1]), _rid(match[2]))
    raise _no_listener(topic)


@lru_cache(maxsize=4096)  # one for each client; exceptions are not cached
def _sender(address: str) -> Identity:
    """The sender, from the part before `/messages/events`; raises TopicError."""
    if not (match := _SENDER.fullmatch(address)):
        raise _no_listener(address + _TELEMETRY)
    try:
        return identity_of(match[1], match[2])
    except ValueError as error:
        raise TopicError(str(error)) from None


def _no_listener(topic: str) -> TopicError:
    return TopicError(f"nothing here listens to topic {topic[:200]!r}")


def split_bag(bag: str) -> tuple[dict[str, str], dict[str, str]]:
    """A property bag as (application properties, system properties); raises TopicError.

    A key without `=` has an empty value; unknown `$.` names count as application properties.
    """
    properties: dict[str, str] = {}
    system: dict[str, str] = {}
    for pair in bag.split("&") if bag else ():
        key, _, value = pair.partition("=")
        key, value = _unescaped_key(key), _unescaped(value)
        if (name := INCOMING.get(key)) is not None:
            system[name] = value
        elif key:
            properties[key] = value
    return properties, system


def join_bag(properties: Mapping[str, str], system: Mapping[str, str]) -> str:
    """The bag of a message to a module: application properties, then the system properties of OUTGOING."""
    pairs = [f"{_escaped_key(key)}={_escaped(value)}" for key, value in properties.items()]
    pairs += [f"{key}={_escaped(system[name])}" for name, key in _OUTGOING_KEYS if name in system]
    return "&".join(pairs)


def telemetry_source(sender: Identity, output: str | None) -> str:
    """The path that is compared with FROM of a route (ref 4.6)."""
    if sender.module is None:
        return "/messages"
    source = f"/messages/modules/{sender.module}"
    return f"{source}/outputs/{output}" if output else source


def input_message(to: Identity, input_name: str, bag: str) -> str:
    """The topic of a message to a module's input (ref 4.5)."""
    return f"devices/{to.device}/modules/{to.module}/inputs/{input_name}/{bag}"


def twin_response(status: int, rid: str, version: int | None = None) -> str:
    """The topic of the answer to a twin GET or PATCH; only IoT Hub adds a PATCH's `$version` (ref 4.9)."""
    topic = f"$iothub/twin/res/{status}/?$rid={rid}"
    return topic if version is None else f"{topic}&$version={version}"


def desired_patch(version: int) -> str:
    """The topic of a desired-properties notification."""
    return f"$iothub/twin/PATCH/properties/desired/?$version={version}"


def method_request(name: str, rid: str) -> str:
    """The topic of a direct method; the name is not encoded (ref 3)."""
    return f"$iothub/methods/POST/{name}/?$rid={rid}"


class Subscription(enum.Enum):
    """The messages that a client gets by a stored filter (ref 4.3)."""

    METHODS = enum.auto()
    DESIRED = enum.auto()
    TWIN_RESPONSES = enum.auto()
    INPUTS = enum.auto()
    CLOUD_TO_DEVICE = enum.auto()

    __hash__ = object.__hash__  # on the path of every message, and the one of Enum is written in Python


_MEANINGFUL: Final = (
    (re.compile(r"\$iothub/methods/POST/.*", re.DOTALL), Subscription.METHODS),
    (re.compile(r"\$iothub/twin/PATCH/properties/desired/.*", re.DOTALL), Subscription.DESIRED),
    (re.compile(re.escape(TWIN_RESPONSES_FILTER)), Subscription.TWIN_RESPONSES),
    (re.compile(r"devices/.+/modules/.+/#", re.DOTALL), Subscription.INPUTS),
    (re.compile(r".*messages/devicebound/#", re.DOTALL), Subscription.CLOUD_TO_DEVICE),
)


def subscription(topic_filter: str) -> Subscription | None:
    """The meaning of a filter; None: the filter is granted and has no effect."""
    for pattern, meaning in _MEANINGFUL:
        if pattern.fullmatch(topic_filter):
            return meaning
    return None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter covers a topic (MQTT 3.1.1, 4.7). `+` and `#` are wildcards only as a whole level."""
    if topic_filter.endswith("/#") and "+" not in topic_filter:
        return topic.startswith(topic_filter[:-1]) or topic == topic_filter[:-2]
    levels, names = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(levels):
        if level == "#" and index == len(levels) - 1:
            return True
        if index >= len(names) or level not in ("+", names[index]):
            return False
    return len(levels) == len(names)


def _rid(query: str) -> str:
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == "$rid" and value:
            return value
    raise TopicError("the topic has no $rid")


def _status(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else UNDECODABLE_STATUS


def _unescaped(text: str) -> str:
    if "%" not in text:
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise TopicError("a property is percent-encoded, but not as UTF-8") from None


# Cached: the keys are the same in every message, the values are not.
_unescaped_key = lru_cache(maxsize=1024)(_unescaped)
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")


def _escaped(text: str) -> str:
    # On the path of every message: quote() takes several microseconds, and nearly every value is plain.
    return text if _PLAIN.fullmatch(text) else quote(text, safe="")


@lru_cache(maxsize=1024)
def _escaped_key(text: str) -> str:
    return quote(text, safe="")


_OUTGOING_KEYS: Final = tuple((name, _escaped_key(wire)) for name, wire in OUTGOING.items())
