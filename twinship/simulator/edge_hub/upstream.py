"""What leaves the edge for the cloud: one JSON line a message, as IoT Hub stores them (ref 6).

A message waits in a stored queue; once it is committed its line is appended, before the sender's PUBACK, and
then it leaves the queue. The file's length stands in the store, written in the transaction that empties the
queue. So after a kill the lines beyond that length are exactly the first messages of the queue: they are
counted and not written twice, and a torn last line is cut off.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from twinship.simulator.clock import Alarm, Clock
from twinship.simulator.edge_hub.queues import MessageQueue, Waiting
from twinship.simulator.routing.message import RoutedMessage
from twinship.simulator.store import Store

logger = logging.getLogger(__name__)

QUEUE: Final = "$upstream"
DOCUMENTS: Final = "upstream"
MAX_BATCH: Final = 100
_MIN_BACK_OFF_S, _MAX_BACK_OFF_S = 1.0, 60.0
# Names of routes → names in storage. What is not here stays at the edge (ref 6: only what the sender wrote).
_SYSTEM: Final = {
    "messageId": "messageId",
    "cid": "correlationId",
    "userId": "userId",
    "contentType": "contentType",
    "contentEncoding": "contentEncoding",
    "connectionDeviceId": "connectionDeviceId",
    "connectionModuleId": "connectionModuleId",
    "connectionDeviceGenerationId": "connectionDeviceGenerationId",
    "messageSchema": "messageSchema",
    "creationTime": "iothub-creation-time-utc",
    "iothub-interface-id": "iothub-interface-id",
    "dt-subject": "dt-subject",
}


class UpstreamFile:
    """The stored queue of messages for the cloud, and the worker that empties it into a file."""

    def __init__(self, path: Path, queue: MessageQueue, store: Store, clock: Clock) -> None:
        self.path = path
        self.queue = queue
        self._store = store
        self._clock = clock
        self._retry: Alarm | None = None
        self._closed = False
        self.cut = False  # the cloud cannot be reached: everything waits
        self._back_off_s = _MIN_BACK_OFF_S
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._bytes: int = store.documents(DOCUMENTS).get(path.name, 0)

    def start(self) -> None:
        """Once the queue is restored: settle what the last process wrote, write what it could not."""
        self._recover()
        self.drain()

    def add(self, message: RoutedMessage, priority: int, expires: float | None) -> None:
        """Store a message for the cloud; its line is written after the commit."""
        wall = self._clock.wall()
        self.queue.add(
            head(message), message.body, priority=priority, expires=expires, ready_at=0.0, wall=wall
        )
        self._store.after_commit(self.drain)

    def drain(self) -> None:
        """Append the line of every committed message; on failure wait, 1 to 60 s, and try again."""
        if self._retry is not None or self._closed:
            return
        self.queue.begin_batch()  # so that _recover() sees the same order
        while not self.cut and (batch := self._take_batch()):
            try:
                self._append(batch)
            except OSError as error:
                self._put_back(batch, error)
                return
            self._back_off_s = _MIN_BACK_OFF_S

    def close(self) -> None:
        """Write what can be written and close the file."""
        self.drain()
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        os.close(self._file)

    def _take_batch(self) -> list[Waiting]:
        batch: list[Waiting] = []
        while len(batch) < MAX_BATCH and self.queue.head(self._clock.wall()) is not None:
            batch.append(self.queue.take())
        return batch

    def _append(self, batch: list[Waiting]) -> None:
        enqueued = _iso(self._clock.wall())
        text = b"".join(line(enqueued, waiting.head, waiting.body or b"") for waiting in batch)
        if (written := os.pwrite(self._file, text, self._bytes)) != len(text):
            raise OSError(f"only {written} of {len(text)} bytes fitted")
        self._bytes += len(text)
        self._settle(batch)

    def _settle(self, batch: list[Waiting]) -> None:
        self._store.put(DOCUMENTS, self.path.name, self._bytes)
        for waiting in batch:
            self.queue.done(waiting)

    def _put_back(self, batch: list[Waiting], error: OSError) -> None:
        with contextlib.suppress(OSError):  # what cannot be cut off now is written over later
            os.ftruncate(self._file, self._bytes)
        for waiting in reversed(batch):
            self.queue.give_back(waiting)
        logger.error("%s: %s; again in %g s", self.path, error, self._back_off_s)
        self._retry = self._clock.later(self._back_off_s, self._try_again)
        self._back_off_s = min(self._back_off_s * 2, _MAX_BACK_OFF_S)

    def _try_again(self) -> None:
        self._retry = None
        self.drain()

    def _recover(self) -> None:
        """Count what the last process wrote and could not note down any more."""
        length = os.fstat(self._file).st_size
        self._bytes = min(self._bytes, length)  # somebody emptied or removed the file: begin at its end
        tail = os.pread(self._file, length - self._bytes, self._bytes)
        whole = tail.rfind(b"\n") + 1
        written = tail[:whole].count(b"\n")
        batch = [self.queue.take() for _ in range(written) if self.queue.head(float("-inf")) is not None]
        self._bytes += whole
        if self._bytes < length:  # a device file cannot be cut, and has nothing to cut
            os.ftruncate(self._file, self._bytes)
        self._settle(batch)


def head(message: RoutedMessage) -> str:
    """What is known of a line before it leaves the edge, as JSON text."""
    system = {name: message.system[key] for key, name in _SYSTEM.items() if key in message.system}
    return _json({"Properties": dict(message.properties), "SystemProperties": system})


def line(enqueued: str, kept: str, body: bytes) -> bytes:
    """One line of the file; `kept` as head() made it, `enqueued` as ISO 8601."""
    system = json.loads(kept)["SystemProperties"]
    text = _text(body, system)
    stamp = f'{"," if system else ""}"enqueuedTime":"{enqueued}"'
    # head() ends with the system properties, so what is added goes in front of its last two braces
    return f'{{"EnqueuedTimeUtc":"{enqueued}",{kept[1:-2]}{stamp}}},"Body":{text}}}\n'.encode("ascii")


def _text(body: bytes, system: Mapping[str, str]) -> str:
    """The body as JSON: itself if it is what its sender says it is, else a string of base64."""
    if _declares_json(system):
        try:
            return _one_line(body)
        except (ValueError, RecursionError):
            logger.info("a message upstream says that it is JSON and is not: written as base64")
    return f'"{base64.b64encode(body).decode("ascii")}"'


def _one_line(body: bytes) -> str:
    """JSON as the sender wrote it where that is one line of ASCII, else written anew. Raises ValueError."""
    if body.isascii() and not (b"\n" in body or b"\r" in body or b"\0" in body):  # zeros: UTF-16 or UTF-32
        _check(text := body.decode("ascii"))
        return text
    return _json(json.loads(body))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# These two are kept: loads() and dumps() make one each time, where they are not told the usual.
_check: Final = json.JSONDecoder(parse_constant=_refuse).decode
# ASCII: a JSON body may hold half a surrogate pair, which UTF-8 cannot.
_json: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _declares_json(system: Mapping[str, str]) -> bool:
    return (
        system.get("contentType", "").lower() == "application/json"
        and system.get("contentEncoding", "").lower() == "utf-8"
    )


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
