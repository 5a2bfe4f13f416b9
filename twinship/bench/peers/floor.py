"""`python -m twinship.bench.peers.floor`: the least that can answer a frame, on bare paho. The floor's other process.

A PNG comes in, its label goes out, with the same model file and runtime as the inference module: no identity,
no ledger, no order, no repeats, no settings.
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
from paho.mqtt.client import Client
from PIL import Image

from inference.artefact import read
from inference.engine import Engine
from twinship.bench.peers.mosquitto import HOST

FRAMES: Final = "frames"
PREDICTIONS: Final = "predictions"
READY: Final = "ready"
STAMP_BYTES: Final = 8  # CLOCK_MONOTONIC ns at capture, in front of the picture


@dataclass(frozen=True)
class Peer:
    """What the process is told on its command line."""

    port: int
    ca: Path
    inflight: int
    model: Path
    phases: list[int]  # how many frames until a line on stdout: the (captured, PUBACK) of each, monotonic ns


def client(peer: Peer, name: str) -> Any:
    """A paho client that is not connected: TLS, NODELAY, so many messages outstanding."""
    made = Client(client_id=name)
    made.tls_set_context(ssl.create_default_context(cafile=str(peer.ca)))
    made.max_inflight_messages_set(peer.inflight)
    made.max_queued_messages_set(0)
    made.on_socket_open = lambda _client, _data, connection: connection.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )
    return made


class Answering:
    """Frames in, labels out; when so many are stored at the broker, one line says how long each took."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._engine = Engine(read(peer.model.read_bytes()))
        self._engine.warm()
        self._mqtt = client(peer, "inference")
        self._mqtt.on_connect = lambda *_: self._mqtt.subscribe(FRAMES, qos=1)
        self._mqtt.on_subscribe = lambda *_: self._mqtt.publish(READY, b"", qos=1, retain=True)
        self._mqtt.on_message = self._answer
        self._mqtt.on_publish = self._stored
        self._captured: dict[int, int] = {}  # packet id → when its frame was captured
        self._walked: list[tuple[int, int]] = []

    def run(self) -> None:
        """Until killed."""
        self._mqtt.connect(HOST, self._peer.port)
        self._mqtt.loop_forever()

    def _answer(self, _client: object, _data: object, message: Any) -> None:
        captured = int.from_bytes(message.payload[:STAMP_BYTES], "big")
        with Image.open(BytesIO(message.payload[STAMP_BYTES:])) as picture:
            pixels = np.asarray(picture)[:, :, np.newaxis]
        label = self._engine.labels[int(self._engine.infer(pixels).argmax())]
        sent = self._mqtt.publish(PREDICTIONS, json.dumps({"label": label}), qos=1)
        self._captured[sent.mid] = captured

    def _stored(self, _client: object, _data: object, mid: int) -> None:
        if (captured := self._captured.pop(mid, None)) is None:
            return  # the word that it is ready
        self._walked.append((captured, time.monotonic_ns()))
        if len(self._walked) == self._peer.phases[0]:
            self._peer.phases.pop(0)
            sys.stdout.write(json.dumps(self._walked) + "\n")
            sys.stdout.flush()
            self._walked = []


def main() -> None:
    """Answer frames until killed."""
    told = json.loads(sys.argv[1])
    Answering(
        Peer(told["port"], Path(told["ca"]), told["inflight"], Path(told["model"]), told["phases"])
    ).run()


if __name__ == "__main__":
    main()
