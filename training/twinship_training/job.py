"""One training under way: what its steps share. Does none of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from inference.artefact import Manifest, Probes, pack
from twinship_training import convert
from twinship_training.checkpoint import Checkpoints, Reached
from twinship_training.data import Dataset, Pictures, input_spec
from twinship_training.fit import Fitted, Progress
from twinship_training.settings import TrainSettings
from twinship_training.workers import Worker


@dataclass(frozen=True)
class Job:
    """Settings, data, and whom to tell."""

    settings: TrainSettings
    dataset: Dataset
    progress: Progress
    key: str  # of settings and code: what an earlier result is recognised by
    started: float  # CLOCK_MONOTONIC, s
    checkpoints: Checkpoints
    worker: Worker | None = None  # this machine, where several train together
    reached: Mapping[str, Reached] = field(default_factory=dict)  # network → where it goes on
    seconds: dict[str, float] = field(
        default_factory=dict
    )  # stage → how long it took, all its turns together

    @contextmanager
    def stage(self, name: str, told: str, share: float) -> Iterator[None]:
        """Tell what begins, and note how long it takes."""
        self.progress(told, share)
        begun = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begun, 3)

    def manifest(
        self, architecture: str, fitted: Fitted, tflite: bytes, accuracy: Mapping[str, float] | None = None
    ) -> Manifest:
        """What the model says about itself."""
        settings, data = self.settings, self.dataset
        return Manifest(
            schema="twinship.model.v1",
            name=settings.name,
            version=settings.version,
            architecture=architecture,
            input=input_spec(data.train.shape),
            latencyBudgetMs=settings.latency_budget_ms,
            minimumRuntime=convert.minimum_runtime(tflite),
            metrics={"accuracy": dict(accuracy or {}), "test": len(data.test)},
            dataset=f"{data.name} {data.fingerprint[:16]}",  # a path would not travel well
            weightsSha256=fitted.weights_sha256,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def draft(self, architecture: str, fitted: Fitted, tflite: bytes, asked: Pictures) -> bytes:
        """An artefact to put pictures to, with any probe."""
        labels = self.dataset.labels
        stand_in = Probes(asked.images[0].tobytes(), (labels[asked.labels[0]],))
        return pack(tflite, self.manifest(architecture, fitted, tflite), labels, stand_in)
