"""The task `detect`: labelled boxes in each picture, measured by mAP50."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference import heads
from inference.artefact import Found as Detection
from inference.artefact import Head, InputSpec, Probes
from inference.dataset.pictures import Pictures
from inference.evaluate import NotVerified, agreed
from inference.metrics_model import ClassPrecision
from twinship_training.data import boxes
from twinship_training.data.split import Dataset
from twinship_training.fit import Fitted, Learning, float_outputs
from twinship_training.networks import centers
from twinship_training.networks.augment_boxes import distorted
from twinship_training.networks.mobilenet import Weights
from twinship_training.report import detection_plots
from twinship_training.settings import TrainSettings
from twinship_training.tasks.precision import MOST, Precision, precision
from twinship_training.tasks.task import Download, Found, Measured, Task

#: All scores from here on count for mAP50. The artefact's own threshold is higher, see TrainSettings.
HEAD: Final = Head(kind="centers", scoreThreshold=0.05, maxDetections=MOST)
PROBES: Final = 3
DECIMALS: Final = 4


def answers(outputs: NDArray[np.float32], spec: InputSpec) -> list[NDArray[np.float32]]:
    """The detections of each picture from a network's maps (count, h, w, labels + 4), as on a device."""
    labels = outputs.shape[3] - 4
    decode = heads.head(HEAD, spec, labels)
    parts = np.split(outputs, (labels, labels + 2), axis=3)
    return [decode([part[number : number + 1] for part in parts]) for number in range(len(outputs))]


def _begin(model: Any, weights: Weights, train: Pictures, spec: InputSpec) -> None:
    centers.begin(model, weights)


def _score(model: Any, pictures: Pictures, spec: InputSpec) -> float:
    maps = float_outputs(model, pictures, spec)
    found = answers(maps, spec)
    return precision(found, pictures.labels, maps.shape[3] - 4, pictures.shape[:2]).mean


def _finish(model: Any, validation: Pictures, spec: InputSpec) -> tuple[Any, float]:
    return centers.parted(model), 1.0


def _find(settings: TrainSettings, environment: Mapping[str, str], download: Download) -> Dataset:
    return boxes.find(settings.dataset, settings.side)


def _stand_in(pictures: Pictures, labels: tuple[str, ...]) -> Probes:
    return Probes(pictures.images[0].tobytes(), detections=((),))


def _judged(found: Sequence[NDArray[np.float32]], pictures: Pictures, labels: tuple[str, ...]) -> Precision:
    return precision(found, pictures.labels, len(labels), pictures.shape[:2])


def _scores(found: Found, pictures: Pictures, labels: tuple[str, ...]) -> dict[str, float]:
    return {runtime: _judged(each.detections, pictures, labels).mean for runtime, each in found.items()}


def _probes(found: Found, pictures: Pictures, labels: tuple[str, ...], head: Head) -> Probes:
    """At most PROBES pictures on whose detections all runtimes agree: those that show the most labels.

    Raises NotVerified if nothing is found in any picture.
    """
    shown = [
        agreed(labels, head, [each.detections[number] for each in found.values()])
        for number in range(len(pictures))
    ]
    chosen: list[int] = []
    missing = set(labels)
    while len(chosen) < PROBES:
        rest = [number for number in range(len(shown)) if shown[number] and number not in chosen]
        if not rest or (chosen and not missing & _labels(shown, rest)):
            break
        best = max(rest, key=lambda number: (len(missing & _labels(shown, [number])), len(shown[number])))
        chosen.append(best)
        missing -= _labels(shown, [best])
    if not chosen:
        raise NotVerified("the runtimes agree on no detection: it has learnt nothing")
    return Probes(pictures.images[chosen].tobytes(), detections=tuple(shown[number] for number in chosen))


def _labels(shown: Sequence[Sequence[Detection]], numbers: Sequence[int]) -> set[str]:
    return {each.label for number in numbers for each in shown[number]}


def _on_test(fitted: Fitted, found: Found, test: Pictures, labels: tuple[str, ...]) -> Measured:
    maps = float_outputs(centers.joined(fitted.model), test, fitted.spec)
    before = _judged(answers(maps, fitted.spec), test, labels)
    after = _judged(next(iter(found.values())).detections, test, labels)
    rows = [
        ClassPrecision(
            label=label,
            float32=round(before.of_label[number], DECIMALS),
            shipped=round(after.of_label[number], DECIMALS),
            curve=tuple(after.curves[number].round(DECIMALS).tolist()),
        )
        for number, label in enumerate(labels)
        if not np.isnan(before.of_label[number])
    ]
    figures: dict[str, Any] = {
        "task": "detection",
        "detection": tuple(rows),
        "calibration": None,
        "confusion": [],
    }
    return Measured(before.mean, "", 0.0, figures)


DETECT = Task(
    model_task="detection",
    measure="mAP50",
    head=HEAD,
    learning=Learning(_begin, distorted, _score, _finish),
    find=_find,
    stand_in=_stand_in,
    scores=_scores,
    choose_probes=_probes,
    on_test=_on_test,
    draw=detection_plots.draw,
)
