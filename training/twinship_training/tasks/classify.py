"""The task `classify`: one label for each picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inference.artefact import Head, Probes
from inference.dataset.pictures import Pictures
from inference.evaluate import count
from twinship_training.data import find
from twinship_training.data.split import Dataset, at_most
from twinship_training.evaluate import chance, changes, choose_probes
from twinship_training.fit import CLASSIFICATION, Fitted, logits
from twinship_training.report import plots
from twinship_training.report.calibration import calibration, scaling
from twinship_training.settings import TrainSettings
from twinship_training.tasks.task import Download, Found, Measured, Task


def _find(settings: TrainSettings, environment: Mapping[str, str], download: Download) -> Dataset:
    return find(settings.dataset, environment, download, at_most(settings.side))


def _stand_in(pictures: Pictures, labels: tuple[str, ...]) -> Probes:
    return Probes(pictures.images[0].tobytes(), (labels[pictures.labels[0]],))


def _scores(found: Found, pictures: Pictures, labels: tuple[str, ...]) -> dict[str, float]:
    return dict(count(found, pictures.labels, len(labels)).accuracy)


def _probes(found: Found, pictures: Pictures, labels: tuple[str, ...], head: Head) -> Probes:
    return choose_probes(found, pictures, labels)


def _on_test(fitted: Fitted, found: Found, test: Pictures, labels: tuple[str, ...]) -> Measured:
    evaluation = count(found, test.labels, len(labels))
    values = logits(fitted.model, test, fitted.spec)
    before = values.argmax(axis=1).astype(np.int64)
    worst = min(found, key=lambda runtime: evaluation.accuracy[runtime])
    preferred = next(iter(found.values()))
    right = before == test.labels
    reliability = calibration(preferred.confidence, preferred.labels == test.labels)
    return Measured(
        float(right.mean()),
        changes(before, found[worst].labels, labels),
        chance(right, found[worst].labels == test.labels),
        {
            "calibration": reliability.model_copy(update=scaling(values, test.labels, fitted.temperature)),
            "confusion": [list(row) for row in evaluation.confusion],
        },
    )


CLASSIFY = Task(
    model_task="classification",
    measure="accuracy",
    head=Head(),
    learning=CLASSIFICATION,
    find=_find,
    stand_in=_stand_in,
    scores=_scores,
    choose_probes=_probes,
    on_test=_on_test,
    draw=plots.draw,
)
