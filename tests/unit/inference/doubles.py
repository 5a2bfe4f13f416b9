"""In-memory doubles of hub and reconciler, and frames, for tests of the frame path."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgekit.clock import boot_id, mono_ns, wall_ns
from edgekit.frame.message import RAW, Frame, FrameId, Message
from edgekit.hub.connection import Hub, MethodAnswer, Twin
from inference.artefact import InputSpec, Manifest
from inference.invoke_mark import InvokeMark
from inference.model_section import ModelRef
from inference.models.reconciler import Reconciler, Running
from tests.unit.inference import tiny_model

RUN = "0123456789abcdef"
WAIT_S = 10.0  # for what comes within milliseconds


def png(pixels: NDArray[np.uint8]) -> bytes:
    """These pixels (H, W, 1 or 3) as a PNG file."""
    buffer = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def frame(seq: int = 0, *, place: int = 0, camera: str = "camera", run: str = RUN) -> Frame:
    """A raw frame of this boot, which the tiny model classifies as LABELS[place]."""
    pixels = tiny_model.band(place)
    now = mono_ns()
    return Frame(
        id=FrameId(camera, run, seq),
        image=pixels.tobytes(),
        content_type=RAW,
        width=pixels.shape[1],
        height=pixels.shape[0],
        channels=pixels.shape[2],
        captured=wall_ns(),
        mono=now - 2_000,
        encoded=now - 1_000,
        boot=boot_id(),
    )


@dataclass
class Sent:
    """A message in the hub's outbox."""

    output: str
    message: Message
    on_stored: Callable[[int], None] | None

    @property
    def body(self) -> Any:
        return json.loads(self.message.body)


@dataclass
class FakeHub:
    """The part of edgekit's Hub that inference uses: a test can read, block and limit its outbox."""

    inputs: Mapping[str, Callable[[Message, int], None]] = field(default_factory=dict)
    on_twin: Callable[[Twin], None] = lambda twin: None
    methods: Mapping[str, Callable[[Any], MethodAnswer]] = field(default_factory=dict)
    stores: bool = True  # PUBACKs come at once; else only by store()
    full: bool = False
    sent: list[Sent] = field(default_factory=list)
    reports: list[Mapping[str, Any]] = field(default_factory=list)
    unsent: int = 0
    stuck: threading.Event = field(default_factory=threading.Event)
    stuck_reason: str = ""
    inputs_stopped: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def send(self, output: str, message: Message, on_stored: Callable[[int], None] | None = None) -> bool:
        if self.full:
            return False
        with self.changed:
            self.sent.append(Sent(output, message, on_stored))
            self.changed.notify_all()
        if self.stores:
            self.store()
        return True

    def store(self) -> None:
        """Acknowledge (PUBACK) all sent messages."""
        for each in list(self.sent):
            on_stored, each.on_stored = each.on_stored, None
            if on_stored is not None:
                on_stored(mono_ns())

    def stop_inputs(self, timeout_s: float) -> None:
        self.inputs_stopped = True

    def report(self, patch: Mapping[str, Any]) -> None:
        with self.changed:
            self.reports.append(patch)
            self.changed.notify_all()

    def of(self, output: str) -> list[Any]:
        """The JSON bodies sent to this output, in order."""
        return [each.body for each in self.sent if each.output == output]

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Wait until a message or report makes this true; fail if none does."""
        with self.changed:
            assert self.changed.wait_for(what, WAIT_S), "time-out"

    def as_hub(self) -> Hub:
        return cast(Hub, self)


class FakeEngine:
    """An engine that calls `infer`; by default it answers as the tiny model does."""

    def __init__(self, infer: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None) -> None:
        self.labels: tuple[str, ...] = tiny_model.LABELS
        self.input: InputSpec = tiny_model.SPEC
        self.runtime, self.delegate = "fake", ""
        self.infer = infer or brightest_band

    def reported(self) -> dict[str, str | None]:
        return {"runtime": self.runtime, "delegate": None, "whyNotDelegate": None}


def brightest_band(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The tiny model's answer, without a runtime."""
    bands: NDArray[np.float32] = pixels.reshape(3, -1).mean(axis=1, dtype=np.float32)
    return bands / np.float32(max(1.0, float(bands.sum())))


def running(engine: object = None, version: str = "1.0.0") -> Running:
    """A loaded model."""
    manifest: Manifest = tiny_model.artefact(version=version).manifest
    ref = ModelRef("bands", version, 1_000, version.replace(".", "0").ljust(64, "a"))
    return Running(ref=ref, engine=cast(Any, engine or FakeEngine()), manifest=manifest)


@dataclass
class FakeReconciler:
    """A double of Reconciler: `current` serves, and `instead` if it fails."""

    current: Running | None = None
    instead: Running | None = None
    sections: list[tuple[object, int]] = field(default_factory=list)
    noted: list[tuple[Running, float]] = field(default_factory=list)
    failures: list[tuple[Running, Exception]] = field(default_factory=list)
    budget_ms: float = 0
    started: bool = False
    stopped: bool = False
    folder: Path = Path("nowhere")
    mark: InvokeMark = field(default_factory=lambda: InvokeMark(None))
    loading: object | None = None
    answers: bool = True  # the next model answers a frame after a rollback
    on_wait: Callable[[], object] = lambda: None  # called while a rollback waits for that frame

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.stopped = True

    def limit_latency(self, budget_ms: float) -> None:
        self.budget_ms = budget_ms

    def latency_budget_ms(self, running: Running) -> float:
        return running.manifest.latencyBudgetMs

    def wait_answered(self, ref: ModelRef, timeout_s: float) -> bool:
        self.on_wait()
        return self.answers

    def rollback(self) -> ModelRef | None:
        self.current = self.instead
        return self.current.ref if self.current else None

    def reload(self) -> bool:
        return bool(self.sections)

    def section(self, section: object, version: int, notified_ns: int | None = None) -> None:
        self.sections.append((section, version))

    def file_of(self, running: Running) -> Path:
        return self.folder / f"{running.ref.sha256}.tflite"

    def answered(self, running: Running, invoke_ms: float) -> None:
        self.noted.append((running, invoke_ms))

    def failed(self, running: Running, error: Exception) -> Running | None:
        self.failures.append((running, error))
        return self.instead

    def as_reconciler(self) -> Reconciler:
        return cast(Reconciler, self)
