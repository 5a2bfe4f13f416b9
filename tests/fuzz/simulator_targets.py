"""Targets of the simulator and of the operator's files: what clients, services and templates send."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import Any

from tests.fuzz.target import SEPARATOR, Case, Promised, bag_of, check, parts, text_of

HUB, KEY = "hub.example", "a2V5"
NOW = 1_700_000_000.0


def mqtt() -> tuple[Case, Promised]:
    """A size of pieces, then a stream: the pieces change nothing, and a packet survives encoding."""
    from twinship.simulator.mqtt.connection import PacketReader
    from twinship.simulator.mqtt.fields import ProtocolError
    from twinship.simulator.mqtt.packets import Packet

    def read(chunks: list[bytes]) -> tuple[list[Packet], bool]:
        """The packets, and whether the stream ended in a ProtocolError."""
        reader, packets = PacketReader(), []
        try:
            for chunk in chunks:
                for packet in reader.feed(chunk):
                    packets.append(packet)
        except ProtocolError:
            return packets, True
        return packets, False

    def case(data: bytes) -> None:
        stream, size = data[1:], data[0] + 1 if data else 1
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        packets, broken = read([stream])
        check(read(pieces) == (packets, broken), "the pieces of a stream change its packets")
        for packet in packets:
            check(list(PacketReader().feed(packet.encode())) == [packet], "a packet changes on its way")

    return case, ()


def amqp() -> tuple[Case, Promised]:
    """First bytes, or bodies of frames in a session: no connection raises. A value survives encoding."""
    from twinship.simulator.amqp.connection import Connection
    from twinship.simulator.amqp.links import Attached, Received, Session
    from twinship.simulator.amqp.messages import decode_message
    from twinship.simulator.amqp.performatives import make
    from twinship.simulator.amqp.types import Malformed, decode, encode
    from twinship.simulator.amqp.wire import State

    def talk(stream: bytes, frames: bytes) -> None:
        """Accept every link and message, and send one message to each receiver."""
        connection = Connection("hub", lambda mechanism, response: True, 0.0)
        if not stream:
            connection.state, connection.sessions[0] = State.OPEN, Session(0, 9, 0)
        for chunk in (stream, frames):
            for event in connection.receive(chunk, 0.0):
                if isinstance(event, Attached):
                    connection.accept(event.link)
                    if event.link.sends:
                        connection.send(event.link, b"body", context=1)
                elif isinstance(event, Received):
                    connection.settle(event, make("accepted"))

    def case(data: bytes) -> None:
        stream, *bodies = data.split(SEPARATOR)
        try:
            talk(stream, b"".join(struct.pack(">IBBH", 8 + len(body), 2, 0, 0) + body for body in bodies))
        except Malformed as error:
            raise AssertionError("a connection raised it") from error
        last = bodies[-1] if bodies else stream
        with contextlib.suppress(Malformed):
            decode_message(last)
        written = encode(decode(last))
        check(encode(decode(written)) == written, "a value changes on its way")

    return case, (Malformed,)


def topic() -> tuple[Case, Promised]:
    """A topic and a filter; the property bag of a topic survives being written and read."""
    from twinship.simulator.edge_hub import topics

    def case(data: bytes) -> None:
        name, topic_filter = (part.decode("utf-8", "replace") for part in parts(data, 2))
        topics.subscription(topic_filter)
        topics.matches(topic_filter, name)
        topics.matches(name, name)
        found = topics.parse(name)
        if isinstance(found, topics.Telemetry):
            written = topics.join_bag(found.properties, found.system)
            check(topics.split_bag(written)[0] == found.properties, "a property changes on its way")

    return case, (topics.TopicError,)


def sas() -> tuple[Case, Promised]:
    """A token of a stranger: it is refused, and the refusal does not show its signature."""
    from twinship.simulator import sas

    def case(data: bytes) -> None:
        token = text_of(data)
        sas.parse(token)
        sas.verify(token, allowed=[(HUB, [KEY]), (f"{HUB}/devices/edge", [KEY, KEY])], now=NOW)

    return case, (sas.SasRefused,)


def connect() -> tuple[Case, Promised]:
    """The head of a CONNECT request; a refusal can be sent."""
    from twinship.simulator.listeners import connect_proxy

    def case(data: bytes) -> None:
        try:
            connect_proxy.parse_target(data)
        except connect_proxy.BadRequest as refused:
            connect_proxy.error_response(refused.status, f"{refused}\n")

    return case, ()


def route() -> tuple[Case, Promised]:
    """The text of a route, then properties and body of a message: a condition raises for no message."""
    from twinship.simulator.common.tokens import ExpressionError
    from twinship.simulator.routing.message import RoutedMessage
    from twinship.simulator.routing.routes import Routing, parse_route

    system = {"contentType": "application/json", "contentEncoding": "utf-8", "connectionModuleId": "camera"}

    def case(data: bytes) -> None:
        text, properties, body = parts(data, 3)
        route = parse_route("route", text_of(text))
        message = RoutedMessage("/messages/modules/camera/outputs/o", bag_of(properties), system, body)
        Routing([route]).match(message)
        if route.condition is not None:  # also if the source is another
            route.condition(message)

    return case, (ExpressionError,)


def query() -> tuple[Case, Promised]:
    """A twin query and a continuation: the pages together are the rows."""
    from twinship.simulator.common.tokens import ExpressionError
    from twinship.simulator.iot_hub.query.language import parse_query
    from twinship.simulator.iot_hub.query.rows import ContinuationInvalid, page, rows

    tags: tuple[dict[str, Any], ...] = (
        {"floor": 2, "site": "a b"},
        {"floor": "2", "list": [1, None]},
        {"floor": None},
        {},
    )
    twins = [
        {"deviceId": f"d{index}", "moduleId": "m", "tags": each, "properties": {"desired": {"x": {"y": 1.5}}}}
        for index, each in enumerate(tags)
    ]

    def case(data: bytes) -> None:
        text, continuation = map(text_of, parts(data, 2))
        found = rows(parse_query(text), twins)
        first = page(text, found, None, 2)
        rest = [] if first.continuation is None else page(text, found, first.continuation, 99).rows
        check([*first.rows, *rest] == [row for _, row in found], "pages lose or repeat rows")
        page(text, found, continuation or None, 2)

    return case, (ExpressionError, ContinuationInvalid)


def manifest() -> tuple[Case, Promised]:
    """A deployment template, expanded and linted as `twinship deploy` does."""
    from twinship.simulator import lint
    from twinship.simulator.manifest.manifest import expand, module_json
    from twinship.simulator.manifest.modules_content import ManifestError
    from twinship.simulator.manifest.placeholders import ModuleJson

    modules = {"camera_sim": ModuleJson("$REGISTRY/camera_sim", "1.0", ("amd64", "arm64v8"))}
    environment = {"REGISTRY": "localhost:5000", "QUOTE": '"\\', "NUMBER": "3"}

    def case(data: bytes) -> None:
        template, module = (part.decode("utf-8", "replace") for part in parts(data, 2))
        deployment = expand(template, environment, modules)
        list(lint.errors(deployment))
        lint.undefined(deployment)
        module_json(module, environment)

    return case, (ManifestError,)


def env() -> tuple[Case, Promised]:
    """A file of settings, read as every command of the operator reads it; no refusal shows a key."""
    from twinship.fleet.connection import NotConfigured, device_name, find

    file = os.memfd_create("env")  # a file on a disk takes twenty times as long
    path = Path(f"/proc/self/fd/{file}")

    def case(data: bytes) -> None:
        os.ftruncate(file, 0)
        os.pwrite(file, data, 0)
        device_name({}, path)
        find({}, path)

    return case, (NotConfigured,)
