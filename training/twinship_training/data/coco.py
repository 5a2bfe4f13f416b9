"""COCO's JSON: images, annotations and categories, https://cocodataset.org/#format-data.

The pictures lie beside the file, or in the folder `images` there. A file over MAX_JSON_BYTES is refused
before it is read, because parsed JSON takes about ten times its size in memory.

>>> image, category = {"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}, {"id": 3, "name": "cat"}
>>> one = {"image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40]}
>>> found, _ = parse({"images": [image], "annotations": [one], "categories": [category]})
>>> found[0].boxes
(Box(label='cat', left=10.0, top=20.0, right=40.0, bottom=60.0),)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edgekit.frame.boxes import Annotation, BadAnnotation, Box, box, inner_name
from inference.dataset.pictures import DataError
from twinship_training.data.annotations import Listed

MAX_JSON_BYTES: Final = 200_000_000
IMAGES: Final = "images"
WANTED: Final = "want COCO's JSON with images, annotations and categories"


def read(path: Path) -> Listed:
    """The pictures and annotations of a file, no picture is read. Raises DataError."""
    try:
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            limit = f"at most {MAX_JSON_BYTES:,} are read: split the file"
            raise DataError(f"{path}: {size:,} bytes, {limit}")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; {WANTED}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {str(error)[:80]}; {WANTED}") from error
    try:
        annotations, crowds = parse(document)
    except BadAnnotation as error:
        raise DataError(f"{path}: {error}; {WANTED}") from error
    listed = Listed("coco", path.parent, {"": []})
    listed.faults.crowds = crowds
    for each in annotations:
        if (file := _picture(path.parent, each.picture)) is None:
            listed.unreadable.append(f"{each.picture}: there is no such picture beside {path.name}")
        else:
            listed.parts[""].append((file, each))
    return listed


def parse(document: Any) -> tuple[list[Annotation], int]:
    """The annotations of every image, and the number of crowds. Raises BadAnnotation."""
    try:
        names = {each["id"]: each["name"] for each in document["categories"]}
        images = {each["id"]: each for each in document["images"]}
        boxes: dict[Any, list[Box]] = {identity: [] for identity in images}
        crowds = [bool(each.get("iscrowd")) for each in document["annotations"]]
        for each, crowd in zip(document["annotations"], crowds, strict=True):
            if not crowd:
                _known(images, "image", each["image_id"])
                boxes[each["image_id"]].append(_box(each, names))
    except BadAnnotation:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadAnnotation(f"{type(error).__name__} {str(error)[:80]}") from error
    if len(images) != len(document["images"]) or len(set(names.values())) != len(document["categories"]):
        raise BadAnnotation("an id of an image or a name of a category occurs twice")
    return [_annotation(each, tuple(boxes[identity])) for identity, each in images.items()], sum(crowds)


def _box(annotation: Mapping[str, Any], names: Mapping[Any, Any]) -> Box:
    _known(names, "category", annotation["category_id"])
    left, top, width, height = (float(side) for side in annotation["bbox"])
    return box(names[annotation["category_id"]], (left, top, left + width, top + height))


def _known(declared: Mapping[Any, Any], what: str, identity: Any) -> None:
    if identity not in declared:
        raise BadAnnotation(f"an annotation has the {what} {str(identity)[:40]}, which is not declared")


def _annotation(image: Mapping[str, Any], boxes: tuple[Box, ...]) -> Annotation:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise BadAnnotation(f"image {str(image['id'])[:40]} has no file_name")
    size = image.get("height"), image.get("width")
    declared = (size[0], size[1]) if all(isinstance(side, int) and side > 0 for side in size) else None
    return Annotation(inner_name(name), declared, boxes)  # type: ignore[arg-type]


def _picture(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder / IMAGES / name)
    return next((place for place in places if place.is_file()), None)
