"""What differs between the tasks of a training: one value of `Task` for each, in the table of the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.artefact import Head, Probes
from inference.artefact import Task as ModelTask
from inference.dataset.pictures import Pictures
from inference.evaluate import Predictions
from inference.metrics_model import Metrics
from twinship_training.data.split import Dataset
from twinship_training.fit import Fitted, Learning
from twinship_training.settings import TrainSettings

Download = Callable[[str, Path], str | None]
Found = Mapping[str, Predictions]
"""Runtime → the converted model's predictions for some pictures."""


@dataclass(frozen=True)
class Measured:
    """The chosen model, measured with the test pictures."""

    float32: float  # accuracy or mAP50 of the float model, a share of 1
    changed: str  # what the conversion changed, for an error; or ""
    chance: float  # by how much more than the limit so few pictures may fall, a share of 1
    figures: Mapping[str, Any]  # fields of Metrics that only this task has


@dataclass(frozen=True)
class Task:
    """The steps of a training that depend on what its model answers."""

    model_task: ModelTask
    measure: str  # the name of what `scores` returns
    head: Head  # to measure with
    learning: Learning
    find: Callable[[TrainSettings, Mapping[str, str], Download], Dataset]
    #: Probes before there are answers: the first picture, and any answer.
    stand_in: Callable[[Pictures, tuple[str, ...]], Probes]
    #: Runtime → how good the converted model is, a share of 1.
    scores: Callable[[Found, Pictures, tuple[str, ...]], dict[str, float]]
    choose_probes: Callable[[Found, Pictures, tuple[str, ...], Head], Probes]
    on_test: Callable[[Fitted, Found, Pictures, tuple[str, ...]], Measured]
    draw: Callable[[Path, Metrics, Pictures, Predictions], None]
