"""Temperature scaling: confidences that agree with the accuracy.

One number T divides the logits: Guo et al., https://arxiv.org/abs/1706.04599, section 4.2. `fit` finds it
with the validation pictures and folds it into the last dense layer, so every conversion and every runtime has
it. The order of the classes stays, and so does the accuracy.

>>> logits = np.array([[2.0, 0.0]] * 4, np.float32)
>>> round(temperature(logits, np.array([0, 0, 0, 1])), 2)  # 88 % sure and 75 % right: T is above 1
2.36
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinship_training.tf_import import tensorflow

LIMIT: Final = 100.0  # of T, and of 1 / T
HALVINGS: Final = 60


def temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The T with the least negative log-likelihood of these labels; logits (count, classes).

    One more picture whose class is unknown counts too (Laplace's rule of succession): without it T is 0 if
    the network predicts every picture right.
    """
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    count = len(values)
    wanted = (count * values[np.arange(count), labels] + values.mean(axis=1)).mean() / (count + 1)
    low, high = -np.log(LIMIT), np.log(LIMIT)
    for _ in range(HALVINGS):  # the loss is convex in 1 / T, so its slope has one zero
        middle = (low + high) / 2
        slope = (softmax(values * np.exp(middle)) * values).sum(axis=1).mean() - wanted
        low, high = (middle, high) if slope < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Shares that sum to 1, (count, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def last_dense(model: Any) -> Any:
    """The layer whose output are the logits; only softmax follows it."""
    _, keras = tensorflow()
    return next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense))


def fold(model: Any, divisor: float) -> None:
    """Divide the model's logits by the temperature."""
    head = last_dense(model)
    head.set_weights([weight / np.float32(divisor) for weight in head.get_weights()])
