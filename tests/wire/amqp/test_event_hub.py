"""azure-eventhub against the real hub: aio, groups, epochs, kill -9, wrong keys, bad bytes, many clients."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from azure.eventhub import TransportType
from azure.eventhub.aio import EventHubConsumerClient as AioConsumerClient
from azure.eventhub.exceptions import AuthenticationError

from tests.wire.amqp.clients import Reading, consumer, reading, variables
from tests.wire.hub_under_test import REST_PORT, HubUnderTest, running_hub, wait_for
from twinship.simulator.amqp.frames import SASL_HEADER

# azure-eventhub leaves the sockets of cut connections to the garbage collector
pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
AMQPS_PORT = 5671


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path, "--consumer-group", "second") as running:
        running.deploy("sender", "receiver")
        yield running
    gc.collect()


def send(hub: HubUnderTest, *bodies: str) -> None:
    """Send messages that are routed upstream."""
    with hub.module("sender") as sender:
        for body in bodies:
            sender.send("cloud", body.encode())


async def read_aio(hub: HubUnderTest, found: Reading, **options: Any) -> None:
    """Read two events with azure.eventhub.aio."""
    of_hub = variables(hub)
    client = AioConsumerClient.from_connection_string(
        of_hub["IOTHUB_EVENTHUB_CONNECTION_STRING"],
        consumer_group="$Default",
        connection_verify=of_hub["REQUESTS_CA_BUNDLE"],
        **options,
    )
    both = asyncio.Event()

    async def got(context: Any, event: Any) -> None:
        found.got(context, event)
        if len(found.events) == 2:
            both.set()

    async with client:
        receiving = asyncio.ensure_future(client.receive(on_event=got, starting_position="-1"))
        await asyncio.wait_for(both.wait(), 60)
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving


def partition_with_events(hub: HubUnderTest) -> str:
    """The partition that holds events."""
    with consumer(hub) as client:
        ids = client.get_partition_ids()
        return next(each for each in ids if not client.get_partition_properties(each)["is_empty"])


def serves(hub: HubUnderTest) -> bool:
    """Whether a client is served."""
    with consumer(hub) as client:
        return bool(client.get_eventhub_properties()["eventhub_name"])


@pytest.mark.client("azure-eventhub", "AMQP")
@pytest.mark.uses("connect", "telemetry")
def test_a_consumer_goes_on_at_its_offset_after_kill_9(hub: HubUnderTest) -> None:
    """Nothing is lost or doubled; sequence numbers and the lines of upstream.jsonl agree."""
    send(hub, "1", "2", "3")
    with reading(consumer(hub)) as first:
        first.wait(3)
    partition, last = first.events[1]
    hub.kill()
    hub.start()
    send(hub, "4")
    with reading(consumer(hub), starting_position={partition: last.offset}) as second:
        assert second.wait(2) == ["3", "4"]
    numbers = [event.sequence_number for _, event in (*first.events, second.events[-1])]
    assert numbers == [0, 1, 2, 3]
    for line, (_, event) in zip(hub.upstream(), first.events, strict=False):
        assert datetime.fromisoformat(line["EnqueuedTimeUtc"]) == event.enqueued_time


@pytest.mark.client("azure-eventhub", "AMQP")
@pytest.mark.uses("reconnect")
@pytest.mark.long
def test_a_reader_reconnects_after_kill_9_by_itself(hub: HubUnderTest) -> None:
    """The client's own retries find the hub again and read on."""
    send(hub, "1")
    with reading(consumer(hub, retry_total=20, retry_backoff_max=1)) as found:
        found.wait(1)
        hub.kill()
        hub.start()
        send(hub, "2")
        found.wait(2)
    assert sorted(set(found.bodies)) == ["1", "2"]


@pytest.mark.long
def test_consumer_groups_read_beside_each_other(hub: HubUnderTest) -> None:
    """Each gets every event; a group that the hub was not given is refused by name."""
    send(hub, "1", "2")
    with reading(consumer(hub)) as one, reading(consumer(hub, "second")) as other:
        assert one.wait(2) == other.wait(2) == ["1", "2"]
    with reading(consumer(hub, "third", retry_total=0)) as refused:
        wait_for(lambda: bool(refused.errors), "the refusal")
    assert "consumer group" in str(refused.errors[0])


@pytest.mark.long
def test_a_higher_epoch_takes_over(hub: HubUnderTest) -> None:
    """The first reader is told that its link was stolen."""
    send(hub, "1")
    partition = partition_with_events(hub)
    with reading(consumer(hub, retry_total=0), partition_id=partition, owner_level=1) as first:
        first.wait(1)
        with reading(consumer(hub), partition_id=partition, owner_level=2) as second:
            second.wait(1)
            wait_for(lambda: bool(first.errors), "the end of the first")
    assert "epoch 2 took over" in str(first.errors[0])


@pytest.mark.client("azure-eventhub.aio", "AMQP")
@pytest.mark.uses("connect", "telemetry")
def test_the_asynchronous_client_reads_the_same(hub: HubUnderTest) -> None:
    """azure.eventhub.aio."""
    send(hub, "1", "2")
    found = Reading()

    asyncio.run(read_aio(hub, found))
    assert found.bodies == ["1", "2"]


def test_a_wrong_key_reads_nothing(hub: HubUnderTest) -> None:
    """An error of authentication; the hub's log has no key and no token."""
    text = variables(hub)["IOTHUB_EVENTHUB_CONNECTION_STRING"]
    key = text.partition("SharedAccessKey=")[2].partition(";")[0]
    wrong = text.replace(key, "d3Jvbmc=")
    with (
        consumer(hub, connection_string=wrong, retry_total=0) as client,
        pytest.raises(AuthenticationError, match="not signed"),
    ):
        client.get_eventhub_properties()
    log = hub.log()
    assert "token refused" in log
    assert key not in log
    assert "&sig=" not in log


def connect(hub: HubUnderTest) -> ssl.SSLSocket:
    """A TLS connection to the AMQP port."""
    context = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))
    plain = socket.create_connection((hub.hub_address, AMQPS_PORT), timeout=60)
    return context.wrap_socket(plain, server_hostname=hub.hub_address)


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", SASL_HEADER + b"\x7f\xff\xff\xff\x02\x01\x00\x00", SASL_HEADER + bytes(64)],
    ids=["http", "size", "zeros"],
)
def test_bytes_that_are_no_amqp_end_their_connection_only(hub: HubUnderTest, sent: bytes) -> None:
    """One line in the log, no traceback, and the next client is served."""
    with connect(hub) as stranger:
        stranger.sendall(sent)
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            while stranger.recv(4096):
                pass
    assert "Traceback" not in hub.log()
    assert sum("AMQP" in line for line in hub.log().splitlines()) == 1
    assert serves(hub)


@pytest.mark.long
def test_a_thousand_idle_connections_disturb_nobody(hub: HubUnderTest) -> None:
    """Half-open ones end by themselves; one above the limit is closed at once; MQTT goes on meanwhile."""
    with contextlib.ExitStack() as open_:
        raw = [
            open_.enter_context(socket.create_connection((hub.hub_address, AMQPS_PORT), timeout=60))
            for _ in range(50)
        ]
        idle = [open_.enter_context(connect(hub)) for _ in range(1_000)]
        for each in idle:
            with contextlib.suppress(OSError):  # the first ones have ended by now
                each.sendall(SASL_HEADER)
        with hub.module("sender") as sender:
            for number in range(20):
                began = time.monotonic()
                sender.send("cloud", str(number).encode())
                assert time.monotonic() - began < 5
        raw[0].settimeout(60)
        assert raw[0].recv(1) == b""  # no TLS handshake in time
        wait_for(lambda: hub.log().count("no open within") >= 500, "the end of half-open connections")
    assert "Traceback" not in hub.log()
    assert serves(hub)


@pytest.mark.client("azure-eventhub.aio", "AMQP/WS")
@pytest.mark.uses("connect", "telemetry")
def test_the_client_reads_over_websockets(hub: HubUnderTest) -> None:
    """The asynchronous client, on the HTTPS port, with Azure's path; another request needs a token."""
    send(hub, "1", "2")
    address = f"https://{hub.hub_address}:{REST_PORT}"
    options: dict[str, Any] = {
        "transport_type": TransportType.AmqpOverWebsocket,
        "custom_endpoint_address": address,
    }
    found = Reading()
    asyncio.run(read_aio(hub, found, **options))
    assert found.bodies == ["1", "2"]
    assert "(WebSocket)" in hub.log()
    context = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))
    https = http.client.HTTPSConnection(hub.hub_address, REST_PORT, context=context)
    with contextlib.closing(https):
        https.request("GET", "/$servicebus/websocket")
        assert https.getresponse().status == 401
