"""What a picture of a folder shows: a label from `truth.csv` or its sub-folder, or boxes from Pascal VOC.

`NAME.xml` lies beside its picture, or in `Annotations` beside the folder `JPEGImages`, as in VOC itself.
"""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

from edgekit.frame.boxes import BadAnnotation, Faults, checked, to_text
from edgekit.frame.voc import ANNOTATIONS, MAX_XML_BYTES, PICTURES, ForbiddenXml, parse

logger = logging.getLogger(__name__)

TRUTH = "truth.csv"  # columns: file, label


def boxes_of(picture: Path, size: tuple[int, int]) -> str | None:
    """The boxes of a picture of `size` (width, height), as a frame's truth; None without an annotation.

    An annotation that cannot be used is logged, and counts as none.
    """
    for file in _annotations(picture):
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_XML_BYTES + 1)
            return to_text(checked(parse(data, picture.name), (size[1], size[0]), Faults()))
        except FileNotFoundError:
            continue
        except (OSError, BadAnnotation, ForbiddenXml) as error:
            logger.warning("annotation %s: the picture has no boxes: %s", file, error)
            return None
    return None


def _annotations(picture: Path) -> Iterator[Path]:
    yield picture.with_suffix(".xml")
    if picture.parent.name == PICTURES:
        yield picture.parent.with_name(ANNOTATIONS) / f"{picture.stem}.xml"


def labels_of(folder: Path, names: list[str]) -> dict[str, str]:
    """The label of each picture, by name: from `truth.csv`; without that file the name of its sub-folder."""
    if (folder / TRUTH).is_file():
        return _read_truths(folder / TRUTH)
    return {name: name.split("/", 1)[0] for name in names if "/" in name}


def _read_truths(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"file", "label"} <= set(rows.fieldnames or ()):
                raise ValueError(f"the first line is {rows.fieldnames}")
            return {row["file"]: row["label"] for row in rows}
    except (OSError, ValueError, csv.Error) as error:
        logger.warning("%s: pictures have no truth: %s; cure: a header `file,label`", path, error)
        return {}
