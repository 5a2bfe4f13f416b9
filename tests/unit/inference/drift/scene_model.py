"""A small classifier of the drawn scene, trained in a second or two, and the measures of its frames."""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from camera_sim.sources.scene import Scene
from camera_sim.sources.settings import DIGITS, SceneDials, VideoSettings
from inference.artefact import Reference
from inference.drift.measures import of_frame
from inference.drift.reference import reference

UNDISTURBED: Final = SceneDials()
TRAINING, VALIDATION, DEVICE = 1, 2, 3  # seeds of scenes
Pixels = NDArray[np.uint8]


def pictures(count: int, seed: int, dials: SceneDials = UNDISTURBED) -> tuple[Pixels, NDArray[np.int64]]:
    """(count, 28, 28, 1) and the digits, 0 for a picture without truth."""
    scene = Scene(seed)
    scene.configure(dials, VideoSettings())
    drawn = [scene.next() for _ in range(count)]
    images = np.stack([np.asarray(each.image, np.uint8) for each in drawn])
    return images[..., np.newaxis], np.array([DIGITS.index(each.truth or "0") for each in drawn])


@cache
def weights() -> NDArray[np.float32]:
    """Of a softmax regression, (784 and a bias, 10)."""
    images, labels = pictures(2_000, TRAINING)
    inputs, wanted = _inputs(images), np.eye(10, dtype=np.float32)[labels]
    trained: NDArray[np.float32] = np.zeros((inputs.shape[1], 10), np.float32)
    momentum: NDArray[np.float32] = np.zeros_like(trained)
    for _ in range(200):
        slope = inputs.T @ (_softmax(inputs @ trained) - wanted) / len(inputs)
        momentum = (0.9 * momentum - 0.05 * slope).astype(np.float32)
        trained += momentum
    return trained


def scores(images: Pixels) -> NDArray[np.float32]:
    """The confidences, (count, 10), in steps of 1/256 as an int8 model has them."""
    found: NDArray[np.float32] = (np.round(_softmax(_inputs(images) @ weights()) * 256) / 256).astype(
        np.float32
    )
    return found


def measured(images: Pixels) -> NDArray[np.float64]:
    """What is measured of each picture."""
    return np.array([of_frame("classification", *each) for each in zip(images, scores(images), strict=True)])


def shown(count: int, dials: SceneDials) -> list[list[float]]:
    """The measures of the frames that a device sees."""
    found: list[list[float]] = measured(pictures(count, DEVICE, dials)[0]).tolist()
    return found


@cache
def validation() -> NDArray[np.float64]:
    """The measures of the validation pictures."""
    return measured(pictures(1_500, VALIDATION)[0])


@cache
def scene_reference() -> Reference:
    """The reference that a training would put into the artefact."""
    made = reference("classification", validation(), len(DIGITS))
    assert made is not None
    return made


def _inputs(images: Pixels) -> NDArray[np.float32]:
    flat = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return np.concatenate([flat, np.ones((len(flat), 1), np.float32)], axis=1)


def _softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
