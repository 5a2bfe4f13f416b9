"""Scenario `delay`: the article's two formulas against what is measured, over the simulator's shaped link.

A frame is answered at the edge (edgeHub, the inference module, back by a route that only this scenario has)
and in the cloud (the sender at IoT Hub itself, the same engine behind it, back by a direct method). Bytes are
those that the hub counts on the sender's connection, which is also where it shapes them. Processing Time is
measured without a limit; at a latency it gains what an empty message gains there. Nothing that is compared
with a prediction is used for making it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.rig.rig import DEVICE, Rig, RigSettings
from twinship.bench.scenarios.delay import model as delay_model
from twinship.bench.scenarios.delay.formulas import delay_s, processing_s
from twinship.bench.scenarios.delay.model import ModelLink
from twinship.bench.scenarios.delay.picture import draw
from twinship.bench.scenarios.delay.points import Point, break_evens, shortcomings
from twinship.bench.scenarios.delay.sender import Order
from twinship.simulator import LINK_DELAY, LINK_RATE, end_faults, set_fault, show_faults

CAMERA: Final = "camera_sim"
ROUTE: Final = (
    "FROM /messages/modules/inference/outputs/predictions "
    f'INTO BrokeredEndpoint("/modules/{CAMERA}/inputs/answers")'
)
SIDE: Final = 100  # pixels: frames of 10,000 bytes and their properties
BANDWIDTHS: Final = (62_500.0, 125_000.0, 250_000.0, 500_000.0)  # bytes/s: 0.5, 1, 2 and 4 Mbit/s
DELAYS_S: Final = (0.005, 0.025)  # each way
CROWDED: Final = 125_000.0  # bytes/s, where the second flow runs


@dataclass(frozen=True)
class Extent:
    """How much is measured. `frames` at each point, the first of them not counted."""

    frames: int = 10
    bandwidths: tuple[float, ...] = BANDWIDTHS
    delays_s: tuple[float, ...] = DELAYS_S
    model_bandwidths: tuple[float, ...] = delay_model.BANDWIDTHS


def measure(bench: Bench) -> Mapping[str, Any]:
    """The value of `delay` in the report, what does not hold under `missed`; draws delay.svg beside it."""
    figures = run(bench, Extent())
    draw(figures, bench.results / "delay.svg")
    return figures


def run(bench: Bench, extent: Extent) -> dict[str, Any]:
    """Measure. Raises BenchFailed where something does not answer."""
    desired = {"inference": {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}}}
    settings = RigSettings(bench.folder / "rig", bench.pictures, desired, leave_out=frozenset({CAMERA}))
    with Rig(settings) as rig:
        rig.patch("$edgeHub", {"routes": {"answers": ROUTE}})
        rig.simulator.start_modules()
        rig.publish(bench.models[0])
        bench.progress("frames answered at the edge", 0.05)
        with _sender(rig, rig.simulator.endpoints.gateway) as sender:
            edge_s = sender.median_s(Order(3 * extent.frames, SIDE))
        with _cloud(rig, bench.models[0]), _sender(rig, rig.simulator.endpoints.hub_name) as sender:
            link = _Link(rig, sender, extent, bench)
            points, crowded = link.points(), link.crowded()
        bench.progress("a new model over the same links", 0.6)
        model_link = ModelLink(rig, bench.models[1], bench.folder, link.rtt_s)
        models = model_link.points(extent.model_bandwidths, extent.delays_s)
    return {
        "edge_ms": round(edge_s * 1e3, 3),
        "cloud_unlimited_ms": round(link.unlimited_s * 1e3, 3),
        "frames": [point.to_json() for point in points],
        "models": [point.to_json() for point in models],
        "worst_deviation": max(point.deviation for point in (*points, *models)),
        "crowded": crowded.to_json(),
        "break_even": break_evens(points, edge_s),
        "missed": shortcomings(points, models, crowded),
    }


class _Link:
    """The sender's link to the cloud: shapes it, counts on it, predicts and measures."""

    def __init__(self, rig: Rig, sender: _Sender, extent: Extent, bench: Bench) -> None:
        self._simulator = rig.upstream.parent
        self._sender = sender
        self._extent = extent
        self._bench = bench
        bench.progress("frames answered in the cloud, without a limit", 0.1)
        self.unlimited_s = sender.median_s(Order(3 * extent.frames, SIDE))
        self._empty_s = {0.0: sender.median_s(Order(3 * extent.frames, 0))}

    @property
    def rtt_s(self) -> Mapping[float, float]:
        """By the link's delay: what an empty round trip takes longer than without one."""
        return {delay: empty - self._empty_s[0.0] for delay, empty in self._empty_s.items()}

    def points(self) -> list[Point]:
        """Each latency with each bandwidth; the link is as it was then."""
        found: list[Point] = []
        for delay in self._extent.delays_s:
            set_fault(self._simulator, LINK_DELAY, delay)
            self._empty_s[delay] = self._sender.median_s(Order(self._extent.frames, 0))
            for bandwidth in self._extent.bandwidths:
                share = 0.1 + 0.4 * len(found) / (len(self._extent.delays_s) * len(self._extent.bandwidths))
                self._bench.progress(f"{bandwidth:g} bytes/s and {delay * 1e3:g} ms each way", share)
                set_fault(self._simulator, LINK_RATE, bandwidth)
                found.append(self._point(bandwidth, delay, Order(self._extent.frames, SIDE)))
            set_fault(self._simulator, LINK_RATE, 0)
        end_faults(self._simulator)
        return found

    def crowded(self) -> Point:
        """The counter-proof: the formula knows nothing of what else is on the link."""
        self._bench.progress("a second flow on the link", 0.55)
        delay = self._extent.delays_s[0]
        set_fault(self._simulator, LINK_DELAY, delay)
        set_fault(self._simulator, LINK_RATE, CROWDED)
        alone = self._point(CROWDED, delay, Order(2, SIDE))
        measured = self._sender.median_s(Order(self._extent.frames, SIDE, second_flow=True))
        end_faults(self._simulator)
        return replace(alone, measured_s=measured)

    def _point(self, bandwidth: float, delay: float, order: Order) -> Point:
        before = _carried(self._simulator, CAMERA)
        measured_s = self._sender.median_s(order)
        data_bytes = (_carried(self._simulator, CAMERA) - before) / order.frames
        processing = processing_s(self.unlimited_s, self._empty_s[delay], self._empty_s[0.0])
        predicted = delay_s(data_bytes, bandwidth, processing)
        return Point(bandwidth, delay, data_bytes, processing, predicted, measured_s)


def _carried(simulator: Path, module: str) -> int:
    """Bytes that the hub has counted on this module's connection, both ways."""
    return sum(show_faults(simulator)["carried"][f"{DEVICE}/{module}"])


class _Sender:
    """The other process of `twinship.bench.scenarios.delay.sender`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line()

    def median_s(self, order: Order) -> float:
        """Of all frames but the first."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        return float(statistics.median(self._line()["delays_s"][1:]))

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise BenchFailed(f"delay: the sender ended: {_last_line(self._process.stderr)}")
        return dict(json.loads(line))


@contextmanager
def _sender(rig: Rig, gateway: str) -> Iterator[_Sender]:
    """A sender with the camera's identity at this address: the edge device's or IoT Hub's."""
    environment = rig.simulator.module_environment(CAMERA) | {"IOTEDGE_GATEWAYHOSTNAME": gateway}
    with _child("twinship.bench.scenarios.delay.sender", environment=environment) as process:
        yield _Sender(process)


@contextmanager
def _cloud(rig: Rig, model: Path) -> Iterator[None]:
    endpoints = rig.simulator.endpoints
    options = {
        "--upstream": rig.upstream,
        "--service-env": endpoints.service_env,
        "--ca": endpoints.ca_pem,
        "--model": model,
    }
    words = [str(word) for pair in options.items() for word in pair]
    with _child("twinship.bench.scenarios.delay.cloud", *words, environment={}) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise BenchFailed(f"delay: the cloud side ended: {_last_line(process.stderr)}")
        yield


@contextmanager
def _child(module: str, *words: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *words],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _last_line(errors: IO[str] | None) -> str:
    said = errors.read().strip() if errors is not None else ""
    return said.splitlines()[-1] if said else "without a word"
