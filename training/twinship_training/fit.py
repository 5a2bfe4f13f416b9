"""Train one network: a seeded loop over epochs. The result has the weights of the best epoch.

The validation pictures decide which epoch is best; this file never sees the test pictures.
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

from inference.dataset.pictures import Pictures, input_spec
from twinship_training import calibrate, workers
from twinship_training.checkpoint import Checkpoint
from twinship_training.networks.architectures import Architecture, Recipe
from twinship_training.networks.augment import augmented, epoch_pictures
from twinship_training.tf_import import tensorflow
from twinship_training.trainer import Trainer
from twinship_training.workers import Worker

EVALUATION_BATCH: Final = 1_000
PROGRESS_EVERY_S: Final = 0.2

Progress = Callable[[str, float], None]
"""Called with what the training does now, and the share of all work that is done, 0 to 1."""


@dataclass(frozen=True)
class Fitted:
    """A trained Keras model with the weights of its best epoch, calibrated."""

    model: Any
    checkpoint: Checkpoint  # after the last epoch
    temperature: float  # which the logits are divided by, see `calibrate`

    @property
    def parameters(self) -> int:
        """The number of trainable parameters."""
        return sum(math.prod(weight.shape) for weight in self.model.trainable_weights)

    @property
    def weights_sha256(self) -> str:
        """The digest of all weights in the model's order, as little-endian float32."""
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
    resume_from: Checkpoint | None = None,
    on_epoch: Callable[[Checkpoint], None] | None = None,
) -> Fitted:
    """Train `architecture` by `recipe`; equal arguments give equal weights on the same machine.

    `on_epoch` gets a checkpoint after every epoch; a training that resumes from it ends at the same weights.
    `worker` is this machine when several train together.
    """
    steps = _steps(recipe, len(train), worker)
    trainer = Trainer(
        architecture,
        recipe,
        train.shape,
        classes,
        seed=seed,
        steps=recipe.epochs * steps,
        strategy=workers.strategy(worker),
    )
    checkpoint = resume_from or Checkpoint((), (), 0, [], [], [])
    if resume_from:
        trainer.state = checkpoint.state, checkpoint.average
    reporter = ProgressReporter(progress, recipe.epochs, steps)
    for epoch in range(len(checkpoint.loss) + 1, recipe.epochs + 1):
        random = np.random.default_rng((seed, epoch))  # so that a checkpoint needs no generator state
        pictures = epoch_pictures(train, recipe, random)
        images = scaled(augmented(pictures.images, recipe.augment, random))
        loss = trainer.run_epoch(images, pictures.labels, partial(reporter, epoch))
        accuracy = float((float_outputs(trainer.evaluated, validation).argmax(1) == validation.labels).mean())
        checkpoint = _after_epoch(checkpoint, loss, accuracy, trainer)
        if on_epoch:
            on_epoch(checkpoint)
    trainer.evaluated.set_weights(checkpoint.best_weights)
    temperature = calibrate.temperature(logits(trainer.evaluated, validation), validation.labels)
    calibrate.fold(trainer.evaluated, temperature)
    return Fitted(trainer.evaluated, checkpoint, temperature)


def _after_epoch(before: Checkpoint, loss: float, accuracy: float, trainer: Trainer) -> Checkpoint:
    """The checkpoint with this epoch added. Of epochs with equal accuracy the latest is the best."""
    best, weights = before.best, before.best_weights
    if accuracy >= max(before.validation, default=0.0):
        best, weights = len(before.loss) + 1, trainer.evaluated.get_weights()
    return Checkpoint((*before.loss, loss), (*before.validation, accuracy), best, weights, *trainer.state)


def scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels (count, H, W, C) as the network's input, with the scale and offset that the engine applies."""
    _, height, width, channels = images.shape
    spec = input_spec((height, width, channels))
    values: NDArray[np.float32] = images.astype(np.float32)
    values *= spec.scale
    values += spec.offset
    return values


def float_outputs(model: Any, pictures: Pictures) -> NDArray[np.float32]:
    """The float model's output, (count, classes)."""
    return _predicted(model, pictures)


def logits(model: Any, pictures: Pictures) -> NDArray[np.float32]:
    """The float model's numbers before the softmax, (count, classes)."""
    _, keras = tensorflow()
    head = calibrate.last_dense(model)
    kernel, bias = head.get_weights()
    features = _predicted(keras.Model(model.inputs, head.input), pictures)
    values: NDArray[np.float32] = features @ kernel + bias
    return values


def _predicted(model: Any, pictures: Pictures) -> NDArray[np.float32]:
    outputs: NDArray[np.float32] = model.predict(
        scaled(pictures.images), batch_size=EVALUATION_BATCH, verbose=0
    )
    return outputs


def _steps(recipe: Recipe, count: int, worker: Worker | None) -> int:
    """Steps of one epoch; several machines leave an incomplete last batch out."""
    pictures = recipe.pictures or count
    return math.ceil(pictures / recipe.batch) if worker is None else max(1, pictures // recipe.batch)


class ProgressReporter:
    """Reports epoch, share and remaining time from finished steps, at most five times a second."""

    def __init__(
        self, progress: Progress, epochs: int, steps: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress, self._epochs, self._steps, self._clock = progress, epochs, steps, clock
        # Time and step count after this run's first step. That step compiles, so its duration is not used.
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
