"""What a file of annotations says about one picture: labelled boxes in pixels. Pure rules, no file.

`checked` brings the boxes of a picture to shares of it and counts what was wrong with them.

>>> found = Annotation("a.jpg", None, (Box("cat", 10, 0, 30, 20), Box("cat", 90, 50, 120, 80)))
>>> counts = Faults()
>>> checked(found, (100, 100), counts)
(Box(label='cat', left=0.1, top=0.0, right=0.3, bottom=0.2), Box(label='cat', left=0.9, top=0.5, right=1.0, bottom=0.8))
>>> counts.cut
1
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from inference.artefact import MAX_DETECTIONS, MAX_LABEL_CHARACTERS

MAX_BOXES: Final = MAX_DETECTIONS  # of one picture: a model cannot answer more


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


@dataclass(frozen=True)
class Listed:
    """A data set before its pictures are read: part → picture file and annotation, "" if it has no parts."""

    name: str
    root: Path
    parts: dict[str, list[tuple[Path, Annotation]]]
    unreadable: list[str] = field(default_factory=list)  # name and reason
    faults: Faults = field(default_factory=Faults)


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
