"""The text of labelled boxes, from any sender."""

from __future__ import annotations

import json

import pytest

from edgekit.frame.boxes import from_text

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
