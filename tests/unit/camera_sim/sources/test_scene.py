"""The drawn scene: repeatable, labelled, and disturbed by its dials."""

import pytest

from camera_sim.sources.picture import Picture
from camera_sim.sources.scene import Scene
from camera_sim.sources.settings import SceneDials, VideoSettings


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
