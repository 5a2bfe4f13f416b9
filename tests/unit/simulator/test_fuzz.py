"""What nobody should send: random MQTT bytes, packets and HTTP requests end in an answer or a refusal."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import sas
from simulator.identity import Identity
from simulator.mqtt_connection import PacketReader
from simulator.mqtt_fields import ProtocolError
from simulator.mqtt_packets import Packet, Puback, Publish, Subscribe, Unsubscribe
from simulator.registry import Registry
from simulator.rest import service_api
from simulator.store import Store
from tests.unit.simulator.edge import Edge, into
from tests.unit.simulator.test_mqtt_packets import WIRE
from tests.unit.simulator.test_rest import HUB, KEY, Methods

ADDRESS = "127.77.1.1"
EXAMPLES = pytest.mark.parametrize("examples", [1000, pytest.param(20_000, marks=pytest.mark.long)])


def bounded(examples: int) -> settings:
    """So many, each as long as it takes, none kept on the disk."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def changed(wire: bytes, changes: list[tuple[int, int]]) -> bytes:
    """A stream with single bytes replaced."""
    stream = bytearray(wire)
    for at, byte in changes:
        stream[at % len(stream)] = byte
    return bytes(stream)


STREAMS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        changed,
        st.lists(st.sampled_from(WIRE), min_size=1, max_size=6).map(b"".join),
        st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=8),
    ),
)


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


@EXAMPLES
def test_any_bytes_are_packets_or_a_protocol_error_however_they_are_cut(examples: int) -> None:
    """Never another exception; and the network's cuts change nothing."""

    @bounded(examples)
    @given(STREAMS, st.lists(st.integers(0, 200), max_size=6))
    def run(stream: bytes, cuts: list[int]) -> None:
        edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        pieces = [stream[begin:end] for begin, end in itertools.pairwise(edges)]
        assert read(pieces) == read([stream])

    run()


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)
# A wildcard in the topic of a PUBLISH never gets here: the decoder ends the connection (MQTT-3.3.2-2).
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


@EXAMPLES
def test_any_packet_of_a_client_is_dealt_with(examples: int) -> None:
    """Whatever a connected module sends, the core raises nothing and acknowledges every QoS 1 publish."""
    with tempfile.TemporaryDirectory() as folder:
        edge = Edge(Path(folder))
        edge.create("a", "b")
        edge.route(all=into("b"), back=into("a", source="/messages/modules/b"))

        @bounded(examples)
        @given(st.lists(PACKETS, min_size=1, max_size=5))
        def run(packets: list[Packet]) -> None:
            client = edge.connect("a", clean=True)
            for packet in packets:
                client.receive(packet)
            assert client.link.closed is None
            published = [each.packet_id for each in packets if isinstance(each, Publish)]
            assert client.acknowledged == published

        run()


@contextlib.contextmanager
def service(folder: Path) -> Iterator[int]:
    """The REST API on a thread of its own; yields its port."""
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


@EXAMPLES
def test_any_request_is_answered_and_never_with_a_server_error(examples: int, tmp_path: Path) -> None:
    """Status below 500, or 501 for what is not done and 504 for no answer; an error is JSON that says why."""
    token = sas.sign(KEY, HUB, int(time.time()) + 86_400, "iothubowner")
    headers = {"Authorization": token, "Content-Type": "application/json", "If-Match": "*"}
    with service(tmp_path) as port:
        connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)

        @bounded(examples)
        @given(VERBS, PATHS, CONTENTS)
        def run(verb: str, path: str, content: bytes) -> None:
            connection.request(verb, f"{path}?api-version=2021-04-12", content, headers)
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status < 500 or answer.status in (501, 504), (verb, path, content, told)
            if answer.status >= 400:
                shown: dict[str, Any] = json.loads(told)
                assert shown["Message"]

        with contextlib.closing(connection):
            run()
