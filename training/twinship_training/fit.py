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

from inference.artefact import InputSpec
from inference.dataset.pictures import Pictures
from twinship_training import workers
from twinship_training.checkpoint import Checkpoint
from twinship_training.networks import calibrate, mobilenet
from twinship_training.networks.architectures import Architecture, Recipe
from twinship_training.networks.augment import distorted, epoch_pictures
from twinship_training.networks.mobilenet import Weights
from twinship_training.tf_import import tensorflow
from twinship_training.trainer import Trainer
from twinship_training.workers import Worker

EVALUATION_PIXELS: Final = 100 * 224 * 224  # at once; of the largest network they take 0.5 GB
PROGRESS_EVERY_S: Final = 0.2

Progress = Callable[[str, float], None]
"""Called with what the training does now, and the share of all work that is done, 0 to 1."""


@dataclass(frozen=True)
class Fitted:
    """A trained Keras model with the weights of its best epoch, as it is converted."""

    model: Any
    checkpoint: Checkpoint  # after the last epoch
    temperature: float  # which the logits are divided by, see `calibrate`
    spec: InputSpec  # the input that it takes

    @property
    def parameters(self) -> int:
        """The number of parameters, frozen ones too, without the averages of batch normalisations."""
        averages = ("moving_mean", "moving_variance")
        return sum(math.prod(each.shape) for each in self.model.weights if each.name not in averages)

    @property
    def weights_sha256(self) -> str:
        """The digest of all weights in the model's order, as little-endian float32."""
        digest = hashlib.sha256()
        for weight in self.model.get_weights():
            digest.update(f"{weight.shape}\n".encode())
            digest.update(weight.astype("<f4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Learning:
    """The steps of a training that depend on its task."""

    #: Gives a network its first weights: (model, ImageNet weights, training pictures, input).
    begin: Callable[[Any, Weights, Pictures, InputSpec], None]
    distort: Callable[[Pictures, Recipe, np.random.Generator], Pictures]
    #: How good a model is, a share of 1: (model, pictures, input).
    score: Callable[[Any, Pictures, InputSpec], float]
    #: The model to convert, and its temperature: (model, validation pictures, input).
    finish: Callable[[Any, Pictures, InputSpec], tuple[Any, float]]


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
    pretrained: Weights | None = None,
    learning: Learning | None = None,
) -> Fitted:
    """Train `architecture` by `recipe`; equal arguments give equal weights on the same machine.

    `on_epoch` gets a checkpoint after every epoch; a training that resumes from it ends at the same weights.
    `worker` is this machine when several train together. `pretrained` has the weights that a network begins
    with, if the architecture says so. `learning` is that of the task; None: classification.
    """
    learning = learning or CLASSIFICATION
    spec = architecture.spec(train.shape)
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
    elif architecture.pretrained:
        progress("beginning with the weights of ImageNet", 0.0)
        learning.begin(trainer.evaluated, pretrained or [], train, spec)
        trainer.begin()
    reporter = ProgressReporter(progress, recipe.epochs, steps)
    for epoch in range(len(checkpoint.loss) + 1, recipe.epochs + 1):
        random = np.random.default_rng((seed, epoch))  # so that a checkpoint needs no generator state
        pictures = learning.distort(epoch_pictures(train, recipe, random), recipe, random)
        loss = trainer.run_epoch(pictures.images, pictures.labels, partial(reporter, epoch))
        accuracy = learning.score(trainer.evaluated, validation, spec)
        checkpoint = _after_epoch(checkpoint, loss, accuracy, trainer)
        if on_epoch:
            on_epoch(checkpoint)
    trainer.evaluated.set_weights(checkpoint.best_weights)
    model, temperature = learning.finish(trainer.evaluated, validation, spec)
    return Fitted(model, checkpoint, temperature, spec)


def _after_epoch(before: Checkpoint, loss: float, accuracy: float, trainer: Trainer) -> Checkpoint:
    """The checkpoint with this epoch added. Of epochs with equal accuracy the latest is the best."""
    best, weights = before.best, before.best_weights
    if accuracy >= max(before.validation, default=0.0):
        best, weights = len(before.loss) + 1, trainer.evaluated.get_weights()
    return Checkpoint((*before.loss, loss), (*before.validation, accuracy), best, weights, *trainer.state)


def _begin(model: Any, weights: Weights, train: Pictures, spec: InputSpec) -> None:
    mobilenet.begin(model, weights)
    mobilenet.fit_head(model, _features(model, train, spec), train.labels)


def _distorted(pictures: Pictures, recipe: Recipe, random: np.random.Generator) -> Pictures:
    return Pictures(distorted(pictures.images, recipe, random), pictures.labels)


def _share_right(model: Any, pictures: Pictures, spec: InputSpec) -> float:
    return float((float_outputs(model, pictures, spec).argmax(1) == pictures.labels).mean())


def _calibrated(model: Any, validation: Pictures, spec: InputSpec) -> tuple[Any, float]:
    temperature = calibrate.temperature(logits(model, validation, spec), validation.labels)
    calibrate.fold(model, temperature)
    return model, temperature


CLASSIFICATION: Final = Learning(_begin, _distorted, _share_right, _calibrated)


def scaled(images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Pixels (count, H, W, C) as the network's input, with the scale and offset that the engine applies."""
    values: NDArray[np.float32] = images.astype(np.float32)
    values *= spec.scale
    values += spec.offset
    return values


def float_outputs(model: Any, pictures: Pictures, spec: InputSpec) -> NDArray[np.float32]:
    """The float model's output, (count, classes) or (count, h, w, classes + 4)."""
    return _predicted(model, pictures.images, spec)


def logits(model: Any, pictures: Pictures, spec: InputSpec) -> NDArray[np.float32]:
    """The float model's numbers before the softmax, (count, classes)."""
    kernel, bias = calibrate.last_dense(model).get_weights()
    values: NDArray[np.float32] = _features(model, pictures, spec) @ kernel + bias
    return values


def _features(model: Any, pictures: Pictures, spec: InputSpec) -> NDArray[np.float32]:
    """The input of the model's last dense layer, (count, width)."""
    _, keras = tensorflow()
    last = calibrate.last_dense(model)
    return _predicted(keras.Model(model.inputs, last.input), pictures.images, spec)


def _predicted(model: Any, images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    size = max(1, min(100, EVALUATION_PIXELS // math.prod(images.shape[1:3])))
    batches = (images[begin : begin + size] for begin in range(0, len(images), size))
    return np.concatenate([model.predict_on_batch(scaled(batch, spec)) for batch in batches])


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
