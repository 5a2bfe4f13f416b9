"""MobileNetV2 with ImageNet weights: a new head learns, then the last blocks too.

The network (https://arxiv.org/abs/1801.04381) is Keras's, of width 1.0. Its batch normalisations always use
their averages and are never trained: some files have them folded into the convolutions, and the statistics of
few pictures are poor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import InputSpec
from inference.dataset.pictures import Shape, input_spec
from twinship_training import TrainingError
from twinship_training.networks.calibrate import last_dense
from twinship_training.tf_import import silenced, tensorflow

Weights = list[NDArray[np.float32]]

SIDE: Final = 96  # pixels: pictures with a shorter side are enlarged, as the features shrink them 32 times
FEATURES: Final = "features"  # the layer that holds Keras's network
FIRST_TRAINED: Final = "block_13_expand"  # the last four of 17 blocks and the last convolution learn
DROPOUT: Final = 0.3
HEAD_STEPS, HEAD_RATE = 150, 0.01
#: What Keras and h5py raise for a file of something else.
FOREIGN: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError)


class WeightsError(TrainingError):
    """There are no weights to begin with, or the file has those of another network."""


def spec(shape: Shape) -> InputSpec:
    """Pixels become -1 to 1, as in the training on ImageNet."""
    return input_spec(shape).model_copy(update={"scale": 1 / 127.5, "offset": -1.0})


def mobilenet(shape: Shape, classes: int) -> Any:
    """The network without weights; everything but the last blocks and the head is frozen."""
    _, keras = tensorflow()
    layers = keras.layers
    values = pictures = keras.Input(shape)
    if (factor := -(-SIDE // min(shape[:2]))) > 1:
        values = layers.UpSampling2D(factor, interpolation="bilinear")(values)
    if shape[2] == 1:
        values = layers.Concatenate()([values] * 3)
    features = keras_network(values.shape[1:], FEATURES)
    learns = False
    for layer in features.layers:
        learns = learns or layer.name == FIRST_TRAINED
        layer.trainable = learns and not isinstance(layer, layers.BatchNormalization)
    values = layers.GlobalAveragePooling2D()(features(values, training=False))
    return keras.Model(pictures, layers.Dense(classes, activation="softmax")(layers.Dropout(DROPOUT)(values)))


def load(path: Path) -> Weights:
    """The features' weights from a file of Keras's, with its 1,000 classes or not. Raises WeightsError."""
    for classes in (0, 1000):
        model = keras_network((SIDE, SIDE, 3), FEATURES, classes)
        # Keras passes over parts that a file lacks with a warning; these stay without a number.
        model.set_weights([np.full(weight.shape, np.nan) for weight in model.weights])
        try:
            with silenced():
                model.load_weights(path)
        except FOREIGN:
            continue
        weights: Weights = model.get_weights()[: -2 if classes else None]  # without the layer of the classes
        if all(np.isfinite(weight).all() for weight in weights):
            return weights
    raise WeightsError(
        f"{path}: not the weights of Keras's MobileNetV2 of width 1.0; use --weights with such a file "
        "(.h5 or .weights.h5), or leave it away"
    )


def begin(model: Any, weights: Weights) -> None:
    """Give the features of `mobilenet` these weights."""
    model.get_layer(FEATURES).set_weights(weights)


def fit_head(model: Any, features: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Train the last layer alone; features (count, width) of all training pictures, all in each step."""
    _, keras = tensorflow()
    head = last_dense(model)
    learner = keras.Sequential(
        [keras.Input(features.shape[1:]), keras.layers.Dense(head.units, activation="softmax")]
    )
    learner.set_weights(head.get_weights())
    learner.compile(optimizer=keras.optimizers.Adam(HEAD_RATE), loss="sparse_categorical_crossentropy")
    for _ in range(HEAD_STEPS):
        learner.train_on_batch(features, labels)
    head.set_weights(learner.get_weights())


def keras_network(shape: tuple[int, ...], name: str, classes: int = 0) -> Any:
    """MobileNetV2 of width 1.0 without weights; with a layer of classes if there are any."""
    _, keras = tensorflow()
    return keras.applications.MobileNetV2(
        input_shape=tuple(shape), include_top=bool(classes), weights=None, classes=classes or 1000, name=name
    )
