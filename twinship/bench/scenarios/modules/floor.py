"""The floor: the same pictures, model file and runtime on bare paho and mosquitto, with TLS and TCP_NODELAY.

It shows the least that the wire, the model and Python cost. mosquitto keeps messages in memory, where the hub
stores them before it acknowledges them; there is no identity, ordering, ledger or twin. If mosquitto is not
installed, the report says so and gives no ratios.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Event
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.peers import mosquitto
from twinship.bench.peers.floor import FRAMES, READY, STAMP_BYTES, Peer, client
from twinship.bench.report.figures import latencies, median, spread
from twinship.bench.rig.child import child
from twinship.bench.scenarios.modules.single import RATES
from twinship.bench.scenarios.modules.throughput import REPEATS

PEER_S: Final = 30.0
WARM_FRAMES: Final = 300
FULL_FRAMES: Final = 3_000
FULL: Final = 0  # frames per second: no pause between frames
INFLIGHT: Final = (1, 100)


@dataclass(frozen=True)
class PhaseTimes:
    """Capture and PUBACK of the prediction, CLOCK_MONOTONIC ns, in the order of the PUBACKs."""

    frames: list[tuple[int, int]]

    def latencies(self) -> dict[str, Any]:
        """The same figures as of `single`."""
        return latencies([(puback - captured) / 1e6 for captured, puback in self.frames])

    @property
    def per_s(self) -> float:
        """Frames per second, from the first capture to the last PUBACK."""
        last = max(puback for _, puback in self.frames)
        return round(1e9 * len(self.frames) / (last - min(captured for captured, _ in self.frames)), 1)


def measure(bench: Bench) -> Mapping[str, Any]:
    """For each rate of `single` the latencies; the maximum rate with 1 and with 100 outstanding."""
    if (program := mosquitto.program()) is None:
        return {"absent": "mosquitto is not installed: apt-get install mosquitto"}
    figures: dict[str, Any] = {"broker": mosquitto.version(program), "per_s": {}}
    for inflight in INFLIGHT:
        rates = {} if inflight > 1 else RATES
        phases = [(FULL, WARM_FRAMES), *rates.items(), *[(FULL, FULL_FRAMES)] * REPEATS]
        bench.progress(f"{inflight} outstanding", INFLIGHT.index(inflight) / len(INFLIGHT))
        with mosquitto.running(program, bench.folder / str(inflight), inflight) as broker:
            _, *results = list(run_phases(bench, broker, phases))
        figures |= {str(rate): each.latencies() for rate, each in zip(rates, results, strict=False)}
        full = [each.per_s for each in results[-REPEATS:]]
        figures["per_s"] |= {f"inflight_{inflight}": median(full), f"inflight_{inflight}_range": spread(full)}
    return figures


def run_phases(bench: Bench, broker: mosquitto.Broker, phases: list[tuple[int, int]]) -> Iterator[PhaseTimes]:
    """Send the frames of each phase (frames per second, frames), and read the peer's times of them."""
    files = sorted(each for each in bench.pictures.iterdir() if each.suffix in (".png", ".jpg"))
    pictures = [each.read_bytes() for each in files]
    peer = Peer(
        broker.port, str(broker.ca), broker.inflight, str(bench.models[0]), [count for _, count in phases]
    )
    settings, log = json.dumps(asdict(peer)), bench.folder / "peer.log"
    with child("twinship.bench.peers.floor", settings, log=log) as classifier, _camera(peer) as mqtt:
        for rate, count in phases:
            _send(mqtt, pictures, rate, count)
            yield PhaseTimes(json.loads(classifier.line()))


@contextmanager
def _camera(peer: Peer) -> Iterator[Any]:
    """A connected client. The peer is ready when this is entered."""
    ready = Event()
    mqtt = client(peer, "camera")
    mqtt.on_message = lambda *_: ready.set()
    mqtt.on_connect = lambda *_: mqtt.subscribe(READY, qos=1)
    mqtt.connect(mosquitto.HOST, peer.port)
    mqtt.loop_start()
    try:
        if not ready.wait(PEER_S):
            raise BenchFailed("the peer of scenario floor was not ready in time")
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
