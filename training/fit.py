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
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.architectures import Architecture, Recipe
from training.data import Pictures, input_spec
from training.quiet import silenced, tensorflow

EVALUATION_BATCH: Final = 1_000
PROGRESS_EVERY_S: Final = 0.2

Progress = Callable[[str, float], None]
"""Told what is being done, in words, and which share of 1 is done."""


@dataclass(frozen=True)
class Epoch:
    """How one epoch went."""

    loss: float  # mean over its training steps
    validation: float  # accuracy on the validation pictures after it, a share of 1


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
) -> Fitted:
    """Train `architecture` by `recipe`; the same arguments give the same weights on the same machine."""
    model = _compiled(architecture, recipe, train, classes, seed)
    draw = np.random.default_rng(seed)
    told = _Told(progress, recipe, _steps(recipe, len(train)))
    best: tuple[float, int, Any] = (-1.0, 0, None)
    history: list[Epoch] = []
    for epoch in range(1, recipe.epochs + 1):
        pictures = epoch_of(train, recipe, draw)
        images = real(warped(pictures.images, recipe.warp, draw))
        fitted = model.fit(
            images,
            pictures.labels,
            batch_size=recipe.batch,
            shuffle=False,  # `epoch_of` has shuffled
            verbose=0,
            callbacks=[told.callback(epoch)],
        )
        accuracy = float((predictions(model, validation).argmax(1) == validation.labels).mean())
        history.append(Epoch(float(fitted.history["loss"][0]), accuracy))
        if accuracy >= best[0]:
            best = (accuracy, epoch, model.get_weights())
    model.set_weights(best[2])
    return Fitted(model, epoch=best[1], validation=best[0], history=tuple(history))


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


def epoch_of(train: Pictures, recipe: Recipe, draw: np.random.Generator) -> Pictures:
    """The pictures of one epoch in a new order; from the start again when there are fewer than it takes."""
    count = recipe.pictures or len(train)
    rounds = math.ceil(count / len(train))
    order = np.concatenate([draw.permutation(len(train)) for _ in range(rounds)])
    return train.take(order[:count])


def warped(images: NDArray[np.uint8], strength: float, draw: np.random.Generator) -> NDArray[np.uint8]:
    """Each picture turned, scaled, sheared and moved a little, differently; 0: left as they are."""
    if not strength:
        return images
    tf, _ = tensorflow()
    _, height, width, _ = images.shape
    moved: NDArray[np.uint8] = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms(len(images), strength, draw, (height, width)),
        output_shape=[height, width],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    ).numpy()
    return moved


def transforms(
    count: int, strength: float, draw: np.random.Generator, size: tuple[int, int]
) -> NDArray[np.float32]:
    """(count, 8): for each picture the a b c / d e f / 0 0 that map an output pixel to where it is read from.

    About the centre of `size` (height, width): turned by at most ±10°, scaled and sheared by ±10 %, moved by
    ±2 pixels of 28, times strength.
    """
    height, width = size

    def within(limit: float) -> NDArray[np.float64]:
        return draw.uniform(-limit * strength, limit * strength, count)

    angle, wide, high, shear = within(math.radians(10)), 1 + within(0.1), 1 + within(0.1), within(0.1)
    a, b = np.cos(angle) * wide, shear - np.sin(angle) * wide
    d, e = np.sin(angle) * high, np.cos(angle) * high
    x, y = (width - 1) / 2, (height - 1) / 2
    c = x * (1 - a) - y * b + within(width / 14)
    f = y * (1 - e) - x * d + within(height / 14)
    nothing = np.zeros(count)
    rows: NDArray[np.float32] = np.stack([a, b, c, d, e, f, nothing, nothing], axis=1).astype(np.float32)
    return rows


def _compiled(architecture: Architecture, recipe: Recipe, train: Pictures, classes: int, seed: int) -> Any:
    tf, keras = tensorflow()
    with silenced():
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        model = architecture.build(train.shape, classes)
        model.compile(
            optimizer=keras.optimizers.Adam(_rate(keras, recipe, recipe.epochs * _steps(recipe, len(train)))),
            loss=architecture.loss,
        )
    return model


def _rate(keras: Any, recipe: Recipe, steps: int) -> Any:
    if not recipe.cosine:
        return recipe.rate
    warm_up = max(1, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=recipe.rate, warmup_steps=warm_up
    )


def _steps(recipe: Recipe, count: int) -> int:
    """In one epoch."""
    return math.ceil((recipe.pictures or count) / recipe.batch)


class _Told:
    """Turns steps into words, a share and the time that is left, at most five times a second."""

    def __init__(self, progress: Progress, recipe: Recipe, steps: int) -> None:
        self._progress, self._epochs, self._steps = progress, recipe.epochs, steps
        self._first = self._last = (
            0.0  # when the first step was done (it compiles, so it tells nothing), and told
        )

    def callback(self, epoch: int) -> Any:
        _, keras = tensorflow()
        return keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda step, logs: self._step(epoch, step + 1)
        )

    def _step(self, epoch: int, step: int) -> None:
        now = time.monotonic()
        self._first = self._first or now
        if now - self._last < PROGRESS_EVERY_S and step < self._steps:
            return
        self._last = now
        done, total = (epoch - 1) * self._steps + step, self._epochs * self._steps
        left = f", {(now - self._first) * (total - done) / (done - 1):.0f} s left" if done > 1 else ""
        self._progress(f"epoch {epoch} of {self._epochs}, {step / self._steps:.0%}{left}", done / total)
