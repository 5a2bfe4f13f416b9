"""The text of labelled boxes, from any sender."""

from __future__ import annotations

import json

import pytest

from edgekit.frame.boxes import MAX_BOXES, Annotation, BadAnnotation, Box, Faults, checked, counted, from_text

SIDES = {"l": 0.1, "t": 0.1, "w": 0.2, "h": 0.2}


@pytest.mark.parametrize(
    "entry",
    [
        {"label": "cat"},
        {"label": "cat", "box": [0.1, 0.1, 0.2, 0.2]},
        {"label": "cat", "box": SIDES | {"l": "x"}},
        {"label": "cat", "box": SIDES | {"l": 10**400}},
        {"label": "cat", "box": SIDES | {"l": float("inf")}},
        {"label": "a\nb", "box": SIDES},
        {"label": 7, "box": SIDES},
        7,
    ],
)
def test_a_text_that_is_no_list_of_boxes_is_a_label(entry: object) -> None:
    """It raises nothing, whatever the numbers are; the same list without the entry has boxes."""
    good = {"label": "cat", "box": SIDES}
    assert from_text(json.dumps([good, entry])) is None
    assert from_text(json.dumps([good])) is not None
    assert from_text("[" * 100_000) is None


def test_boxes_that_are_wrong_are_counted_and_dropped() -> None:
    """A box without area, outside the picture, or twice in it; one that is partly outside is cut."""
    cat = Box("cat", 10, 10, 20, 20)
    found = (cat, cat, Box("cat", 20, 10, 10, 20), Box("cat", 110, 0, 120, 10), Box("cat", 90, 0, 120, 10))
    faults = Faults()
    kept = checked(Annotation("a.jpg", (100, 100), found), (100, 100), faults)
    assert kept == (Box("cat", 0.1, 0.1, 0.2, 0.2), Box("cat", 0.9, 0.0, 1.0, 0.1))
    assert faults == Faults(cut=1, outside=1, inside_out=1, repeated=1)


def test_an_annotation_of_another_picture_is_refused() -> None:
    """Its declared size is not the picture's, or it has more boxes than a message may have."""
    with pytest.raises(BadAnnotation, match="is of 40x30 pixels, the picture has 100x100"):
        checked(Annotation("a.jpg", (30, 40), ()), (100, 100), Faults())
    boxes = tuple(Box("cat", number, 0, number + 1, 1) for number in range(MAX_BOXES + 1))
    with pytest.raises(BadAnnotation, match="301 boxes, at most 300"):
        checked(Annotation("a.jpg", None, boxes), (400, 400), Faults())


def test_labels_are_counted_in_the_order_of_their_names() -> None:
    """The text is for people."""
    assert counted(["car", "person", "car"]) == "2 car, 1 person"
