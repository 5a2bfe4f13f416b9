"""Edge or cloud, which model, which device: the article's formulas with measured figures.

An edge answer takes one hop through edgeHub and the model's invoke. A cloud answer takes the same hop, the
frame's bytes over the link, a round trip, and the invoke of the fastest device that was measured. Each
assumption is a field of Requirements and is printed. Figures that others published for other models never
decide; they are returned as Extrapolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from inference.frames.budget import LATENCY_BYTES
from inference.metrics_model import METRICS, Metrics, read_results
from twinship.bench import BenchFailed
from twinship.bench.advise import hardware
from twinship.bench.advise.budgeted import streams as budgeted
from twinship.bench.advise.hardware import Measured, Table
from twinship.bench.advise.tiers import DAY_S, Need, Stream, needs
from twinship.bench.scenarios.delay.formulas import break_even, delay_s

#: One hop between modules over MQTT, as users of edgeHub report it (github.com/Azure/iotedge issue 6845).
HOP_MS: Final = 10.0
#: A PNG of 28 × 28 pixels with its properties, in bytes on the wire as `twinship bench delay` counts them.
FRAME_BYTES: Final = 800
PREDICTION_BYTES: Final = 900  # body and properties upstream
RECORD_BYTES: Final = 620  # a prediction in a message that several share
LATENCY_EVERY_S: Final = 10
#: Budgets that are shown: all of a free hub, and a hundredth of a unit of S1.
BUDGETS: Final = ((8_000, 512), (4_000, 4_096))

Origin = Literal["benchmark", "training"]
Location = Literal["edge", "cloud", "neither"]


@dataclass(frozen=True)
class Requirements:
    """What the user needs, and the assumptions about link and hub. Raises BenchFailed for unusable values."""

    fps: float
    max_latency_ms: float
    bandwidth: float  # of the link to the cloud, bytes/s
    rtt_ms: float = 0.0  # round trip to the cloud
    frame_bytes: int = FRAME_BYTES  # on the wire
    hop_ms: float = HOP_MS
    accuracy: float = 0.0  # at least, as a share of 1

    def __post_init__(self) -> None:
        for option, value in (
            ("--fps", self.fps),
            ("--max-latency-ms", self.max_latency_ms),
            ("--frame-bytes", self.frame_bytes),
        ):
            if not 0 < value < 1e9:
                raise BenchFailed(f"{option} {value:g}: use a number above 0")
        for option, value in (("--rtt-ms", self.rtt_ms), ("--hop-ms", self.hop_ms)):
            if not 0 <= value < 1e9:
                raise BenchFailed(f"{option} {value:g}: use 0 or more")
        if not 0 <= self.accuracy <= 1:
            raise BenchFailed(f"--accuracy {self.accuracy:g}: use a share of 1, for example 0.98")


@dataclass(frozen=True)
class Model:
    """A trained model that could be shipped."""

    name: str
    sha256: str
    size: int  # bytes
    accuracy: float  # of the int8 model, on the less accurate runtime
    p95_ms: float  # of one invoke, in the proof at the end of its training
    runtime: str


@dataclass(frozen=True)
class Edge:
    """One model on one device. With origin `training`, the time is an indication: a niced process here."""

    device: str
    model: str
    size: int
    accuracy: float | None  # None: not trained here
    invoke_ms: float  # p99; with origin `training` p95
    latency_ms: float
    margin_ms: float
    meets: bool
    origin: Origin


@dataclass(frozen=True)
class Cloud:
    """The same frames, sent over the link."""

    latency_ms: float
    margin_ms: float
    link_share: float  # share of the bandwidth that the frames take; from 1 on they pile up
    sooner_from: float  # bytes/s from which the cloud is faster than the edge; inf: never
    meets: bool


@dataclass(frozen=True)
class Extrapolated:
    """A published figure of another model, and what it would mean here."""

    device: str
    invoke_ms: float
    latency_ms: float
    would_meet: bool
    source: str


@dataclass(frozen=True)
class Load:
    """The messages of one device in one configuration, and what they take of each tier."""

    what: str
    per_day: int
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class Advice:
    """The result. `best` is the smallest model that meets the requirements, benchmarked ones first."""

    place: Location
    best: Edge | None
    edges: tuple[Edge, ...]  # the smallest model first
    cloud: Cloud
    extrapolated: tuple[Extrapolated, ...]
    extrapolated_task: str
    loads: tuple[Load, ...]


def gather(build: Path, devices: Path) -> tuple[tuple[Model, ...], tuple[Measured, ...], Table]:
    """Read the models trained below `build`, and the device records of Twinship and of `devices`.

    Raises BenchFailed for a file that is not a device record.
    """
    folders = sorted(path.parent for depth in ("*", "*/*") for path in build.glob(f"{depth}/{METRICS}"))
    models = [_model(found) for folder in folders if (found := read_results(folder)) is not None]
    return tuple(models), hardware.measured() + hardware.measured(devices), hardware.published()


def _model(metrics: Metrics) -> Model:
    runtime, proof = min(metrics.proof.items(), key=lambda item: item[1].p95_ms)
    return Model(
        f"{metrics.name}:{metrics.version} {metrics.architecture}",
        metrics.artefact_sha256,
        metrics.sizes.artefact_bytes,
        min(metrics.accuracy.shipped.values()),
        proof.p95_ms,
        runtime,
    )


def advise(
    requirements: Requirements, models: Sequence[Model], devices: Sequence[Measured], table: Table
) -> Advice:
    """Compare edge and cloud. Raises BenchFailed if there is neither a trained model nor a device record."""
    edges = sorted(_edges(requirements, models, devices), key=lambda edge: (edge.size, edge.invoke_ms))
    if not edges:
        raise BenchFailed(
            "no figures were measured; cure: twinship train, or twinship benchmark --out devices/NAME.json"
        )
    meeting = sorted((edge for edge in edges if edge.meets), key=lambda edge: edge.origin != "benchmark")
    best = meeting[0] if meeting else None
    measured = [edge for edge in edges if edge.origin == "benchmark"] or edges
    cloud = _cloud(requirements, best or edges[0], min(edge.invoke_ms for edge in measured))
    return Advice(
        place=_place(best, cloud),
        best=best,
        edges=tuple(edges),
        cloud=cloud,
        extrapolated=tuple(_extrapolated(requirements, table)),
        extrapolated_task=table.task,
        loads=loads(requirements),
    )


def _place(best: Edge | None, cloud: Cloud) -> Location:
    """The location with the larger margin; the edge if both are equal."""
    if best is not None and not (cloud.meets and cloud.margin_ms > best.margin_ms):
        return "edge"
    return "cloud" if cloud.meets else "neither"


def _edges(
    requirements: Requirements, models: Sequence[Model], devices: Sequence[Measured]
) -> Iterable[Edge]:
    known = {model.sha256: model for model in models}
    for device in devices:
        model = known.get(device.model.sha256)
        name = model.name if model else f"{device.model.name}:{device.model.version}"
        accuracy = model.accuracy if model else None
        yield _edge(
            requirements, device.name, name, device.model.size, accuracy, device.invoke_ms.p99, "benchmark"
        )
    for sha256 in known.keys() - {device.model.sha256 for device in devices}:
        model = known[sha256]
        where = f"this machine, {model.runtime}"
        yield _edge(requirements, where, model.name, model.size, model.accuracy, model.p95_ms, "training")


def _edge(
    requirements: Requirements,
    device: str,
    model: str,
    size: int,
    accuracy: float | None,
    invoke_ms: float,
    origin: Origin,
) -> Edge:
    latency_ms = requirements.hop_ms + invoke_ms
    accurate = requirements.accuracy == 0 or (accuracy is not None and accuracy >= requirements.accuracy)
    keeps_up = invoke_ms * requirements.fps <= 1e3
    meets = accurate and keeps_up and latency_ms <= requirements.max_latency_ms
    margin_ms = requirements.max_latency_ms - latency_ms
    return Edge(device, model, size, accuracy, invoke_ms, latency_ms, margin_ms, meets, origin)


def _cloud(requirements: Requirements, edge: Edge, invoke_ms: float) -> Cloud:
    processing_s = (requirements.hop_ms + requirements.rtt_ms + invoke_ms) / 1e3
    latency_ms = 1e3 * delay_s(requirements.frame_bytes, requirements.bandwidth, processing_s)
    share = requirements.fps * requirements.frame_bytes / requirements.bandwidth
    return Cloud(
        latency_ms,
        requirements.max_latency_ms - latency_ms,
        share,
        break_even(requirements.frame_bytes, edge.latency_ms / 1e3, processing_s),
        share < 1 and latency_ms <= requirements.max_latency_ms,
    )


def _extrapolated(requirements: Requirements, table: Table) -> Iterable[Extrapolated]:
    for row in table.rows:
        latency_ms = requirements.hop_ms + row.invoke_ms
        would_meet = latency_ms <= requirements.max_latency_ms and row.per_s >= requirements.fps
        yield Extrapolated(row.device, row.invoke_ms, latency_ms, would_meet, row.source)


def loads(requirements: Requirements) -> tuple[Load, ...]:
    """The messages of one device in a day, for each `telemetry.predictions`, and with all frames."""
    latency = Stream(DAY_S / LATENCY_EVERY_S, LATENCY_BYTES)
    frames = DAY_S * requirements.fps
    configurations = (
        ("edge, predictions: none, intervalSeconds: 60", (Stream(DAY_S / 60, LATENCY_BYTES),)),
        ("edge, predictions: none", (latency,)),
        ("edge, predictions: changes, one a minute", (latency, Stream(DAY_S / 60, PREDICTION_BYTES))),
        ("edge, predictions: all", (latency, Stream(frames, PREDICTION_BYTES))),
        *(
            (
                f"edge, predictions: all, maxPerDay: {per_day}, blockBytes: {block_bytes}",
                budgeted(per_day, block_bytes, requirements.fps, RECORD_BYTES, LATENCY_EVERY_S),
            )
            for per_day, block_bytes in BUDGETS
        ),
        ("cloud, every frame", (Stream(frames, requirements.frame_bytes),)),
    )
    return tuple(
        Load(what, round(sum(stream.per_day for stream in streams)), needs(streams))
        for what, streams in configurations
    )
