"""Does the int8 model answer as it should? The gates of a training, and the choice of the probes.

Trains and converts nothing; the asking itself, on every runtime, is `ask`'s.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import MAX_ARTEFACT_BYTES, MAX_PROBES, Artefact, BadArtefact, Probes, read
from inference.models.errors import ModelRefused, ModelUnavailable
from inference.models.prove import Proved, Prover
from inference.runtimes import versions
from twinship_training import TrainingError
from twinship_training.convert import OPTIMISATIONS, too_old
from twinship_training.data import Pictures
from twinship_training.evaluate import Answers, ask
from twinship_training.networks.architectures import Target

SUREST: Final = 10  # of each label
CHANGES_TOLD: Final = 5
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


def read_file(path: Path) -> Artefact:
    """The artefact in a file; raises NotVerified."""
    try:
        with path.open("rb") as file:
            return read(file.read(MAX_ARTEFACT_BYTES + 1))
    except (OSError, BadArtefact) as error:
        raise NotVerified(f"{path}: {error}") from error


def verify_file(path: Path, labels: Sequence[str], test: Pictures) -> Verified:
    """How the artefact in a file does on `test`, once it has passed the device's proof.

    On every runtime that is new enough. Raises NotVerified, and NotAnswered when a runtime fails at it.
    """
    artefact = read_file(path)
    if artefact.labels != tuple(labels):
        ours, theirs = ", ".join(artefact.labels[:5]), ", ".join(labels[:5])
        raise NotVerified(
            f"{path}: it knows the labels {ours} …, the data set has {theirs} …: use another --dataset"
        )
    besides = too_old(artefact.manifest.minimumRuntime)
    prove(path, besides)
    return verified(ask(artefact.data, test.images, besides), test.labels, len(artefact.labels))


def prove(path: Path, besides: Collection[str] = ()) -> dict[str, Proved]:
    """Runtime → the outcome of the proof that a device makes before it loads a model; raises NotVerified."""
    runtimes = [runtime for runtime in versions() if runtime not in besides]
    try:
        return {runtime: Prover(runtime, PROOF_TIMEOUT_S).run(path) for runtime in runtimes}
    except (ModelRefused, ModelUnavailable) as error:
        raise NotVerified(f"{path}: a device would refuse it: {error}") from error


def choose_probes(answered: Mapping[str, Answers], asked: Pictures, labels: tuple[str, ...]) -> Probes:
    """For each label a picture that every runtime answers right and surely; raises NotVerified where none is.

    Sure ones, because a device asks whether the model works there and not how good it is. Of the surest of a
    label the one that zlib packs best, because the probes travel inside the twin. Of more labels than an
    artefact has probes every so many-th has one.
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
    return fewer(Probes(asked.images[np.array(chosen)].tobytes(), expected), MAX_PROBES)


def fewer(probes: Probes, count: int) -> Probes:
    """At most `count` of these, spread from the first to the last."""
    places = np.unique(np.linspace(0, probes.count - 1, min(count, probes.count)).astype(int))
    images = np.frombuffer(probes.images, np.uint8).reshape(probes.count, -1)
    return Probes(images[places].tobytes(), tuple(probes.expected[place] for place in places))


def _packed(image: NDArray[np.uint8]) -> int:
    return len(zlib.compress(image.tobytes(), 9))


def check_tensors(answered: Mapping[str, Answers], optimisation: str) -> None:
    """Raise NotVerified unless the model takes and gives the type that its optimisation promises."""
    wanted = OPTIMISATIONS[optimisation].tensors
    for runtime, answers in answered.items():
        if answers.tensors != wanted:
            raise NotVerified(
                f"the model's input and output are {answers.tensors} on {runtime}, not {wanted}"
            )


def check_target(
    target: Target, float32: float, shipped: Mapping[str, float], *, what: str, changed: str = ""
) -> None:
    """Raise NotVerified below the target accuracy, or where the artefact lost too much on any runtime.

    `changed` says in words which answers became others.
    """
    if float32 < target.accuracy:
        wanted = f"{target.accuracy:.2%} is wanted"
        raise NotVerified(f"{what} reached {float32:.2%}, {wanted}: train longer (--epochs, --profile full)")
    for runtime, accuracy in shipped.items():
        if (drop := float32 - accuracy) > target.drop + ROUNDING:
            lost = f"lost {100 * drop:.2f} points by the conversion on {runtime}"
            more = f" ({changed})" if changed else ""
            raise NotVerified(f"{what} {lost}, {100 * target.drop:.2f} are allowed{more}: try another --seed")


def changes(before: NDArray[np.int64], after: NDArray[np.int64], labels: Sequence[str]) -> str:
    """The commonest pairs of different answers to the same pictures, in words; "" when there are none."""
    differ = before != after
    pairs = Counter(zip(before[differ].tolist(), after[differ].tolist(), strict=True))
    told = (f"{labels[a]} became {labels[b]} {count}×" for (a, b), count in pairs.most_common(CHANGES_TOLD))
    return ", ".join(told)
