"""Detectors without anchors: maps of centres, their offsets and the sizes of boxes, a quarter of the side.

After CenterNet (https://arxiv.org/abs/1904.07850), with the elliptic spots of TTFNet
(https://arxiv.org/abs/1909.00700). `inference.heads` decodes the maps. A network in training answers one map,
(heat of each class, offset, size); `parted` gives the model to convert, with three outputs, so that each has
a scale of its own as int8. All convolutions, sums and enlargements have int8 operators.
"""

from __future__ import annotations

from typing import Any, Final

from inference.dataset.pictures import Shape
from twinship_training.networks.mobilenet import FEATURES, Weights, keras_network
from twinship_training.tf_import import tensorflow

HEAT, OFFSET, SIZE = "heat", "offset", "size"
#: MobileNetV2's layers with a quarter, an eighth and a sixteenth of the side.
TAPS: Final = ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu")
FIRST_TRAINED: Final = "block_6_expand"  # the blocks before cost most of the time and know edges already
WIDTH, SMALL_WIDTH = 64, 32  # filters of the joined maps
RARE: Final = (
    -2.19
)  # of the heat's bias: a share of 0.1, so that the many empty cells do not begin as mistakes
SPOT: Final = 0.54 / 6  # the standard deviation of a spot, as a share of the box's side
LEAST_SPOT: Final = 0.4  # cells
SIZE_WEIGHT: Final = 0.1
EDGE: Final = 1e-4  # heat is kept away from 0 and 1, whose logarithms are not finite


def centers(shape: Shape, classes: int) -> Any:
    """MobileNetV2 up to a sixteenth of the side, about 690,000 parameters; without weights."""
    _, keras = tensorflow()
    layers = keras.layers
    values = pictures = keras.Input(shape)
    if shape[2] == 1:
        values = layers.Concatenate()([values] * 3)
    network = keras_network(values.shape[1:], "whole")
    features = keras.Model(network.inputs, [network.get_layer(tap).output for tap in TAPS], name=FEATURES)
    learns = False
    for layer in features.layers:
        learns = learns or layer.name == FIRST_TRAINED
        layer.trainable = learns and not isinstance(layer, layers.BatchNormalization)
    return keras.Model(pictures, _maps(_joined(features(values, training=False), WIDTH), classes))


def small(shape: Shape, classes: int) -> Any:
    """Depthwise-separable convolutions, about 40,000 parameters: learns from nothing."""
    _, keras = tensorflow()
    layers = keras.layers
    pictures = keras.Input(shape)

    def normalised(values: Any) -> Any:
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(values))

    def block(values: Any, filters: int, stride: int) -> Any:
        depthwise = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)
        return normalised(layers.Conv2D(filters, 1, use_bias=False)(normalised(depthwise(values))))

    values = normalised(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(pictures))
    levels = []
    for filters in (32, 64, 96):
        values = block(block(values, filters, 2), filters, 1)
        levels.append(values)
    return keras.Model(pictures, _maps(_joined(levels, SMALL_WIDTH), classes))


def begin(model: Any, weights: Weights) -> None:
    """Give the features of `centers` the weights of MobileNetV2, as many as it has."""
    features = model.get_layer(FEATURES)
    features.set_weights(weights[: len(features.weights)])


def parted(model: Any) -> Any:
    """The same network with three outputs, in the order of the head `centers`."""
    _, keras = tensorflow()
    return keras.Model(model.inputs, [model.get_layer(name).output for name in (HEAT, OFFSET, SIZE)])


def joined(model: Any) -> Any:
    """A model of `parted` with one map as its output."""
    _, keras = tensorflow()
    return keras.Model(model.inputs, keras.layers.Concatenate()(model.outputs))


def loss(truth: Any, maps: Any) -> Any:
    """Of each picture, (count,): focal loss of the heat, absolute errors of offsets and sizes at the centres.

    `truth` (count, most, 5) as `Pictures` says, `maps` (count, h, w, classes + 4). All parts are divided by
    the mean number of boxes of a picture.
    """
    tf, _ = tensorflow()
    height, width, channels = maps.shape[1:]
    cells = tf.constant((width, height), tf.float32)
    present = tf.cast(truth[..., 0] >= 0, tf.float32)
    low, high = truth[..., 1:3] * cells, truth[..., 3:5] * cells
    centre, size = (low + high) / 2, high - low
    cell = tf.clip_by_value(tf.floor(centre), 0.0, cells - 1)
    spots = _spots(tf, cell, size, (height, width)) * present[..., tf.newaxis, tf.newaxis]
    wanted = _heat(tf, spots, tf.maximum(truth[..., 0], 0.0), channels - 4)
    index = tf.cast(tf.reverse(cell, axis=[-1]), tf.int32)
    found = tf.gather_nd(maps[..., channels - 4 :], index, batch_dims=1)
    offset = tf.reduce_sum(tf.abs(found[..., :2] - (centre - cell)), axis=-1) * present
    sizes = tf.reduce_sum(tf.abs(found[..., 2:] - size), axis=-1) * present
    boxes = tf.maximum(1.0, tf.reduce_mean(tf.reduce_sum(present, axis=1)))
    each = _focal(tf, wanted, maps[..., : channels - 4]) + tf.reduce_sum(offset + SIZE_WEIGHT * sizes, axis=1)
    return each / boxes


def _spots(tf: Any, cell: Any, size: Any, shape: tuple[int, int]) -> Any:
    """A spot for each box, 1 at its cell and less around it, (count, most, h, w)."""
    spread = 2 * tf.square(tf.maximum(SPOT * size, LEAST_SPOT))
    x, y = (
        tf.exp(
            -tf.square(tf.range(length, dtype=tf.float32) - cell[..., axis, tf.newaxis])
            / spread[..., axis, tf.newaxis]
        )
        for axis, length in ((0, shape[1]), (1, shape[0]))
    )
    return y[..., :, tf.newaxis] * x[..., tf.newaxis, :]


def _heat(tf: Any, spots: Any, label: Any, classes: int) -> Any:
    """The highest spot of each class in each cell, (count, h, w, classes)."""
    count, most = tf.shape(spots)[0], tf.shape(spots)[1]
    height, width = spots.shape[2:]
    rows = tf.range(count)[:, tf.newaxis] * classes + tf.cast(label, tf.int32)
    flat = tf.reshape(spots, (count * most, height, width))
    highest = tf.math.unsorted_segment_max(flat, tf.reshape(rows, [-1]), count * classes)
    by_class = tf.reshape(tf.maximum(highest, 0.0), (count, classes, height, width))
    return tf.transpose(by_class, (0, 2, 3, 1))


def _focal(tf: Any, wanted: Any, heat: Any) -> Any:
    """CenterNet's (1), summed over the cells of each picture."""
    heat = tf.clip_by_value(heat, EDGE, 1 - EDGE)
    centre = tf.cast(wanted >= 1.0, tf.float32)
    right = centre * tf.square(1 - heat) * tf.math.log(heat)
    wrong = (1 - centre) * tf.pow(1 - wanted, 4.0) * tf.square(heat) * tf.math.log(1 - heat)
    return -tf.reduce_sum(right + wrong, axis=(1, 2, 3))


def _joined(levels: Any, width: int) -> Any:
    """Maps of several sizes, the largest first, joined to the largest."""
    _, keras = tensorflow()
    layers = keras.layers
    values = layers.Conv2D(width, 1)(levels[-1])
    for level in reversed(levels[:-1]):
        enlarged = layers.UpSampling2D(2, interpolation="nearest")(values)
        values = _separable(layers.Add()([enlarged, layers.Conv2D(width, 1)(level)]), width)
    return _separable(values, width)


def _separable(values: Any, width: int) -> Any:
    _, keras = tensorflow()
    layers = keras.layers
    values = layers.DepthwiseConv2D(3, padding="same")(values)
    return layers.ReLU()(layers.Conv2D(width, 1)(values))


def _maps(values: Any, classes: int) -> Any:
    _, keras = tensorflow()
    layers = keras.layers
    rare = keras.initializers.Constant(RARE)
    heat = layers.Conv2D(classes, 1, activation="sigmoid", bias_initializer=rare, name=HEAT)(values)
    offset = layers.Conv2D(2, 1, activation="sigmoid", name=OFFSET)(values)
    return layers.Concatenate()([heat, offset, layers.Conv2D(2, 1, name=SIZE)(values)])
