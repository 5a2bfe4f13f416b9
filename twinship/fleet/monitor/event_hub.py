"""Reads an Event Hub-compatible endpoint with azure-eventhub: IoT Hub's or the simulator's.

Each partition has a thread of its own, because azure-eventhub waits 0.2 s for each partition without events
in its turn. The reader connects again by itself after an outage and continues after the last event.
azure-eventhub is imported when the first reader starts; its log is off, because it writes whole errors of the
transport.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any

from twinship.fleet import FleetError
from twinship.fleet.connection import (
    NotConfigured,
    bundle_of,
    parts_of,
    refuse_bad_key,
    refuse_placeholder,
    setting,
)
from twinship.fleet.monitor.messages import Source

VARIABLE = "IOTHUB_EVENTHUB_CONNECTION_STRING"
PARTS = ("Endpoint", "SharedAccessKeyName", "SharedAccessKey", "EntityPath")
CURE = "az iot hub connection-string show --hub-name <hub> --default-eventhub"
TICK_S = 0.5  # how often a reader without events returns to its caller
PAUSE_S = 1.0  # between two attempts to connect
_LOOK_S = 0.2  # how often azure-eventhub looks for partitions to read again; it does not sleep in between
_OWNERSHIP_S = 3600.0  # no other reader takes a partition
_WAITING_BATCHES = 64
#: AMQP conditions, without their prefix, that a retry does not change.
_LASTING = {
    "argument-error",
    "entity-disabled-error",
    "link:stolen",
    "not-allowed",
    "not-found",
    "resource-limit-exceeded",
    "unauthorized-access",
}
_SIGNATURE = re.compile(r"SharedAccessSignature\s*\S+")


class EndpointFailed(FleetError):
    """The endpoint cannot be read, and a retry does not change that."""


@dataclass(frozen=True)
class Endpoint:
    """A checked connection string of an Event Hub-compatible endpoint."""

    name: str  # host/entity
    text: str = field(repr=False)
    key: str = field(repr=False)
    ca_bundle: Path | None
    source: str  # the place of the setting, for messages


@dataclass(frozen=True)
class Event:
    """One event: `offset` is its position in the partition."""

    partition: str
    offset: str
    source: Source
    body: bytes = field(repr=False)


def find(environment: Mapping[str, str], env_file: Path) -> Endpoint:
    """The endpoint of the environment, else of the file. Raises NotConfigured."""
    if found := setting(VARIABLE, environment, env_file):
        return parse(*found)
    raise NotConfigured(
        f"{VARIABLE} is neither in the environment nor in {env_file}; cure: write the output of `{CURE}` "
        "into .env, or use the simulator's file: --env-file build/simulator/service.env"
    )


def parse(text: str, ca_bundle: str | None, source: str) -> Endpoint:
    """Check the connection string. Raises NotConfigured, which names the part but not its value."""
    where = f"{VARIABLE} in {source}"
    refuse_placeholder(where, text)
    parts = parts_of(text)
    if missing := [name for name in PARTS if not parts.get(name)]:
        raise NotConfigured(f"{where} has no {' and no '.join(missing)}; cure: {CURE}")
    host = re.fullmatch(r"sb://([A-Za-z0-9.:-]+)/?", parts["Endpoint"])
    if host is None:
        raise NotConfigured(f"{where}: Endpoint must be sb://HOST/; cure: {CURE}")
    refuse_bad_key(parts["SharedAccessKey"], where)
    name = f"{host[1]}/{parts['EntityPath']}"
    return Endpoint(name, text.strip(), parts["SharedAccessKey"], bundle_of(ca_bundle, source), source)


class Reader:
    """Iterates over the events of all partitions, without end; None after each TICK_S without an event.

    `start` is "now", "start" or a time; `offsets` (partition → offset) takes precedence. `warn` gets one line
    when the connection is lost. Raises EndpointFailed. Close it with `close`, or as a context manager.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        consumer_group: str,
        start: str | datetime,
        offsets: Mapping[str, str],
        warn: Callable[[str], None],
    ) -> None:
        from azure.eventhub import EventHubConsumerClient

        logging.getLogger("azure").addHandler(logging.NullHandler())
        logging.getLogger("azure").propagate = False
        self._endpoint, self._group = endpoint, consumer_group
        self._warn = warn
        self._lost = False
        self._lock = Lock()  # of _lost
        self._closing = Flag()
        self._found: Queue[list[Event] | EndpointFailed] = Queue(_WAITING_BATCHES)
        ca = str(endpoint.ca_bundle) if endpoint.ca_bundle else None
        # Without retries of its own: it would try again from inside a call that `close` cannot end.
        self._client = EventHubConsumerClient.from_connection_string(
            endpoint.text, consumer_group=consumer_group, retry_total=0, connection_verify=ca
        )
        try:
            positions = _positions(self._client, start, offsets)
        except Exception as error:
            self._client.close()
            raise self._failure(error) from None
        self._threads = [
            Thread(target=self._receive, args=each, name=f"events of partition {each[0]}", daemon=True)
            for each in positions.items()
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event | None]:
        while True:
            try:
                batch = self._found.get(timeout=TICK_S)
            except Empty:
                yield None
                continue
            if isinstance(batch, EndpointFailed):
                raise batch
            yield from batch

    def close(self) -> None:
        """Disconnect. Events that were not iterated over are dropped."""
        self._closing.set()
        self._client.close()
        for thread in self._threads:
            thread.join(PAUSE_S)

    def _receive(self, partition: str, position: Any) -> None:
        try:
            self._client.receive_batch(
                self._got,
                on_error=self._error,
                partition_id=partition,
                starting_position=position,
                load_balancing_interval=_LOOK_S,
                partition_ownership_expiration_interval=_OWNERSHIP_S,
            )
        except Exception as error:
            self._put(self._failure(error))

    def _got(self, partition: Any, events: list[Any]) -> None:
        if events:
            with self._lock:
                self._lost = False
            self._put([_event(partition.partition_id, each) for each in events])
            partition.update_checkpoint(events[-1])  # in memory: where the SDK continues after an outage

    def _error(self, _partition: Any, error: Exception) -> None:
        if self._closing.is_set():
            return
        if _condition(error) in _LASTING:
            self._put(self._failure(error))
            return
        with self._lock:
            first, self._lost = not self._lost, True
        if first:
            self._warn(f"twinship: {self._failure(error)}; trying again")
        self._closing.wait(PAUSE_S)

    def _put(self, item: list[Event] | EndpointFailed) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(Full):
                self._found.put(item, timeout=TICK_S)
                break

    def _failure(self, error: Exception) -> EndpointFailed:
        """One line for a person, without key and token."""
        name = self._endpoint.name
        if _condition(error) == "unauthorized-access":
            where = f"{VARIABLE} in {self._endpoint.source}"
            return EndpointFailed(f"{name} refuses the key of {where}; cure: {CURE}")
        text = " ".join(str(getattr(error, "message", error)).split()).replace(self._endpoint.key, "…")
        text = _SIGNATURE.sub("SharedAccessSignature …", text)[:300]
        return EndpointFailed(f"{name}, consumer group {self._group}: {text or type(error).__name__}")


def _condition(error: Exception) -> str | None:
    """The AMQP condition without its prefix. A refused token has only a status code (CBS: 401)."""
    if "Status code: 401" in str(error):
        return "unauthorized-access"
    condition = getattr(error, "error", None)
    return None if condition is None else str(condition)


def _positions(client: Any, start: str | datetime, offsets: Mapping[str, str]) -> dict[str, Any]:
    """Partition → where to begin: an offset, a sequence number (an int), a time, or "-1" for the oldest."""
    found: dict[str, Any] = {}
    for partition in client.get_partition_ids():
        if partition in offsets:
            found[partition] = offsets[partition]
        elif start == "now":  # as a number: "@latest" would be a later place after each new connection
            last = client.get_partition_properties(partition)["last_enqueued_sequence_number"]
            found[partition] = last if last >= 0 else "-1"
        else:
            found[partition] = "-1" if start == "start" else start
    return found


def _event(partition: str, event: Any) -> Event:
    system = {_text(name): value for name, value in event.system_properties.items()}
    enqueued = event.enqueued_time
    source = Source(
        _text(system.get("iothub-connection-device-id", "")),
        _text(system.get("iothub-connection-module-id", "")),
        enqueued.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" if enqueued else "",
    )
    try:
        body = event.body
        content = body if isinstance(body, bytes) else b"".join(body)
    except (TypeError, ValueError):  # an AMQP value or sequence: no body of a device
        content = b""
    return Event(partition, str(event.offset), source, content)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
