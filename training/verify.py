"""Does the int8 model answer as it should? The gates of a training, and the choice of the probes.

Trains and converts nothing; the asking itself, on every runtime, is `ask`'s.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import MAX_ARTEFACT_BYTES, BadArtefact, Probes, read
from inference.prove import Proved, Prover
from inference.reconcile import ModelRefused, ModelUnavailable
from inference.runtimes import versions
from training import TrainingError
from training.architectures import Target
from training.ask import Answers, ask
from training.data import Pictures

PROBE_CANDIDATES: Final = 500
SUREST: Final = 10  # of each label
PROOF_TIMEOUT_S: Final = 60.0  # a device allows 10; a machine that trains is busy
ROUNDING: Final = 1e-9  # of a difference of two shares


class NotVerified(TrainingError):
    """The model is not good enough, or not what it should be."""


@dataclass(frozen=True)
class Verified:
    """How an int8 model did on pictures that it has not seen."""

    accuracy: Mapping[str, float]  # runtime → share of right answers
    confusion: tuple[tuple[int, ...], ...]  # truth → answer → how often, by the first runtime

    @property
    def worst(self) -> float:
        return min(self.accuracy.values())


def verified(answered: Mapping[str, Answers], truth: NDArray[np.int64], classes: int) -> Verified:
    """Count what every runtime answered to the pictures of these labels."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, next(iter(answered.values())).predicted), 1)
    return Verified(
        {runtime: float((answers.predicted == truth).mean()) for runtime, answers in answered.items()},
        tuple(tuple(int(count) for count in row) for row in table),
    )


def verify_file(path: Path, test: Pictures) -> Verified:
    """How the artefact in a file does on `test`, once it has passed the device's proof.

    Raises NotVerified, and NotAnswered when a runtime fails at it.
    """
    try:
        with path.open("rb") as file:
            artefact = read(file.read(MAX_ARTEFACT_BYTES + 1))
    except (OSError, BadArtefact) as error:
        raise NotVerified(f"{path}: {error}") from error
    prove(path)
    return verified(ask(artefact.data, test.images), test.labels, len(artefact.labels))


def prove(path: Path) -> dict[str, Proved]:
    """Runtime → the outcome of the proof that a device makes before it loads a model; raises NotVerified."""
    try:
        return {runtime: Prover(runtime, PROOF_TIMEOUT_S).run(path) for runtime in versions()}
    except (ModelRefused, ModelUnavailable) as error:
        raise NotVerified(f"{path}: a device would refuse it: {error}") from error


def choose_probes(answered: Mapping[str, Answers], asked: Pictures, labels: tuple[str, ...]) -> Probes:
    """For each label a picture that every runtime answers right and surely; raises NotVerified where none is.

    Sure ones, because a device asks whether the model works there and not how good it is. Of the surest of a
    label the one that zlib packs best, because the probes travel inside the twin.
    """
    right = np.logical_and.reduce([each.predicted == asked.labels for each in answered.values()])
    sureness = np.minimum.reduce([each.confidence for each in answered.values()])
    chosen: list[int] = []
    for place in range(len(labels)):
        known = np.flatnonzero(right & (asked.labels == place))
        surest = known[np.argsort(-sureness[known], kind="stable")][:SUREST]
        chosen += sorted((int(each) for each in surest), key=lambda each: _packed(asked.images[each]))[:1]
    if not chosen:
        raise NotVerified("the int8 model answers no picture right on every runtime: it has learnt nothing")
    expected = tuple(labels[asked.labels[each]] for each in chosen)
    return Probes(asked.images[np.array(chosen)].tobytes(), expected)


def _packed(image: NDArray[np.uint8]) -> int:
    return len(zlib.compress(image.tobytes(), 9))


def check_target(target: Target, float32: float, int8: Mapping[str, float], *, what: str) -> None:
    """Raise NotVerified below the target accuracy, or where int8 lost too much on any runtime."""
    if float32 < target.accuracy:
        wanted = f"{target.accuracy:.2%} is wanted"
        raise NotVerified(f"{what} reached {float32:.2%}, {wanted}: train longer (--epochs, --profile full)")
    for runtime, accuracy in int8.items():
        if (drop := float32 - accuracy) > target.drop + ROUNDING:
            lost = f"lost {100 * drop:.2f} points in int8 on {runtime}"
            raise NotVerified(f"{what} {lost}, {100 * target.drop:.2f} are allowed: try another --seed")
