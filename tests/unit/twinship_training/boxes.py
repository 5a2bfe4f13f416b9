"""Small detection data sets for the tests: discs and squares on noise, as Pascal VOC and as COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

LABELS = ("disc", "square")
Boxes = list[tuple[str, tuple[int, int, int, int]]]


def drawn(draw: np.random.Generator, side: int = 64) -> tuple[Image.Image, Boxes]:
    """A picture with one to three objects that do not touch, one in each quarter at most."""
    picture = Image.fromarray(draw.integers(0, 60, (side, side, 3), dtype=np.uint8))
    pencil, half, boxes = ImageDraw.Draw(picture), side // 2, Boxes()
    for quarter in draw.permutation(4)[: draw.integers(1, 4)].tolist():
        size = int(draw.integers(half // 3, half - 6))
        left = quarter % 2 * half + int(draw.integers(1, half - size))
        top = quarter // 2 * half + int(draw.integers(1, half - size))
        label, box = LABELS[int(draw.integers(2))], (left, top, left + size, top + size)
        shape = pencil.ellipse if label == "disc" else pencil.rectangle
        shape(box, fill=(220, 60, 60) if label == "disc" else (60, 200, 220))
        boxes.append((label, (left, top, left + size + 1, top + size + 1)))
    return picture, boxes


def xml(boxes: Boxes, width: int = 64, height: int = 64, name: str = "a.png") -> str:
    """The annotation of a picture as Pascal VOC has it."""
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for label, (left, top, right, bottom) in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    path = f"<path>/home/somebody/{name}</path>"  # as annotation tools write it; nobody reads it
    return f"<annotation><filename>{name}</filename>{path}{size}{objects}</annotation>"


def voc(folder: Path, count: int = 30, *, lists: bool = True, seed: int = 0, more: int = 0) -> Path:
    """A folder of Pascal VOC with this number of pictures: 2/3 to learn from, 1/6 for each other part.

    `more` pictures are for the validation besides.
    """
    draw = np.random.default_rng(seed)
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    names = [f"{number:03}" for number in range(count + more)]
    for name in names:
        picture, boxes = drawn(draw)
        picture.save(folder / "JPEGImages" / f"{name}.png")
        (folder / "Annotations" / f"{name}.xml").write_text(xml(boxes, name=f"{name}.png"))
    ends = {"train": names[: 2 * count // 3], "val": names[2 * count // 3 : 5 * count // 6] + names[count:]}
    for part, listed in {**ends, "test": names[5 * count // 6 : count]}.items() if lists else ():
        (folder / "ImageSets/Main" / f"{part}.txt").write_text("".join(f"{name}\n" for name in listed))
    return folder


def coco(folder: Path, count: int = 30) -> tuple[Path, dict[str, Any]]:
    """A COCO file with its pictures beside it, and the document in it."""
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 7 * number, "name": label} for number, label in enumerate(LABELS)],
    }
    for number in range(count):
        picture, boxes = drawn(draw)
        picture.save(folder / f"{number:03}.png")
        document["images"].append({"id": number, "file_name": f"{number:03}.png", "width": 64, "height": 64})
        document["annotations"] += [
            {
                "id": len(document["annotations"]) + place,
                "image_id": number,
                "category_id": 7 * LABELS.index(label),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
            for place, (label, (left, top, right, bottom)) in enumerate(boxes)
        ]
    return write_coco(folder, document), document


def write_coco(folder: Path, document: dict[str, Any]) -> Path:
    """The document as a file."""
    (folder / "boxes.json").write_text(json.dumps(document))
    return folder / "boxes.json"
