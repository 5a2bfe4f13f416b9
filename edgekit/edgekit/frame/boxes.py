"""Labelled boxes of a picture: from annotations, and as the text that is the truth of a frame.

The text is JSON, in the form of the detections of `twinship.detection.v1`: each box is left, top, width and
height in shares of the picture.

>>> found = Annotation("a.jpg", None, (Box("cat", 10, 0, 30, 20), Box("cat", 90, 50, 120, 80)))
>>> counts = Faults()
>>> boxes = checked(found, (100, 100), counts)
>>> boxes
(Box(label='cat', left=0.1, top=0.0, right=0.3, bottom=0.2), Box(label='cat', left=0.9, top=0.5, right=1.0, bottom=0.8))
>>> counts.cut
1
>>> to_text(boxes[:1])
'[{"label":"cat","box":{"l":0.1,"t":0.0,"w":0.2,"h":0.2}}]'
>>> from_text(to_text(boxes)) == boxes, from_text("cat")
(True, None)
"""  # noqa: E501

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final

MAX_LABEL_CHARACTERS: Final = 128
MAX_BOXES: Final = 300  # of one picture: a model's message has no more
DIGITS: Final = 5  # of a share: a hundredth of a pixel in 1,000


class BadAnnotation(ValueError):
    """The annotation of one picture cannot be used; the message is one line."""


@dataclass(frozen=True)
class Box:
    """A labelled box: pixels in an annotation, shares of the picture after `checked`."""

    label: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Annotation:
    """The boxes of one picture. `size`: the (height, width) that the file declares, None if it does not."""

    picture: str
    size: tuple[int, int] | None
    boxes: tuple[Box, ...]


@dataclass
class Faults:
    """How many boxes were wrong."""

    cut: int = 0  # partly outside the picture, and cut to it
    outside: int = 0  # outside the picture, and dropped
    inside_out: int = 0  # without width or height, and dropped
    repeated: int = 0  # twice in one picture, and dropped once
    crowds: int = 0  # COCO's iscrowd: a region, not an object; dropped


def checked(annotation: Annotation, size: tuple[int, int], faults: Faults) -> tuple[Box, ...]:
    """The boxes in shares of a picture of `size` (height, width). Raises BadAnnotation."""
    height, width = size
    if annotation.size not in (None, size):
        declared = f"{annotation.size[1]}x{annotation.size[0]}"
        raise BadAnnotation(f"the annotation is of {declared} pixels, the picture has {width}x{height}")
    if len(annotation.boxes) > MAX_BOXES:
        raise BadAnnotation(f"{len(annotation.boxes)} boxes, at most {MAX_BOXES}")
    kept: dict[Box, None] = {}
    for box in annotation.boxes:
        sides = box.left / width, box.top / height, box.right / width, box.bottom / height
        left, top, right, bottom = (min(1.0, max(0.0, side)) for side in sides)
        if box.right <= box.left or box.bottom <= box.top:
            faults.inside_out += 1
        elif right <= left or bottom <= top:
            faults.outside += 1
        else:
            inside = Box(box.label, left, top, right, bottom)
            faults.cut += (left, top, right, bottom) != sides
            faults.repeated += inside in kept
            kept[inside] = None
    return tuple(kept)


def box(label: object, sides: Sequence[float]) -> Box:
    """A box from left, top, right, bottom in pixels. Raises BadAnnotation."""
    if not isinstance(label, str) or not label.isprintable() or not 1 <= len(label) <= MAX_LABEL_CHARACTERS:
        raise BadAnnotation(f"{str(label)[:40]!r} cannot be a label: 1 to {MAX_LABEL_CHARACTERS} characters")
    if not all(math.isfinite(side) for side in sides):
        raise BadAnnotation("a side of a box is not a finite number")
    return Box(label, *sides)


def inner_name(name: str) -> str:
    """The name of a file inside the data set. Raises BadAnnotation for a path that may lead out of it."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not name.isprintable() or posix.is_absolute() or windows.drive or "\\" in name or ".." in posix.parts:
        raise BadAnnotation(f"{name[:80]!r} is not a name inside the data set")
    return name


def to_text(boxes: Iterable[Box]) -> str:
    """The truth of a frame; "[]" says that the picture shows no object."""
    found = [
        {
            "label": each.label,
            "box": {
                "l": round(each.left, DIGITS),
                "t": round(each.top, DIGITS),
                "w": round(each.right - each.left, DIGITS),
                "h": round(each.bottom - each.top, DIGITS),
            },
        }
        for each in boxes
    ]
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def from_text(truth: str) -> tuple[Box, ...] | None:
    """The boxes of a frame's truth; None if it has none, because it is the label of a whole picture."""
    if not truth.startswith("["):
        return None
    try:
        return tuple(_from_json(each["label"], each["box"]) for each in json.loads(truth))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _from_json(label: object, sides: dict[str, float]) -> Box:
    left, top, width, height = (float(sides[name]) for name in "ltwh")
    return box(label, [round(each, DIGITS) for each in (left, top, left + width, top + height)])


def counted(labels: Iterable[str]) -> str:
    """How often each label occurs, for people.

    >>> counted(["car", "person", "car"])
    '2 car, 1 person'
    """
    return ", ".join(f"{count} {label}" for label, count in sorted(Counter(labels).items()))
