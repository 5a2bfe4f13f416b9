"""Moves messages for the cloud to the event log, and writes a JSON line for each to a file (ref 6).

A message waits in a stored queue. After its commit and before the sender's PUBACK its line is appended to the
file, then it moves from the queue to the event log. That transaction also stores the length of the file.
So after a kill the lines beyond the stored length are the first messages of the queue: start() counts them
instead of writing them twice, and cuts off an incomplete last line.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

from twinship.simulator.clock import Alarm, Clock
from twinship.simulator.common.private_files import open_private
from twinship.simulator.common.times import iso_time
from twinship.simulator.edge_hub.queues import MessageQueue, QueuedMessage
from twinship.simulator.iot_hub.event_log import EventLog
from twinship.simulator.routing.message import RoutedMessage
from twinship.simulator.store import Store

logger = logging.getLogger(__name__)

QUEUE: Final = "$upstream"
DOCUMENTS: Final = "upstream"
MAX_BATCH: Final = 100
_MIN_BACK_OFF_S, _MAX_BACK_OFF_S = 1.0, 8.0
# Names in routes → names in storage. Other properties stay at the edge (ref 6: only those of the sender).
_SYSTEM: Final = {
    "messageId": "messageId",
    "cid": "correlationId",
    "userId": "userId",
    "contentType": "contentType",
    "contentEncoding": "contentEncoding",
    "connectionDeviceId": "connectionDeviceId",
    "connectionModuleId": "connectionModuleId",
    "connectionDeviceGenerationId": "connectionDeviceGenerationId",
    "iothub-message-source": "iothub-message-source",
    "messageSchema": "messageSchema",
    "creationTime": "iothub-creation-time-utc",
    "iothub-interface-id": "iothub-interface-id",
    "dt-subject": "dt-subject",
}


class UpstreamFile:
    """The stored queue of messages for the cloud, and the file that its lines go to."""

    def __init__(self, path: Path, queue: MessageQueue, store: Store, clock: Clock, log: EventLog) -> None:
        self.path = path
        self._log = log
        self.queue = queue
        self._store = store
        self._clock = clock
        self._retry: Alarm | None = None
        self._closed = False
        self.cut = False  # the cloud cannot be reached: all messages wait
        self._back_off_s = _MIN_BACK_OFF_S
        self._file = open_private(path, os.O_RDWR)
        self._bytes: int = store.documents(DOCUMENTS).get(path.name, 0)

    def start(self) -> None:
        """Call after the queue is restored: removes what the last process wrote, writes the rest."""
        self._recover()
        self.drain()

    def add(self, message: RoutedMessage, priority: int, expires: float | None) -> None:
        """Store a message for the cloud; its line is written after the commit."""
        wall = self._clock.wall()
        self.queue.add(
            stored_head(message), message.body, priority=priority, expires=expires, ready_at=0.0, wall=wall
        )
        self._store.after_commit(self.drain)

    def drain(self) -> None:
        """Append the lines of all committed messages; after a failure try again in 1 to 8 s."""
        if self._retry is not None or self._closed:
            return
        self.queue.begin_batch()  # _recover() must see the same order
        while not self.cut and (batch := self._take_batch()):
            try:
                self._append(batch)
            except OSError as error:
                self._put_back(batch, error)
                return
            self._back_off_s = _MIN_BACK_OFF_S

    def close(self) -> None:
        """Write the waiting messages, as far as possible, and close the file."""
        self.drain()
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        os.close(self._file)

    def _take_batch(self) -> list[QueuedMessage]:
        batch: list[QueuedMessage] = []
        while len(batch) < MAX_BATCH and self.queue.peek(self._clock.wall()) is not None:
            batch.append(self.queue.take())
        return batch

    def _append(self, batch: list[QueuedMessage]) -> None:
        enqueued_ms = int(self._clock.wall() * 1000)
        enqueued = iso_time(enqueued_ms / 1000, "milliseconds")
        text = b"".join(line(enqueued, waiting.head, waiting.body or b"") for waiting in batch)
        if (written := os.pwrite(self._file, text, self._bytes)) != len(text):
            raise OSError(f"wrote only {written} of {len(text)} bytes")
        self._bytes += len(text)
        self._move(batch, [enqueued_ms] * len(batch))

    def _move(self, batch: list[QueuedMessage], enqueued_ms: list[int]) -> None:
        """Move messages from the queue to the event log, and store the length of the file with that."""
        self._store.put(DOCUMENTS, self.path.name, self._bytes)
        for waiting, at_ms in zip(batch, enqueued_ms, strict=True):
            self._log.append(at_ms, waiting.head, waiting.body or b"")
            self.queue.remove(waiting)

    def _put_back(self, batch: list[QueuedMessage], error: OSError) -> None:
        with contextlib.suppress(OSError):  # a rest that cannot be cut off now is overwritten later
            os.ftruncate(self._file, self._bytes)
        for waiting in reversed(batch):
            self.queue.put_back(waiting)
        logger.error("%s: %s; trying again in %g s", self.path, error, self._back_off_s)
        self._retry = self._clock.later(self._back_off_s, self._try_again)
        self._back_off_s = min(self._back_off_s * 2, _MAX_BACK_OFF_S)

    def _try_again(self) -> None:
        self._retry = None
        self.drain()

    def _recover(self) -> None:
        """Remove the messages whose lines the last process wrote without storing the file's length."""
        length = os.fstat(self._file).st_size
        if self._bytes > length:  # somebody cut the file: append at its end, on a line of its own
            self._bytes = length
            if length and os.pread(self._file, 1, length - 1) != b"\n":
                self._bytes += os.pwrite(self._file, b"\n", length)
                length = self._bytes
        tail = os.pread(self._file, length - self._bytes, self._bytes)
        whole = tail.rfind(b"\n") + 1
        written = tail[:whole].splitlines()
        batch = [(each, self.queue.take()) for each in written if self.queue.peek(float("-inf")) is not None]
        self._bytes += whole
        if self._bytes < length:  # not true of a device file, which cannot be truncated
            os.ftruncate(self._file, self._bytes)
        self._move([waiting for _, waiting in batch], [self._enqueued_ms(each) for each, _ in batch])

    def _enqueued_ms(self, written: bytes) -> int:
        """The time in a line of the file."""
        try:
            return round(datetime.fromisoformat(json.loads(written)["EnqueuedTimeUtc"]).timestamp() * 1000)
        except (ValueError, KeyError, TypeError):  # somebody edited the file
            return int(self._clock.wall() * 1000)


def stored_head(message: RoutedMessage) -> str:
    """The part of a line that is known when the message is stored, as JSON text."""
    system = {name: message.system[key] for key, name in _SYSTEM.items() if key in message.system}
    return _json({"Properties": dict(message.properties), "SystemProperties": system})


def line(enqueued: str, stored: str, body: bytes) -> bytes:
    """One line of the file; `stored` is the result of stored_head(), `enqueued` is ISO 8601."""
    system = json.loads(stored)["SystemProperties"]
    text = _text(body, system)
    stamp = f'{"," if system else ""}"enqueuedTime":"{enqueued}"'
    # `stored` ends with the system properties, so the time goes before its last two braces
    return f'{{"EnqueuedTimeUtc":"{enqueued}",{stored[1:-2]}{stamp}}},"Body":{text}}}\n'.encode("ascii")


def _text(body: bytes, system: Mapping[str, str]) -> str:
    """The body itself if the sender declares it as JSON and it is JSON, else base64 in a JSON string."""
    if _declares_json(system):
        try:
            return _one_line(body)
        except (ValueError, RecursionError):
            logger.info("an upstream message is declared as JSON and is not JSON: written as base64")
    return f'"{base64.b64encode(body).decode("ascii")}"'


def _one_line(body: bytes) -> str:
    """The JSON text as sent if it is one line of ASCII, else written again. Raises ValueError."""
    if body.isascii() and not (b"\n" in body or b"\r" in body or b"\0" in body):  # zeros: UTF-16 or UTF-32
        _check(text := body.decode("ascii"))
        return text
    return _json(json.loads(body))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# Made once: json.loads() and json.dumps() with options make a new object at each call.
_check: Final = json.JSONDecoder(parse_constant=_refuse).decode
# ASCII: a JSON body may contain a lone surrogate, which UTF-8 cannot encode.
_json: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _declares_json(system: Mapping[str, str]) -> bool:
    return (
        system.get("contentType", "").lower() == "application/json"
        and system.get("contentEncoding", "").lower() == "utf-8"
    )
