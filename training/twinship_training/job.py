"""One training in progress: the settings, data and progress that its steps share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from inference.artefact import Head, Manifest, Reference, pack
from inference.dataset.pictures import Pictures
from twinship_training import convert
from twinship_training.checkpoint import Checkpoint, CheckpointFolder
from twinship_training.data.split import Dataset
from twinship_training.fit import Fitted, Progress
from twinship_training.networks.pretrained import Pretrained
from twinship_training.settings import TrainSettings
from twinship_training.tasks import TASKS, Task
from twinship_training.workers import Worker

#: A device may take this many times as long as this machine, if that is more than the settings' budget.
BUDGET: Final = 10


@dataclass(frozen=True)
class Job:
    """A training in progress."""

    settings: TrainSettings
    dataset: Dataset
    progress: Progress
    recipe_key: str  # digest of settings and code
    started: float  # CLOCK_MONOTONIC, s
    checkpoints: CheckpointFolder
    worker: Worker | None = None  # this machine, when several train together
    resume_from: Mapping[str, Checkpoint] = field(default_factory=dict)  # network → its checkpoint
    seconds: dict[str, float] = field(default_factory=dict)  # stage → its duration, all its runs together
    pretrained: Pretrained = field(default_factory=Pretrained)

    @property
    def architectures(self) -> tuple[str, ...]:
        """The networks to train."""
        left_out = self.pretrained.left_out
        return tuple(name for name in self.settings.architectures if name not in left_out)

    @property
    def task(self) -> Task:
        """What differs for the task of the settings."""
        return TASKS[self.settings.task]

    @property
    def head(self) -> Head:
        """The head that the artefact ships with; `task.head` measures."""
        return self.task.head.model_copy(update=self.settings.head_options)

    @contextmanager
    def stage(self, name: str, text: str, share: float) -> Iterator[None]:
        """Report the stage that begins, and record its duration."""
        self.progress(text, share)
        begun = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begun, 3)

    def manifest(
        self,
        architecture: str,
        fitted: Fitted,
        tflite: bytes,
        accuracy: Mapping[str, float] | None = None,
        p50_ms: float = 0.0,
        head: Head | None = None,
        reference: Reference | None = None,
    ) -> Manifest:
        """The artefact's manifest. `p50_ms`: the median time of one picture here, on the slowest runtime.

        `head` is the one to ship; None: the one to measure with.
        """
        settings, data = self.settings, self.dataset
        return Manifest(
            schema="twinship.model.v1",
            name=settings.name,
            version=settings.version,
            architecture=architecture,
            input=fitted.spec,
            task=self.task.model_task,
            head=head or self.task.head,
            latencyBudgetMs=round(max(settings.latency_budget_ms, BUDGET * p50_ms), 3),
            minimumRuntime=convert.minimum_runtime(tflite),
            metrics={self.task.measure: dict(accuracy or {}), "test": len(data.test)},
            dataset=f"{data.name} {data.fingerprint[:16]}",  # without the source, which may be a path
            weightsSha256=fitted.weights_sha256,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            reference=reference,
        )

    def draft(self, architecture: str, fitted: Fitted, tflite: bytes, pictures: Pictures) -> bytes:
        """An artefact to evaluate, before its probes are chosen: the first picture stands in for them."""
        labels = self.dataset.labels
        stand_in = self.task.stand_in(pictures, labels)
        return pack(tflite, self.manifest(architecture, fitted, tflite), labels, stand_in)
