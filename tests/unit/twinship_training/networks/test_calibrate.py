"""The temperature makes confidences agree with the accuracy, and changes no prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from twinship_training.networks import calibrate
from twinship_training.networks.architectures import ARCHITECTURES
from twinship_training.networks.calibrate import LIMIT, softmax, temperature
from twinship_training.report.calibration import calibration, expected_error, perfect_p95, scaling
from twinship_training.tf_import import tensorflow

CLASSES = 6


def drawn(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits, and labels drawn by their softmax: perfectly calibrated."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (count, CLASSES)).astype(np.float32)
    labels = [random.choice(CLASSES, p=shares) for shares in softmax(logits.astype(np.float64))]
    return logits, np.array(labels)


def overconfident(factor: float) -> Any:
    """A Keras model whose logits are its inputs times `factor`."""
    _, keras = tensorflow()
    model = keras.Sequential([keras.Input((CLASSES,)), keras.layers.Dense(CLASSES, activation="softmax")])
    model.set_weights([factor * np.eye(CLASSES), np.zeros(CLASSES)])
    return model


def error(model: Any, values: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy and expected calibration error."""
    shares = model(values).numpy()
    right = shares.argmax(axis=1) == labels
    return float(right.mean()), expected_error(shares.max(axis=1), right)


def test_an_overconfident_model_is_calibrated_and_predicts_the_same() -> None:
    """With the temperature of other pictures the error falls to what chance shows, the accuracy stays."""
    (seen, truth), (values, labels) = drawn(2_000, 1), drawn(2_000, 2)
    model = overconfident(5)
    accuracy, before = error(model, values, labels)
    found = temperature(5 * seen, truth)
    assert found == pytest.approx(5, rel=0.1)
    calibrate.fold(model, found)
    same, after = error(model, values, labels)
    assert before > 0.15
    assert after <= perfect_p95(model(values).numpy().max(axis=1)) < before / 3
    assert same == accuracy


def test_a_temperature_the_other_way_makes_it_worse() -> None:
    """The counter-proof: the inverse of the temperature raises the error."""
    values, labels = drawn(2_000, 2)
    model = overconfident(2)
    _, before = error(model, values, labels)
    calibrate.fold(model, 1 / temperature(2 * values, labels))
    assert error(model, values, labels)[1] > before + 0.02


def test_a_calibrated_model_stays_as_it_is() -> None:
    """Its temperature is nearly 1."""
    assert temperature(*drawn(4_000, 3)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("margin", [1.0, 20.0])
def test_a_network_that_makes_no_mistake_is_not_sure_of_everything(margin: float) -> None:
    """With 100 of 100 pictures right the confidence is 100 of 101."""
    labels = np.arange(100) % CLASSES
    logits = (margin * np.eye(CLASSES)[labels]).astype(np.float32)
    found = temperature(logits, labels)
    assert softmax(logits / found).max(axis=1) == pytest.approx(1 - 5 / 6 / 101, abs=1e-4)


def test_a_network_that_knows_nothing_has_the_highest_temperature() -> None:
    """Confident predictions that are right no more often than chance become even shares."""
    labels = np.arange(600) % CLASSES
    logits = np.tile(np.array([9.0, 0, 0, 0, 0, 0], np.float32), (600, 1))
    assert temperature(logits, labels) == pytest.approx(LIMIT)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_network_has_a_last_layer_that_can_be_divided(name: str) -> None:
    """After the division by 2 the shares are the softmax of half the logits."""
    model = ARCHITECTURES[name].build((32, 32, 3), 4)
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    before = model(images).numpy().astype(np.float64)
    calibrate.fold(model, 2.0)
    assert model(images).numpy() == pytest.approx(softmax(np.log(before) / 2), abs=1e-5)


def test_the_report_has_the_error_before_and_after() -> None:
    """From the logits of a calibrated model: with the temperature taken out again, and as it is."""
    logits, labels = drawn(2_000, 4)
    found = scaling(logits, labels, 5.0)
    assert found["temperature"] == 5
    assert found["float_error_before"] > 5 * found["float_error_after"]
    other = scaling(logits, labels, 1.0)  # the counter-proof: without a temperature nothing changes
    assert other["float_error_before"] == other["float_error_after"] == found["float_error_after"]


def test_a_perfect_model_shows_an_error_too() -> None:
    """95 of 100 perfectly calibrated models are within the figure of the report; fewer pictures show more."""
    confidence = np.random.default_rng(5).uniform(0.3, 1, 300).astype(np.float32)
    limit = perfect_p95(confidence)
    random = np.random.default_rng(6)
    errors = [expected_error(confidence, random.random(300) < confidence) for _ in range(400)]
    assert 0.92 <= np.mean(np.array(errors) <= limit) <= 0.98
    assert perfect_p95(confidence[:50]) > 1.5 * limit
    assert (
        calibration(confidence, random.random(300) < 0.3).expected_error > limit
    )  # and an overconfident one
