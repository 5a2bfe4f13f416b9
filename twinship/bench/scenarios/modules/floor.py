"""The floor: the same pictures, model file and runtime on bare paho and mosquitto, TLS and NODELAY.

What the wire, the model and Python cost at least. mosquitto keeps messages in memory, where the hub stores
them before it acknowledges; there is no identity, order, ledger or twin. Where mosquitto is not installed,
the report says so, and ratios are not given.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.peers import mosquitto as broker
from twinship.bench.peers.floor import FRAMES, READY, STAMP_BYTES, Peer, client
from twinship.bench.peers.mosquitto import HOST, Broker
from twinship.bench.report.figures import Latencies, median, spread
from twinship.bench.scenarios.modules.single import RATES
from twinship.bench.scenarios.modules.throughput import REPEATS

PEER_S: Final = 30.0
WARM_FRAMES: Final = 300
FULL_FRAMES: Final = 3_000
FULL: Final = 0  # frames in a second: as fast as they go
INFLIGHT: Final = (1, 100)


@dataclass(frozen=True)
class Walked:
    """One phase: captured and PUBACK of the prediction, CLOCK_MONOTONIC ns, in the order of the PUBACKs."""

    frames: tuple[tuple[int, int], ...]

    def latencies(self) -> dict[str, Any]:
        """As `single` has them."""
        return Latencies([(puback - captured) / 1e6 for captured, puback in self.frames]).figures()

    @property
    def per_s(self) -> float:
        """Frames in a second, from the first capture to the last PUBACK."""
        last = max(puback for _, puback in self.frames)
        return round(1e9 * len(self.frames) / (last - min(captured for captured, _ in self.frames)), 1)


def measure(bench: Bench) -> Mapping[str, Any]:
    """By rate as `single`, and frames in a second with 1 and 100 outstanding."""
    if (mosquitto := broker.program()) is None:
        return {"absent": "mosquitto is not installed: apt-get install mosquitto"}
    figures: dict[str, Any] = {"broker": broker.version(mosquitto), "per_s": {}}
    for inflight in INFLIGHT:
        rates = {} if inflight > 1 else RATES
        phases = [(FULL, WARM_FRAMES), *rates.items(), *[(FULL, FULL_FRAMES)] * REPEATS]
        bench.progress(f"{inflight} outstanding", INFLIGHT.index(inflight) / len(INFLIGHT))
        with broker.running(mosquitto, bench.folder / str(inflight), inflight) as running:
            _, *walked = list(_walk(bench, running, phases))
        figures |= {str(rate): each.latencies() for rate, each in zip(rates, walked, strict=False)}
        full = [each.per_s for each in walked[-REPEATS:]]
        figures["per_s"] |= {f"inflight_{inflight}": median(full), f"inflight_{inflight}_range": spread(full)}
    return figures


def _walk(bench: Bench, running: Broker, phases: list[tuple[int, int]]) -> Iterator[Walked]:
    """Send each phase (frames in a second, frames) and give what the peer tells of it."""
    pictures = [path.read_bytes() for path in sorted(bench.pictures.glob("*.png"))]
    peer = Peer(running.port, running.ca, running.inflight, bench.models[0], [count for _, count in phases])
    with _answering(peer, bench.folder) as told, _camera(peer) as mqtt:
        for rate, count in phases:
            _send(mqtt, pictures, rate, count)
            yield Walked(tuple((captured, puback) for captured, puback in json.loads(told.line())))


class _Told:
    """What the peer says on stdout."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def line(self) -> str:
        """The next line. Raises BenchFailed when the peer ended."""
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            said = " ".join(self._log.read_text(errors="replace").split())[-300:]
            raise BenchFailed(f"the floor's peer ended: {said}")
        return line


@contextmanager
def _answering(peer: Peer, folder: Path) -> Iterator[_Told]:
    told = {**vars(peer), "ca": str(peer.ca), "model": str(peer.model)}
    with (folder / "peer.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "twinship.bench.peers.floor", json.dumps(told)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield _Told(process, folder / "peer.log")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _camera(peer: Peer) -> Iterator[Any]:
    """A connected client, once the peer has said that it is ready."""
    ready = Event()
    mqtt = client(peer, "camera")
    mqtt.on_message = lambda *_: ready.set()
    mqtt.on_connect = lambda *_: mqtt.subscribe(READY, qos=1)
    mqtt.connect(HOST, peer.port)
    mqtt.loop_start()
    try:
        if not ready.wait(PEER_S):
            raise BenchFailed("the floor's peer was not ready in time")
        yield mqtt
    finally:
        mqtt.disconnect()
        mqtt.loop_stop()


def _send(mqtt: Any, pictures: list[bytes], rate: int, count: int) -> None:
    began = time.monotonic()
    for number in range(count):
        if rate:
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
        stamp = time.monotonic_ns().to_bytes(STAMP_BYTES, "big")
        mqtt.publish(FRAMES, stamp + pictures[number % len(pictures)], qos=1)
