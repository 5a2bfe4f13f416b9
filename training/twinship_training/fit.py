"""Train one network: a plain loop over epochs, seeded, that keeps the weights of the best epoch.

The best by the validation pictures, a part of the training data; the test pictures are not seen here.
The numbers are `architectures`', the pictures `data`'s.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinship_training import workers
from twinship_training.checkpoint import Epoch, Reached
from twinship_training.data import Pictures, input_spec
from twinship_training.networks.architectures import Architecture, Recipe
from twinship_training.networks.augment import epoch_of, warped
from twinship_training.networks.learner import Learner
from twinship_training.workers import Worker

EVALUATION_BATCH: Final = 1_000
PROGRESS_EVERY_S: Final = 0.2

Progress = Callable[[str, float], None]
"""Told what is being done, in words, and which share of 1 is done."""


@dataclass(frozen=True)
class Fitted:
    """A trained Keras model with the weights of its best epoch."""

    model: Any
    epoch: int  # the one that was kept, from 1
    validation: float  # its accuracy on the validation pictures
    history: tuple[Epoch, ...]  # every epoch, the first first

    @property
    def parameters(self) -> int:
        """How many numbers there are to learn, those that only record averages not counted."""
        return sum(math.prod(weight.shape) for weight in self.model.trainable_weights)

    @property
    def weights_sha256(self) -> str:
        """Of every weight in the model's order, as little-endian float32."""
        digest = hashlib.sha256()
        for weight in self.model.get_weights():
            digest.update(f"{weight.shape}\n".encode())
            digest.update(weight.astype("<f4").tobytes())
        return digest.hexdigest()


def fit(
    architecture: Architecture,
    recipe: Recipe,
    train: Pictures,
    validation: Pictures,
    classes: int,
    seed: int,
    progress: Progress,
    *,
    worker: Worker | None = None,
    reached: Reached | None = None,
    keep: Callable[[Reached], None] | None = None,
) -> Fitted:
    """Train `architecture` by `recipe`; the same arguments give the same weights on the same machine.

    `keep` is told after every epoch how far it has come; with that as `reached` the training goes on from
    there, to the same weights. `worker` is this machine where several train together.
    """
    steps = _steps(recipe, len(train), worker)
    learner = Learner(
        architecture,
        recipe,
        train.shape,
        classes,
        seed=seed,
        steps=recipe.epochs * steps,
        strategy=workers.strategy(worker),
    )
    if reached:
        learner.state = reached.state, reached.average
    told = Told(progress, recipe.epochs, steps)
    for epoch in range(len(reached.history) + 1 if reached else 1, recipe.epochs + 1):
        draw = np.random.default_rng((seed, epoch))  # nothing to remember from epoch to epoch
        pictures = epoch_of(train, recipe, draw)
        images = real(warped(pictures.images, recipe.warp, draw))
        loss = learner.epoch(images, pictures.labels, partial(told, epoch))
        accuracy = float((predictions(learner.judged, validation).argmax(1) == validation.labels).mean())
        reached = _after(reached, Epoch(loss, accuracy), learner)
        if keep:
            keep(reached)
    assert reached, "a recipe has at least one epoch"
    learner.judged.set_weights(reached.kept)
    best = reached.history[reached.best - 1]
    return Fitted(learner.judged, reached.best, best.validation, reached.history)


def _after(before: Reached | None, epoch: Epoch, learner: Learner) -> Reached:
    """With this epoch; its weights are kept if it did best, of equals the latest."""
    history = (*before.history, epoch) if before else (epoch,)
    state, average = learner.state
    if before and before.history[before.best - 1].validation > epoch.validation:
        return Reached(history, before.best, before.kept, state, average)
    return Reached(history, len(history), learner.judged.get_weights(), state, average)


def real(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels (count, H, W, C) as the network sees them: by the rule that the engine follows on the device."""
    _, height, width, channels = images.shape
    spec = input_spec((height, width, channels))
    values: NDArray[np.float32] = images.astype(np.float32)
    values *= spec.scale
    values += spec.offset
    return values


def predictions(model: Any, pictures: Pictures) -> NDArray[np.float32]:
    """The float model's output, (count, classes)."""
    answers: NDArray[np.float32] = model.predict(
        real(pictures.images), batch_size=EVALUATION_BATCH, verbose=0
    )
    return answers


def _steps(recipe: Recipe, count: int, worker: Worker | None) -> int:
    """In one epoch; machines that share each step leave out what does not fill one."""
    shown = recipe.pictures or count
    return math.ceil(shown / recipe.batch) if worker is None else max(1, shown // recipe.batch)


class Told:
    """Turns steps into words, a share and the time that is left, at most five times a second."""

    def __init__(
        self, progress: Progress, epochs: int, steps: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress, self._epochs, self._steps, self._clock = progress, epochs, steps, clock
        # When, and after how many steps, the first of this run was done: it compiles, so it tells nothing.
        self._first: tuple[float, int] | None = None
        self._last = 0.0

    def __call__(self, epoch: int, step: int) -> None:
        now = self._clock()
        done, total = (epoch - 1) * self._steps + step, self._epochs * self._steps
        self._first = self._first or (now, done)
        if now - self._last < PROGRESS_EVERY_S and step < self._steps:
            return
        self._last = now
        since, before = self._first
        left = f", {(now - since) * (total - done) / (done - before):.0f} s left" if done > before else ""
        self._progress(f"epoch {epoch} of {self._epochs}, {step / self._steps:.0%}{left}", done / total)
