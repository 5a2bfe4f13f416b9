"""Scenario `delay`: compare the article's two formulas with measurements over the simulator's shaped link.

A frame is answered at the edge (edgeHub, the inference module, and back by a route that this scenario adds)
and in the cloud (the sender connects to IoT Hub itself, the same engine runs behind it, and a direct method
brings the answer). The hub counts bytes on the sender's connection, where it also shapes them. Processing
Time is measured without a limit; for a link with latency, the additional time of an empty message is added.
A measurement that is compared with a prediction is never used to make it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.rig.child import Child, child
from twinship.bench.rig.rig import DEVICE, Rig, RigSettings
from twinship.bench.scenarios.delay.formulas import delay_s, processing_s
from twinship.bench.scenarios.delay.model import MODEL_BANDWIDTHS, ModelLink
from twinship.bench.scenarios.delay.picture import draw
from twinship.bench.scenarios.delay.points import Point, break_evens, shortcomings
from twinship.bench.scenarios.delay.sender import Task
from twinship.simulator import LINK_DELAY, LINK_RATE, end_faults, set_fault, show_faults

CAMERA: Final = "camera_sim"
ROUTE: Final = (
    "FROM /messages/modules/inference/outputs/predictions "
    f'INTO BrokeredEndpoint("/modules/{CAMERA}/inputs/answers")'
)
SIDE: Final = 100  # pixels: frames of 10,000 bytes and their properties
BANDWIDTHS: Final = (62_500.0, 125_000.0, 250_000.0, 500_000.0)  # bytes/s: 0.5, 1, 2 and 4 Mbit/s
DELAYS_S: Final = (0.005, 0.025)  # each way
CROWDED: Final = 125_000.0  # bytes/s of the link with a second flow


@dataclass(frozen=True)
class Extent:
    """How much is measured. Of the `frames` at each point, the first does not count."""

    frames: int = 10
    bandwidths: tuple[float, ...] = BANDWIDTHS
    delays_s: tuple[float, ...] = DELAYS_S
    model_bandwidths: tuple[float, ...] = MODEL_BANDWIDTHS


def measure(bench: Bench) -> Mapping[str, Any]:
    """The figures; `missed` lists wrong predictions. Draws delay.svg beside the report."""
    figures = run(bench, Extent())
    draw(figures, bench.results / "delay.svg")
    return figures


def run(bench: Bench, extent: Extent) -> dict[str, Any]:
    """The figures alone. Raises BenchFailed when an answer is missing."""
    desired = {"inference": {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}}}
    settings = RigSettings(bench.folder / "rig", bench.pictures, desired, leave_out=frozenset({CAMERA}))
    with Rig(settings) as rig:
        rig.patch("$edgeHub", {"routes": {"answers": ROUTE}})
        rig.start()
        rig.publish(bench.models[0])
        bench.progress("frames answered at the edge", 0.05)
        with _sender(rig, rig.simulator.endpoints.gateway) as sender:
            edge_s = sender.median_s(Task(3 * extent.frames, SIDE))
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
    """The sender's link to the cloud: shapes it, counts its bytes, predicts and measures delays."""

    def __init__(self, rig: Rig, sender: _Sender, extent: Extent, bench: Bench) -> None:
        self._simulator = rig.simulator_folder
        self._sender = sender
        self._extent = extent
        self._bench = bench
        bench.progress("frames answered in the cloud, without a limit", 0.1)
        self.unlimited_s = sender.median_s(Task(3 * extent.frames, SIDE))
        self._empty_s = {0.0: sender.median_s(Task(3 * extent.frames, 0))}

    @property
    def rtt_s(self) -> Mapping[float, float]:
        """Delay of the link → additional time of an empty round trip."""
        return {delay: empty - self._empty_s[0.0] for delay, empty in self._empty_s.items()}

    def points(self) -> list[Point]:
        """Measure each latency with each bandwidth, and remove the limits."""
        found: list[Point] = []
        for delay in self._extent.delays_s:
            set_fault(self._simulator, LINK_DELAY, delay)
            self._empty_s[delay] = self._sender.median_s(Task(self._extent.frames, 0))
            for bandwidth in self._extent.bandwidths:
                share = 0.1 + 0.4 * len(found) / (len(self._extent.delays_s) * len(self._extent.bandwidths))
                self._bench.progress(f"{bandwidth:g} bytes/s and {delay * 1e3:g} ms each way", share)
                set_fault(self._simulator, LINK_RATE, bandwidth)
                found.append(self._point(bandwidth, delay, Task(self._extent.frames, SIDE)))
            set_fault(self._simulator, LINK_RATE, 0)
        end_faults(self._simulator)
        return found

    def crowded(self) -> Point:
        """The counter-proof: with a second flow on the link, the formula must be wrong."""
        self._bench.progress("a second flow on the link", 0.55)
        delay = self._extent.delays_s[0]
        set_fault(self._simulator, LINK_DELAY, delay)
        set_fault(self._simulator, LINK_RATE, CROWDED)
        alone = self._point(CROWDED, delay, Task(2, SIDE))
        measured = self._sender.median_s(Task(self._extent.frames, SIDE, second_flow=True))
        end_faults(self._simulator)
        return replace(alone, measured_s=measured)

    def _point(self, bandwidth: float, delay: float, task: Task) -> Point:
        before = _carried(self._simulator, CAMERA)
        measured_s = self._sender.median_s(task)
        data_bytes = (_carried(self._simulator, CAMERA) - before) / task.frames
        processing = processing_s(self.unlimited_s, self._empty_s[delay], self._empty_s[0.0])
        predicted = delay_s(data_bytes, bandwidth, processing)
        return Point(bandwidth, delay, data_bytes, processing, predicted, measured_s)


def _carried(simulator: Path, module: str) -> int:
    """Bytes that the hub has counted on this module's connection, both ways."""
    return sum(show_faults(simulator)["carried"][f"{DEVICE}/{module}"])


class _Sender:
    """The process `twinship.bench.scenarios.delay.sender`."""

    def __init__(self, process: Child) -> None:
        self._process = process
        process.line()

    def median_s(self, task: Task) -> float:
        """The median delay of all frames but the first."""
        self._process.send(json.dumps(asdict(task)))
        return float(statistics.median(json.loads(self._process.line())["delays_s"][1:]))


@contextmanager
def _sender(rig: Rig, gateway: str) -> Iterator[_Sender]:
    """A sender with the camera's identity that connects to this host: the edge device or IoT Hub."""
    environment = rig.simulator.module_environment(CAMERA) | {"IOTEDGE_GATEWAYHOSTNAME": gateway}
    log = rig.settings.folder / "sender.log"
    with child("twinship.bench.scenarios.delay.sender", log=log, environment=environment) as process:
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
    arguments = [str(each) for pair in options.items() for each in pair]
    log = rig.settings.folder / "cloud.log"
    with child("twinship.bench.scenarios.delay.cloud", *arguments, log=log) as process:
        process.line()
        yield
