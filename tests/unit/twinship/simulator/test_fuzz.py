"""Random MQTT bytes, packets and HTTP requests: each ends in an answer or a refusal.

A thousand of each; tests/fuzz runs many more, guided by the coverage.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.twinship.simulator.edge import Edge, into
from tests.unit.twinship.simulator.mqtt.test_packets import WIRE
from tests.unit.twinship.simulator.service_api.test_app import HUB, KEY, Methods
from twinship.simulator import sas
from twinship.simulator.edge_hub import topics
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.listeners import connect_proxy
from twinship.simulator.mqtt.connection import PacketReader
from twinship.simulator.mqtt.fields import ProtocolError
from twinship.simulator.mqtt.packets import Packet, Puback, Publish, Subscribe, Unsubscribe
from twinship.simulator.service_api.app import service_api
from twinship.simulator.store import Store

ADDRESS = "127.77.1.1"
BATCH = 10  # packets or requests of one example: the overhead of an example takes as long as ten of them


def explored(examples: int, test: Callable[..., None]) -> Callable[..., None]:
    """The test with so many examples and without a database, which would keep their bytes."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, database=None, suppress_health_check=slow)(test)


def mutated(program: bytes) -> bytes:
    """A stream made from these bytes: the number of packets, which ones, then pairs of position and new byte.

    One draw makes a stream; drawing each choice takes Hypothesis four times as long.
    """
    count = program[0] % 6 + 1 if program else 1
    stream = bytearray(b"".join(WIRE[choice % len(WIRE)] for choice in program[1 : count + 1]) or WIRE[0])
    for at, byte in zip(program[count + 1 :: 2], program[count + 2 :: 2], strict=False):
        stream[at % len(stream)] = byte
    return bytes(stream)


STREAMS = st.binary(max_size=200) | st.binary(max_size=24).map(mutated)


def read(chunks: list[bytes]) -> tuple[list[Packet], bool]:
    """The packets of a stream, and whether it ended in a ProtocolError."""
    reader, packets = PacketReader(), []
    try:
        for chunk in chunks:
            for packet in reader.feed(chunk):
                packets.append(packet)
    except ProtocolError:
        return packets, True
    return packets, False


def test_any_bytes_are_packets_or_a_protocol_error() -> None:
    """No other exception; the pieces in which the bytes arrive change nothing."""

    @given(STREAMS, st.binary(max_size=6))
    def run(stream: bytes, cuts: bytes) -> None:
        edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        pieces = [stream[begin:end] for begin, end in itertools.pairwise(edges)]
        assert read(pieces) == read([stream])

    explored(1000, run)()


@pytest.mark.parametrize("at", range(len(WIRE)))
def test_a_truncated_stream_has_its_complete_packets(at: int) -> None:
    """Without an error, since the rest may still arrive; also between two other packets."""
    stream = WIRE[at - 1] + WIRE[at] + WIRE[(at + 1) % len(WIRE)]
    ends = [len(WIRE[at - 1]), len(WIRE[at - 1] + WIRE[at]), len(stream)]
    whole, _ = read([stream])
    for length in range(len(stream) + 1):
        assert read([stream[:length]]) == (whole[: sum(end <= length for end in ends)], False)


TOKEN = sas.sign(KEY, HUB, 2_000_000_000, "iothubowner")


@pytest.mark.parametrize(
    ("decode", "whole", "refusal"),
    [
        (topics.parse, "devices/edge/modules/a/messages/events/%24.on=o&a%C3%BC=%2F", topics.TopicError),
        (topics.parse, "$iothub/twin/GET/?$rid=1", topics.TopicError),
        (topics.parse, "$iothub/twin/PATCH/properties/reported/?$rid=1", topics.TopicError),
        (topics.parse, "$iothub/methods/res/200/?$rid=1", topics.TopicError),
        (sas.parse, TOKEN, sas.SasRefused),
        (
            lambda head: connect_proxy.parse_target(head.encode()),
            "CONNECT h:1 HTTP/1.1\r\n\r\n",
            connect_proxy.BadRequest,
        ),
    ],
)
def test_a_truncated_text_is_parsed_or_refused(
    decode: Callable[[str], object], whole: str, refusal: type[Exception]
) -> None:
    """Only with the error of its parser."""
    decode(whole)
    for length in range(len(whole)):
        with contextlib.suppress(refusal):
            decode(whole[:length])


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)
# Without wildcards: for those in the topic of a PUBLISH the decoder ends the connection (MQTT-3.3.2-2).
PLAIN = st.text(st.characters(exclude_characters="\0+#", codec="utf-8"), max_size=30)
TOPICS = st.one_of(
    PLAIN,
    st.builds("devices/edge/modules/a/messages/events/{}".format, PLAIN),
    st.builds("devices/{}/modules/{}/messages/events/%24.on=x".format, PLAIN, PLAIN),
    st.builds("$iothub/twin/GET/{}".format, PLAIN),
    st.builds("$iothub/twin/PATCH/properties/reported/?$rid={}".format, PLAIN | PLAIN.map(quote)),
    st.builds("$iothub/methods/res/{}/?$rid={}".format, PLAIN, PLAIN),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
BODIES = st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode())
FILTERS = st.one_of(
    TEXT.filter(bool), st.sampled_from(["devices/edge/modules/a/inputs/#", "$iothub/twin/res/#"])
)
PACKETS = st.one_of(
    st.builds(Publish, TOPICS, BODIES, st.just(1), st.integers(1, 65535), st.booleans()),
    st.builds(Puback, st.integers(1, 65535)),
    st.builds(Subscribe, st.integers(1, 65535), st.tuples(st.tuples(FILTERS, st.integers(0, 2)))),
    st.builds(Unsubscribe, st.integers(1, 65535), st.tuples(FILTERS)),
)


def test_any_packet_of_a_client_is_handled() -> None:
    """No packet of a connected module raises, and every QoS 1 publish is acknowledged."""
    with tempfile.TemporaryDirectory() as folder:
        edge = Edge(Path(folder))
        edge.create("a", "b")
        edge.route(all=into("b"), back=into("a", source="/messages/modules/b"))

        @given(st.lists(PACKETS, min_size=BATCH, max_size=BATCH))
        def run(packets: list[Packet]) -> None:
            client = edge.connect("a", clean=True)
            for packet in packets:
                client.receive(packet)
            assert client.link.closed is None
            published = [each.packet_id for each in packets if isinstance(each, Publish)]
            assert client.acknowledged == published

        explored(1000 // BATCH, run)()


@contextlib.contextmanager
def service(folder: Path) -> Iterator[int]:
    """The REST API in a thread; yields its port."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    ports: list[int] = []

    async def serve() -> web.AppRunner:
        store = Store(folder / "hub.sqlite")
        registry = Registry(store, HUB, time.time)
        registry.create(Identity("edge"), {"capabilities": {"iotEdge": True}})
        registry.create(Identity("edge", "camera"), {})
        runner = web.AppRunner(service_api(registry, Methods(), {"iothubowner": [KEY]}), access_log=None)
        runner.app.on_cleanup.append(lambda _: store.close())
        await runner.setup()
        site = web.TCPSite(runner, ADDRESS, 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        started.set()
        return runner

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(serve(), loop).result(60)
    try:
        yield ports[0]
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


SEGMENTS = st.sampled_from(
    [
        "devices",
        "twins",
        "modules",
        "edge",
        "camera",
        "$edgeHub",
        "methods",
        "query",
        "configurations",
        "jobs",
    ]
) | TEXT.map(lambda text: quote(text, safe=""))
PATHS = st.lists(SEGMENTS, max_size=6).map(lambda parts: "/" + "/".join(parts))
VERBS = st.sampled_from(["GET", "PUT", "PATCH", "POST", "DELETE"])
KEYS = st.sampled_from(
    [
        "deviceId",
        "moduleId",
        "etag",
        "properties",
        "desired",
        "authentication",
        "capabilities",
        "query",
        "tags",
    ]
)
SHAPES = st.recursive(JSON, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=10)
CONTENTS = st.binary(max_size=60) | SHAPES.map(lambda value: json.dumps(value).encode())


def test_any_request_is_answered_without_a_server_error(tmp_path: Path) -> None:
    """Status below 500, 501 (not supported) or 504 (no answer); an error is JSON with its reason."""
    token = sas.sign(KEY, HUB, int(time.time()) + 86_400, "iothubowner")
    headers = {"Authorization": token, "Content-Type": "application/json", "If-Match": "*"}
    with service(tmp_path) as port:
        connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)

        def request(verb: str, path: str, content: bytes) -> None:
            connection.request(verb, f"{path}?api-version=2021-04-12", content, headers)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status < 500 or answer.status in (501, 504), (verb, path, content, body)
            if answer.status >= 400:
                shown: dict[str, Any] = json.loads(body)
                assert shown.get("Message") or shown["errors"]  # `errors` of a bulk operation

        @given(st.lists(st.tuples(VERBS, PATHS, CONTENTS), min_size=BATCH, max_size=BATCH))
        def run(requests: list[tuple[str, str, bytes]]) -> None:
            for each in requests:
                request(*each)

        with contextlib.closing(connection):
            explored(1000 // BATCH, run)()
