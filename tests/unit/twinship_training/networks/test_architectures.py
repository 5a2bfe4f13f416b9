"""The networks adapt to picture size and number of classes; the SVM's loss is the hinge loss."""

from __future__ import annotations

import numpy as np
import pytest

from inference.dataset.pictures import Shape
from twinship_training.networks.architectures import ARCHITECTURES, PROFILES, hinge
from twinship_training.tf_import import tensorflow


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 48, 3), (96, 96, 3)], ids=str)
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_network_fits_its_pictures_and_classes(name: str, shape: Shape) -> None:
    """For the smallest and the largest pictures, grey and colour, the output is one share for each class."""
    model = ARCHITECTURES[name].build(shape, 5)
    shares = model(np.full((2, *shape), 0.5, np.float32)).numpy()
    assert shares.shape == (2, 5)
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 8, 1), (5, 40, 3), (97, 41, 3), (300, 200, 1)], ids=str)
def test_micro_takes_any_size(shape: Shape) -> None:
    """From one pixel to large pictures no layer gets an empty map, and the parameters stay few."""
    model = ARCHITECTURES["micro"].build(shape, 10)
    assert model(np.full((2, *shape), 0.5, np.float32)).shape == (2, 10)
    assert model.count_params() < 16_000


def test_small_stays_small() -> None:
    """Larger pictures need more time, not more parameters."""
    counts = {ARCHITECTURES["small"].build((side, side, 3), 10).count_params() for side in (28, 64, 96)}
    assert len(counts) == 1
    assert counts.pop() < 20_000


def test_the_svm_is_linear() -> None:
    """One dense layer over the pixels, with L2 regularisation."""
    model = ARCHITECTURES["svm"].build((28, 28, 1), 10)
    assert [tuple(weight.shape) for weight in model.get_weights()] == [(784, 10), (10,)]
    assert len(model.losses) == 1


def test_every_network_has_every_profile() -> None:
    """Each network has a recipe for each --profile."""
    assert all(set(each.recipes) == set(PROFILES) for each in ARCHITECTURES.values())


def test_hinge_wants_a_margin_of_one() -> None:
    """The loss is 0 with a margin of 1, else the missing margin; a common shift does not change it."""
    tf, _ = tensorflow()
    distances = np.array([[2, 1, -3], [2, 1.5, 0], [0, 3, 1], [102, 101.5, 100]], np.float32)
    found = hinge(np.array([0, 0, 2, 0]), tf.nn.softmax(distances)).numpy()
    assert found == pytest.approx([0, 0.5, 3, 0.5], abs=1e-4)


def test_hinge_has_a_gradient_where_softmax_saturates() -> None:
    """A wrong prediction with a share of nearly 1 still changes the weights."""
    tf, _ = tensorflow()
    distances = tf.constant([[-20.0, 20.0]])
    with tf.GradientTape() as tape:
        tape.watch(distances)
        loss = hinge(np.array([0]), tf.nn.softmax(distances))
    assert float(loss[0]) == pytest.approx(41, abs=0.1)
    assert tape.gradient(loss, distances).numpy()[0] == pytest.approx([-1, 1], abs=1e-3)
