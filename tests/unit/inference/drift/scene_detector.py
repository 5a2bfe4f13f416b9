"""A small detector of the drawn scene with boxes, and the measures of its frames.

The scene has one digit at most in each quarter. The detector cuts out what is bright there, and the small
classifier reads it: its confidence is the score.
"""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camera_sim.sources.scene import DETECTION_SIDE, SIDE, Scene
from camera_sim.sources.settings import DIGITS, SceneDials
from inference.artefact import Reference
from inference.drift.measures import of_frame
from inference.drift.reference import reference
from tests.unit.inference.drift import scene_model
from tests.unit.inference.drift.scene_model import DEVICE, UNDISTURBED, VALIDATION, Pixels

THRESHOLD: Final = 0.3
BRIGHT: Final = 100
MARGIN: Final = 4  # around a digit in a picture of the classifier
CELL: Final = DETECTION_SIDE // 2
CORNERS: Final = [(top, left) for top in (0, CELL) for left in (0, CELL)]
NOTHING: Final = np.empty((0, 6), np.float32)

Answers = list[NDArray[np.float32]]


def pictures(count: int, seed: int, dials: SceneDials = UNDISTURBED) -> Pixels:
    """(count, 160, 160, 1)."""
    scene = Scene(seed, dials.model_copy(update={"task": "detection"}))
    drawn = [np.asarray(scene.next().image, np.uint8) for _ in range(count)]
    return np.stack(drawn)[..., np.newaxis]


def answers(images: Pixels) -> Answers:
    """For each picture (count, 6): label, score and box, the highest score first."""
    return [_answer(image[..., 0]) for image in images]


def measured(images: Pixels, found: Answers) -> NDArray[np.float64]:
    """What is measured of each picture and its answer."""
    return np.array([of_frame("detection", *each) for each in zip(images, found, strict=True)])


def shown(count: int, dials: SceneDials) -> list[list[float]]:
    """The measures of the frames that a device sees."""
    images = pictures(count, DEVICE, dials)
    found: list[list[float]] = measured(images, answers(images)).tolist()
    return found


@cache
def validation() -> NDArray[np.float64]:
    """The measures of the validation pictures."""
    images = pictures(1_000, VALIDATION)
    return measured(images, answers(images))


@cache
def scene_reference() -> Reference:
    """The reference that a training would put into the artefact."""
    made = reference("detection", validation(), len(DIGITS))
    assert made is not None
    return made


def _answer(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    boxes = [box for top, left in CORNERS if (box := _box(grey, top, left)) is not None]
    if not boxes:
        return NOTHING
    digits = np.stack([_digit(grey, box) for box in boxes])
    confidences = scene_model.scores(digits[..., np.newaxis])
    rows = np.column_stack([confidences.argmax(axis=1), confidences.max(axis=1), np.array(boxes)])
    rows = rows[rows[:, 1] >= THRESHOLD].astype(np.float32)
    rows[:, 2:] /= DETECTION_SIDE
    return rows[np.argsort(-rows[:, 1], kind="stable")]


def _box(grey: NDArray[np.uint8], top: int, left: int) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of what is bright in a quarter."""
    rows, columns = np.nonzero(grey[top : top + CELL, left : left + CELL] > BRIGHT)
    if not len(rows):
        return None
    first, last = (int(columns.min()), int(rows.min())), (int(columns.max()), int(rows.max()))
    return left + first[0], top + first[1], left + last[0] + 1, top + last[1] + 1


def _digit(grey: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """What is in the box as a picture of the classifier, in its middle."""
    room = SIDE - 2 * MARGIN
    cut = Image.fromarray(grey).crop(box)
    cut.thumbnail((room, room))  # only makes it smaller
    picture = Image.new("L", (SIDE, SIDE))
    picture.paste(cut, ((SIDE - cut.width) // 2, (SIDE - cut.height) // 2))
    return np.asarray(picture, np.uint8)
