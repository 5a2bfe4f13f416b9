"""`python -m twinship.bench.peers.floor`: the minimal program that answers a frame, on bare paho.

It receives a PNG and publishes the label, with the same model file and runtime as the inference module, but
without frame identity, stage times, ordering, repeats or settings.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from paho.mqtt.client import Client
from PIL import Image

from inference.artefact import read
from inference.engine import Engine
from inference.frames.preprocess import decode_file, prepare
from twinship.bench.peers.mosquitto import HOST

FRAMES: Final = "frames"
PREDICTIONS: Final = "predictions"
READY: Final = "ready"
STAMP_BYTES: Final = 8  # CLOCK_MONOTONIC ns at capture, in front of the picture


@dataclass(frozen=True)
class Peer:
    """The settings of the process, JSON on its command line."""

    port: int
    ca: str
    inflight: int
    model: str
    #: Frames in each phase. After a phase, one line on stdout has (capture, PUBACK) of each, monotonic ns.
    phases: list[int]


def client(peer: Peer, name: str) -> Any:
    """A paho client that is not connected yet: TLS, TCP_NODELAY, `inflight` messages outstanding."""
    made = Client(client_id=name)
    made.tls_set_context(ssl.create_default_context(cafile=peer.ca))
    made.max_inflight_messages_set(peer.inflight)
    made.max_queued_messages_set(0)
    made.on_socket_open = lambda _client, _data, connection: connection.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )
    return made


class Classifier:
    """Receives frames and publishes labels. After each phase it writes the times of its frames to stdout."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._engine = Engine(read(Path(peer.model).read_bytes()))
        self._engine.warm()
        self._mqtt = client(peer, "inference")
        self._mqtt.on_connect = lambda *_: self._mqtt.subscribe(FRAMES, qos=1)
        self._mqtt.on_subscribe = lambda *_: self._mqtt.publish(READY, b"", qos=1, retain=True)
        self._mqtt.on_message = self._classify
        self._mqtt.on_publish = self._acknowledged
        self._captured: dict[int, int] = {}  # packet id → when its frame was captured
        self._times: list[tuple[int, int]] = []

    def run(self) -> None:
        """Run until the process is killed."""
        self._mqtt.connect(HOST, self._peer.port)
        self._mqtt.loop_forever()

    def _classify(self, _client: object, _data: object, message: Any) -> None:
        captured = int.from_bytes(message.payload[:STAMP_BYTES], "big")
        label = self._engine.labels[int(self._engine.infer(self._pixels(message.payload)).argmax())]
        sent = self._mqtt.publish(PREDICTIONS, json.dumps({"label": label}), qos=1)
        self._captured[sent.mid] = captured

    def _pixels(self, payload: bytes) -> NDArray[np.uint8]:
        """The picture as the model takes it, by the shortest way: only a JPEG must be resized."""
        body, spec = payload[STAMP_BYTES:], self._engine.input
        if body.startswith(b"\xff\xd8"):
            return prepare(decode_file(body, spec), spec)
        with Image.open(BytesIO(body)) as picture:
            return np.asarray(picture)[:, :, np.newaxis]

    def _acknowledged(self, _client: object, _data: object, mid: int) -> None:
        if (captured := self._captured.pop(mid, None)) is None:
            return  # the READY message
        self._times.append((captured, time.monotonic_ns()))
        if len(self._times) == self._peer.phases[0]:
            self._peer.phases.pop(0)
            print(json.dumps(self._times), flush=True)  # noqa: T201
            self._times = []


if __name__ == "__main__":
    Classifier(Peer(**json.loads(sys.argv[1]))).run()
