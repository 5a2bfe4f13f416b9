"""The connection string of an event endpoint, and what a reader makes of the SDK's events and errors."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.eventhub
import pytest

from twinship.fleet.connection import NotConfigured
from twinship.fleet.monitor import event_hub
from twinship.fleet.monitor.event_hub import EndpointFailed, Reader

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
TEXT = f"Endpoint=sb://ns.example.net/;SharedAccessKeyName=service;SharedAccessKey={KEY};EntityPath=hub"


class Failure(Exception):
    """An error as azure-eventhub raises it: with the AMQP condition."""

    def __init__(self, text: str, condition: str | None = None) -> None:
        super().__init__(text)
        self.error = condition


class Client:
    """Stands for EventHubConsumerClient: three partitions, the first one empty."""

    failures: tuple[Exception, ...] = ()
    at_start: Exception | None = None

    def __init__(self) -> None:
        self.position: dict[str, Any] = {}
        self.closed = threading.Event()

    def get_partition_ids(self) -> list[str]:
        if self.at_start:
            raise self.at_start
        return ["0", "1", "2"]

    def get_partition_properties(self, partition: str) -> dict[str, int]:
        return {"last_enqueued_sequence_number": {"0": -1, "1": 41, "2": 7}[partition]}

    def receive_batch(
        self, _got: object, *, on_error: Any, partition_id: str, starting_position: Any, **_: object
    ) -> None:
        self.position[partition_id] = starting_position
        for each in self.failures:
            on_error(None, each)
        self.closed.wait(10)

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """The stand-in, which the reader makes from the connection string."""
    made = Client()
    monkeypatch.setattr(
        azure.eventhub.EventHubConsumerClient, "from_connection_string", lambda *_args, **_options: made
    )
    monkeypatch.setattr(event_hub, "PAUSE_S", 0.01)
    monkeypatch.setattr(event_hub, "TICK_S", 0.01)
    return made


def reader(
    start: str = "now", offsets: dict[str, str] | None = None, warnings: list[str] | None = None
) -> Reader:
    """A reader of the stand-in."""
    warn = (warnings if warnings is not None else []).append
    return Reader(event_hub.parse(TEXT, None, ".env"), "$Default", start, offsets or {}, warn)


def test_the_string_of_azure_is_taken() -> None:
    """Its name is host and entity; repr shows no key."""
    found = event_hub.parse(TEXT, None, ".env")
    assert found.name == "ns.example.net/hub"
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "neither in the environment nor in"),
        (TEXT.partition(";EntityPath")[0], "no EntityPath"),
        (TEXT.replace("sb://ns.example.net/", "https://ns/"), "must be sb://HOST/"),
        (TEXT.replace("sb://ns.", "sb://<namespace>."), "placeholder <namespace>"),
        (TEXT.replace(KEY, f"{KEY}*"), "not base64"),
        (f"HostName=h;SharedAccessKeyName=owner;SharedAccessKey={KEY}", "no Endpoint and no EntityPath"),
    ],
)
def test_an_unusable_string_is_refused_without_its_key(tmp_path: Path, text: str, named: str) -> None:
    """One line that names the part."""
    with pytest.raises(NotConfigured, match=named) as refused:
        event_hub.find({"IOTHUB_EVENTHUB_CONNECTION_STRING": text}, tmp_path / ".env")
    assert KEY not in str(refused.value)
    assert event_hub.VARIABLE in str(refused.value)


@pytest.mark.parametrize(
    ("start", "positions"),
    [("now", {"0": "-1", "1": 41, "2": "9"}), ("start", {"0": "-1", "1": "-1", "2": "9"})],
)
def test_reading_begins_where_it_is_told(client: Client, start: str, positions: dict[str, Any]) -> None:
    """A partition of the checkpoint goes on there; `now` is a number, so an outage does not move it."""
    with reader(start, {"2": "9"}) as running:
        assert next(iter(running)) is None
        assert client.position == positions


def test_an_outage_is_one_line_and_reading_goes_on(client: Client) -> None:
    """However many attempts of however many partitions fail."""
    client.failures = (Failure("refused"), Failure("refused"), Failure("lost", "connection:forced"))
    warnings: list[str] = []
    with reader(warnings=warnings) as running:
        found = iter(running)
        assert [next(found) for _ in range(10)] == [None] * 10
    assert warnings == ["twinship: ns.example.net/hub, consumer group $Default: refused; trying again"]


def test_the_next_outage_is_another_line(client: Client) -> None:
    """Events of one partition end the first outage; a partition without events does not hide the second."""
    client.failures = (Failure("refused"),)
    warnings: list[str] = []
    with reader(warnings=warnings) as running:
        found = iter(running)
        assert [next(found) for _ in range(10)] == [None] * 10
        event = SimpleNamespace(system_properties={}, enqueued_time=None, offset="3", body=b"{}")
        partition = SimpleNamespace(partition_id="1", update_checkpoint=lambda event: None)
        running._got(partition, [event])
        running._error(None, Failure("refused"))
    assert len(warnings) == 2


@pytest.mark.parametrize(
    ("failure", "named"),
    [
        (Failure("x", "unauthorized-access"), "refuses the key"),
        (
            Failure("failed. Status code: 401 Description: InvalidSignature", "client-error"),
            "refuses the key",
        ),
        (Failure("no group", "not-found"), "no group"),
        (
            Failure(f"key {KEY} SharedAccessSignature sr=a&sig=b", "argument-error"),
            "key … SharedAccessSignature …",
        ),
    ],
)
def test_an_error_that_lasts_ends_the_reading(client: Client, failure: Failure, named: str) -> None:
    """At the start or later, in one line without key and token."""
    client.failures = (failure,)
    with reader() as running, pytest.raises(EndpointFailed, match=named) as later:
        list(running)
    client.at_start = failure
    with pytest.raises(EndpointFailed, match=named) as at_start:
        reader()
    for error in (later.value, at_start.value):
        assert KEY not in str(error)
        assert "sig=" not in str(error)


def test_a_hub_that_does_not_answer_at_the_start_is_an_error(client: Client) -> None:
    """Only an outage after that is waited for."""
    client.at_start = Failure("connection refused")
    with pytest.raises(EndpointFailed, match="connection refused"):
        reader()
    assert client.closed.is_set()
