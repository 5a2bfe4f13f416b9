"""Thresholds that a converted model must meet, and the choice of its probes. Rules about predictions only.

`inference.evaluate` gets the predictions, on every runtime.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import MAX_PROBES, Probes, Reference, Task
from inference.dataset.pictures import Pictures
from inference.drift.reference import reference
from inference.evaluate import NotVerified, Predictions
from twinship_training.convert import OPTIMISATIONS
from twinship_training.networks.architectures import Target

PROBE_CANDIDATES: Final = 10  # for each label
CHANGES_NAMED: Final = 5
ROUNDING: Final = 1e-9  # of a difference of two shares
STANDARD_ERRORS: Final = 2.0  # a conversion that loses exactly its limit is refused in about 2.3 % of cases


def check_tensors(predictions: Mapping[str, Predictions], optimisation: str) -> None:
    """Raise NotVerified unless input and output have the type that the optimisation promises."""
    wanted = OPTIMISATIONS[optimisation].tensors
    for runtime, each in predictions.items():
        if each.tensors != wanted:
            raise NotVerified(f"the model's input and output are {each.tensors} on {runtime}, not {wanted}")


def check_target(
    target: Target, float32: float, shipped: Mapping[str, float], *, what: str, changed: str = ""
) -> None:
    """Raise NotVerified below the target accuracy, or if the conversion lost too much on any runtime.

    `what` names the model and the data; `changed` is the text of `changes`.
    """
    if float32 < target.accuracy:
        wanted = f"{target.accuracy:.2%} is wanted"
        raise NotVerified(f"{what} reached {float32:.2%}, {wanted}: train longer (--epochs, --profile full)")
    for runtime, accuracy in shipped.items():
        if (drop := float32 - accuracy) > target.drop + ROUNDING:
            lost = f"lost {100 * drop:.2f} of {100 * float32:.2f} points by the conversion on {runtime}"
            more = f" ({changed})" if changed else ""
            cure = "try another --seed, or --optimise float16"
            raise NotVerified(f"{what} {lost}, {100 * target.drop:.2f} are allowed{more}: {cure}")


def chance(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """What the accuracy may fall by chance, a share of 1: STANDARD_ERRORS of the difference of two shares.

    `before` and `after` say of the same pictures whether a prediction is right. Pictures that both have right
    or both wrong say nothing about the difference (Q. McNemar, Psychometrika 12, 1947).

    >>> float_model, converted = np.ones(400, bool), np.ones(400, bool)
    >>> converted[:4] = False
    >>> chance(float_model, converted)
    0.01
    """
    return STANDARD_ERRORS * math.sqrt(np.count_nonzero(before != after)) / len(before)


def changes(before: NDArray[np.int64], after: NDArray[np.int64], labels: Sequence[str]) -> str:
    """The commonest pairs of different predictions for the same pictures, as text; "" if there are none."""
    differ = before != after
    pairs = Counter(zip(before[differ].tolist(), after[differ].tolist(), strict=True))
    named = (f"{labels[a]} became {labels[b]} {count}×" for (a, b), count in pairs.most_common(CHANGES_NAMED))
    return ", ".join(named)


def choose_probes(
    predictions: Mapping[str, Predictions], pictures: Pictures, labels: tuple[str, ...]
) -> Probes:
    """One picture for each label that every runtime predicts right with high confidence.

    High confidence, because a device checks with them whether the model works there, not how accurate it is.
    Of a label's PROBE_CANDIDATES with the highest confidence, the one that zlib compresses best is taken,
    because probes are sent inside the twin. If there are more labels than an artefact may have probes, evenly
    spaced labels get one. Raises NotVerified if no picture is right.
    """
    right = np.logical_and.reduce([each.labels == pictures.labels for each in predictions.values()])
    confidence = np.minimum.reduce([each.confidence for each in predictions.values()])
    chosen: list[int] = []
    for label in range(len(labels)):
        known = np.flatnonzero(right & (pictures.labels == label))
        surest = known[np.argsort(-confidence[known], kind="stable")][:PROBE_CANDIDATES]
        chosen += sorted(surest.tolist(), key=lambda each: _packed(pictures.images[each]))[:1]
    if not chosen:
        raise NotVerified("the model predicts no picture right on every runtime: it has learnt nothing")
    expected = tuple(labels[pictures.labels[each]] for each in chosen)
    return fewer(Probes(pictures.images[np.array(chosen)].tobytes(), expected), MAX_PROBES)


def drift_reference(task: Task, predictions: Predictions, labels: Sequence[str]) -> Reference | None:
    """What the validation pictures look like to the converted model; None if there are too few."""
    return None if predictions.measures is None else reference(task, predictions.measures, len(labels))


def fewer(probes: Probes, count: int) -> Probes:
    """At most `count` of these, evenly spaced from the first to the last."""
    index = np.unique(np.linspace(0, probes.count - 1, min(count, probes.count)).astype(int))
    images = np.frombuffer(probes.images, np.uint8).reshape(probes.count, -1)
    kept = images[index].tobytes()
    if probes.detections:
        return Probes(kept, detections=tuple(probes.detections[each] for each in index))
    return Probes(kept, tuple(probes.expected[each] for each in index))


def _packed(image: NDArray[np.uint8]) -> int:
    return len(zlib.compress(image.tobytes(), 9))
