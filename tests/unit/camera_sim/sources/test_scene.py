"""The drawn scene: repeatable, labelled, and disturbed by its dials."""

from itertools import pairwise
from typing import Any

import pytest

from camera_sim.sources.picture import Picture
from camera_sim.sources.scene import Scene
from camera_sim.sources.settings import SceneDials, VideoSettings
from edgekit.frame.boxes import from_text


def test_the_scene_repeats_with_its_seed() -> None:
    """Two scenes with one seed draw the same digits; truth names the digit; another seed draws others."""
    first, second = Scene(), Scene()
    pictures = [first.next() for _ in range(50)]
    assert [picture.image.tobytes() for picture in pictures] == [
        second.next().image.tobytes() for _ in range(50)
    ]
    assert {picture.truth for picture in pictures} == set("0123456789")
    assert {picture.image.size for picture in pictures} == {(28, 28)}
    assert all(max(picture.image.tobytes()) > 200 for picture in pictures)
    assert Scene(seed=8).next().image.tobytes() != pictures[0].image.tobytes()


def shown(count: int = 60, **dials: Any) -> list[Picture]:
    """The first pictures with these dials."""
    scene = Scene(dials=SceneDials.model_validate(dials))
    return [scene.next() for _ in range(count)]


def mean(picture: Picture) -> float:
    """The mean grey value."""
    data = picture.image.tobytes()
    return sum(data) / len(data)


PLAIN = shown()


def pixels(pictures: list[Picture]) -> list[bytes]:
    """Their pixels."""
    return [picture.image.tobytes() for picture in pictures]


@pytest.mark.parametrize(
    "dials",
    [
        {"noise": 40}, {"blur": 1.5}, {"rotation": 40}, {"brightness": 30}, {"brightnessDrift": 900},
        {"freeze": 0.5}, {"black": 0.5},
    ],
)  # fmt: skip
def test_each_dial_changes_the_picture_and_repeats_with_the_seed(dials: dict[str, Any]) -> None:
    """What the pictures show stays the same, so two runs differ by the dial alone."""
    first, second = shown(**dials), shown(**dials)
    assert pixels(first) == pixels(second)
    assert pixels(first) != pixels(PLAIN)
    if not {"freeze", "black"} & dials.keys():
        assert [each.truth for each in first] == [each.truth for each in PLAIN]


def test_brightness_drifts_from_the_picture_at_which_the_dial_was_turned() -> None:
    """The sequence goes on where it was."""
    scene = Scene()
    before = [scene.next() for _ in range(20)]
    scene.configure(SceneDials(brightness_drift=1_000), VideoSettings())
    after = [scene.next() for _ in range(30)]
    assert pixels(before) == pixels(PLAIN[:20])
    assert after[0].image.tobytes() == PLAIN[20].image.tobytes()
    assert mean(after[29]) > mean(PLAIN[49]) + 20


def test_frozen_pictures_repeat_and_black_ones_have_no_truth() -> None:
    """In about the share that the dial says."""
    frozen = shown(200, freeze=0.5)
    repeats = sum(one.name == other.name for one, other in pairwise(frozen))
    assert 70 <= repeats <= 130
    black = shown(200, black=0.5)
    dark = [picture for picture in black if not any(picture.image.tobytes())]
    assert 70 <= len(dark) <= 130
    assert all(picture.truth is None for picture in dark)
    assert len({picture.name for picture in shown(5, freeze=1)}) == 1


def test_dropped_and_corrupt_pictures_are_marked() -> None:
    """The camera sends no frame for one, and half of the bytes for the other."""
    assert 70 <= sum(picture.dropped for picture in shown(200, dropped=0.5)) <= 130
    assert 70 <= sum(picture.damaged for picture in shown(200, corrupt=0.5)) <= 130
    assert not any(picture.dropped or picture.damaged for picture in PLAIN)


def test_the_mix_of_classes_shifts() -> None:
    """Weights by digit; a digit that is not named does not come; no weight at all means every digit."""
    labels = [picture.truth for picture in shown(300, mix={"3": 3.0, "7": 1.0})]
    assert set(labels) == {"3", "7"}
    assert 180 <= labels.count("3") <= 265
    assert {picture.truth for picture in shown(mix={"3": 0.0})} == set("0123456789")


def test_detection_has_one_to_three_digits_with_their_boxes() -> None:
    """The truth of each object is its label and its box, which holds what is drawn and nothing else."""
    counts = set()
    for picture in shown(task="detection", rotation=30):
        assert picture.truth is not None
        objects = from_text(picture.truth)
        assert objects is not None
        counts.add(len(objects))
        rest = picture.image.copy()
        for each in objects:
            assert each.label in "0123456789"
            sides = (each.left, each.top, each.right, each.bottom)
            left, top, right, bottom = (round(side * picture.image.width) for side in sides)
            corner = (left, top, right, bottom)
            assert max(picture.image.crop(corner).tobytes()) > 150
            rest.paste(0, corner)
        assert not any(rest.tobytes())
    assert counts == {1, 2, 3}
