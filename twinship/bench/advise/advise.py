"""Edge or cloud, which model, which device: the formulas over measured figures. Only `gather` reads files.

An edge answer takes one hop through edgeHub and the model's invoke. A cloud answer takes the same hop, the
frame's bytes over the link, a round trip, and the invoke of the quickest device that was measured. Each
assumption is a field of Wish and is printed; what was published for other models stays apart as Extrapolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from inference.metrics_model import METRICS, Metrics, read_results
from twinship.bench import BenchFailed
from twinship.bench.advise import hardware
from twinship.bench.advise.hardware import Measured, Table
from twinship.bench.advise.tiers import DAY_S, Need, Stream, needs
from twinship.bench.scenarios.delay.formulas import break_even, delay_s

#: Between modules over MQTT, as edgeHub's users report it (github.com/Azure/iotedge issue 6845).
HOP_MS: Final = 10.0
#: A 28 × 28 PNG with its properties, as `twinship bench delay` counts bytes on the wire.
FRAME_BYTES: Final = 800
PREDICTION_BYTES: Final = 900  # body and properties, as they arrive upstream
LATENCY_BYTES: Final = 1_300
LATENCY_EVERY_S: Final = 10

Origin = Literal["benchmark", "training"]
ArtefactStore = Literal["edge", "cloud", "neither"]


@dataclass(frozen=True)
class ModelSection:
    """What is asked for. Bandwidth in bytes/s; `accuracy` as a share of 1, 0: any."""

    fps: float
    max_latency_ms: float
    bandwidth: float
    rtt_ms: float = 0.0
    frame_bytes: int = FRAME_BYTES
    hop_ms: float = HOP_MS
    accuracy: float = 0.0

    def __post_init__(self) -> None:
        """Raise BenchFailed, naming the option."""
        for option, value in (
            ("--fps", self.fps),
            ("--max-latency-ms", self.max_latency_ms),
            ("--frame-bytes", self.frame_bytes),
        ):
            if not 0 < value < 1e9:
                raise BenchFailed(f"{option} {value:g}: a number above 0")
        for option, value in (("--rtt-ms", self.rtt_ms), ("--hop-ms", self.hop_ms)):
            if not 0 <= value < 1e9:
                raise BenchFailed(f"{option} {value:g}: 0 or more")
        if not 0 <= self.accuracy <= 1:
            raise BenchFailed(f"--accuracy {self.accuracy:g}: a share of 1, as 0.98")


@dataclass(frozen=True)
class Model:
    """A trained model that could be shipped."""

    name: str
    sha256: str
    size: int  # bytes
    accuracy: float  # int8, on the worse of the runtimes
    p95_ms: float  # of one invoke in the proof at the end of its training
    runtime: str


@dataclass(frozen=True)
class Edge:
    """One model on one device. `origin` training: timed here, in a niced process: an indication."""

    device: str
    model: str
    size: int
    accuracy: float | None  # None: nobody here has trained it
    invoke_ms: float  # p99; p95 from a training
    latency_ms: float
    margin_ms: float
    meets: bool
    origin: Origin


@dataclass(frozen=True)
class Cloud:
    """The same frames over the link."""

    latency_ms: float
    margin_ms: float
    link_share: float  # of the bandwidth that the frames take; 1 and more: they pile up
    sooner_from: float  # bytes/s; inf: at no bandwidth
    meets: bool


@dataclass(frozen=True)
class Extrapolated:
    """A published figure for another model: what it would mean here, if it held."""

    device: str
    invoke_ms: float
    latency_ms: float
    would_meet: bool
    source: str


@dataclass(frozen=True)
class Load:
    """What leaves the device in one way of running it, and what that takes of each tier."""

    what: str
    per_day: int
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class Advice:
    """`edges` smallest model first; `best` is the first that meets the wish, those of benchmarks before."""

    place: ArtefactStore
    best: Edge | None
    edges: tuple[Edge, ...]
    cloud: Cloud
    extrapolated: tuple[Extrapolated, ...]
    extrapolated_task: str
    loads: tuple[Load, ...]


def gather(build: Path) -> tuple[tuple[Model, ...], tuple[Measured, ...], Table]:
    """The models trained below a folder, and what is known of devices. Raises BenchFailed."""
    folders = sorted(path.parent for depth in ("*", "*/*") for path in build.glob(f"{depth}/{METRICS}"))
    models = [_model(found) for folder in folders if (found := read_results(folder)) is not None]
    return tuple(models), hardware.measured(), hardware.published()


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
    section: ModelSection, models: Sequence[Model], devices: Sequence[Measured], table: Table
) -> Advice:
    """Raises BenchFailed where nothing at all was measured."""
    edges = sorted(_edges(section, models, devices), key=lambda edge: (edge.size, edge.invoke_ms))
    if not edges:
        raise BenchFailed("nothing was measured: cure: twinship train, or twinship benchmark --out FILE")
    meeting = sorted((edge for edge in edges if edge.meets), key=lambda edge: edge.origin != "benchmark")
    best = meeting[0] if meeting else None
    judged = [edge for edge in edges if edge.origin == "benchmark"] or edges
    cloud = _cloud(section, best or edges[0], min(edge.invoke_ms for edge in judged))
    return Advice(
        place=_place(best, cloud),
        best=best,
        edges=tuple(edges),
        cloud=cloud,
        extrapolated=tuple(_extrapolated(section, table)),
        extrapolated_task=table.task,
        loads=loads(section),
    )


def _place(best: Edge | None, cloud: Cloud) -> ArtefactStore:
    """Where the margin is larger; the edge on a tie."""
    if best is not None and not (cloud.meets and cloud.margin_ms > best.margin_ms):
        return "edge"
    return "cloud" if cloud.meets else "neither"


def _edges(section: ModelSection, models: Sequence[Model], devices: Sequence[Measured]) -> Iterable[Edge]:
    known = {model.sha256: model for model in models}
    for device in devices:
        model = known.get(device.model.sha256)
        name = model.name if model else f"{device.model.name}:{device.model.version}"
        accuracy = model.accuracy if model else None
        yield _edge(
            section, device.name, name, device.model.size, accuracy, device.invoke_ms.p99, "benchmark"
        )
    for sha256 in known.keys() - {device.model.sha256 for device in devices}:
        model = known[sha256]
        where = f"this machine, {model.runtime}"
        yield _edge(section, where, model.name, model.size, model.accuracy, model.p95_ms, "training")


def _edge(
    section: ModelSection,
    device: str,
    model: str,
    size: int,
    accuracy: float | None,
    invoke_ms: float,
    origin: Origin,
) -> Edge:
    latency_ms = section.hop_ms + invoke_ms
    right = section.accuracy == 0 or (accuracy is not None and accuracy >= section.accuracy)
    keeps_up = invoke_ms * section.fps <= 1e3
    meets = right and keeps_up and latency_ms <= section.max_latency_ms
    margin_ms = section.max_latency_ms - latency_ms
    return Edge(device, model, size, accuracy, invoke_ms, latency_ms, margin_ms, meets, origin)


def _cloud(section: ModelSection, edge: Edge, invoke_ms: float) -> Cloud:
    processing_s = (section.hop_ms + section.rtt_ms + invoke_ms) / 1e3
    latency_ms = 1e3 * delay_s(section.frame_bytes, section.bandwidth, processing_s)
    share = section.fps * section.frame_bytes / section.bandwidth
    return Cloud(
        latency_ms,
        section.max_latency_ms - latency_ms,
        share,
        break_even(section.frame_bytes, edge.latency_ms / 1e3, processing_s),
        share < 1 and latency_ms <= section.max_latency_ms,
    )


def _extrapolated(section: ModelSection, table: Table) -> Iterable[Extrapolated]:
    for row in table.rows:
        latency_ms = section.hop_ms + row.invoke_ms
        would_meet = latency_ms <= section.max_latency_ms and row.per_s >= section.fps
        yield Extrapolated(row.device, row.invoke_ms, latency_ms, would_meet, row.source)


def loads(section: ModelSection) -> tuple[Load, ...]:
    """What one device sends in a day: by the twin's telemetry.predictions, and with the frames themselves."""
    latency = Stream(DAY_S / LATENCY_EVERY_S, LATENCY_BYTES)
    a_frame_each = DAY_S * section.fps
    ways = (
        ("edge, predictions: none, intervalSeconds: 60", (Stream(DAY_S / 60, LATENCY_BYTES),)),
        ("edge, predictions: none", (latency,)),
        ("edge, predictions: changes, one a minute", (latency, Stream(DAY_S / 60, PREDICTION_BYTES))),
        ("edge, predictions: all", (latency, Stream(a_frame_each, PREDICTION_BYTES))),
        ("cloud, every frame", (Stream(a_frame_each, section.frame_bytes),)),
    )
    return tuple(
        Load(what, round(sum(stream.per_day for stream in streams)), needs(streams)) for what, streams in ways
    )
