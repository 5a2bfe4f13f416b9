"""Pascal VOC: Annotations/NAME.xml, JPEGImages/NAME.jpg, ImageSets/Main/train.txt, val.txt and test.txt.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. A document type or an entity in the
XML ends the reading. A picture is looked for in JPEGImages only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgekit.frame.boxes import Annotation, BadAnnotation, inner_name
from edgekit.frame.voc import ANNOTATIONS, MAX_XML_BYTES, PICTURES, ForbiddenXml, parse
from inference.dataset.folders import TEST, TRAIN, VALIDATION
from inference.dataset.pictures import DataError
from inference.predict import SUFFIXES
from twinship_training.data.annotations import Listed

SETS: Final = "ImageSets/Main"
MAX_LIST_BYTES: Final = 50_000_000


def read(path: Path) -> Listed:
    """The pictures and annotations below a folder, no picture is read. Raises DataError."""
    for name in (ANNOTATIONS, PICTURES):
        if not (path / name).is_dir():
            raise DataError(f"{path}: no folder {name} in it; want {ANNOTATIONS}/, {PICTURES}/ and {SETS}/")
    listed = Listed("voc", path, {})
    for part, stems in _parts(path).items():
        listed.parts[part] = [found for stem in stems if (found := _annotated(listed, stem))]
    return listed


def _parts(path: Path) -> dict[str, list[str]]:
    """Part → names without suffix. Without lists: "" → every annotation."""
    lists = {name: path / SETS / f"{name}.txt" for name in (TRAIN, VALIDATION, TEST, "trainval")}
    found = {name: _names(file) for name, file in lists.items() if file.is_file()}
    both = found.pop("trainval", [])
    if TRAIN not in found and both:
        found = {TRAIN: both} | {name: stems for name, stems in found.items() if name == TEST}
    if TRAIN not in found:
        return {"": sorted(each.stem for each in (path / ANNOTATIONS).glob("*.xml"))}
    return found


def _names(file: Path) -> list[str]:
    if file.stat().st_size > MAX_LIST_BYTES:
        raise DataError(f"{file}: more than {MAX_LIST_BYTES:,} bytes, so it is no list of names")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    for name in names:
        try:
            inner_name(name)
        except BadAnnotation as error:
            raise DataError(f"{file}: {error}; want one name without suffix on each line") from error
    return names


def _annotated(listed: Listed, stem: str) -> tuple[Path, Annotation] | None:
    """The picture and the annotation with this name; None if they are not usable, which is noted."""
    file = listed.root / ANNOTATIONS / f"{stem}.xml"
    try:
        picture = _picture(listed.root / PICTURES, stem)
        with file.open("rb") as opened:
            return picture, parse(opened.read(MAX_XML_BYTES + 1), picture.name)
    except ForbiddenXml as error:
        raise DataError(f"{file}: {error}") from error
    except FileNotFoundError:
        listed.unreadable.append(f"{stem}: there is no {ANNOTATIONS}/{stem}.xml")
    except (OSError, BadAnnotation) as error:
        listed.unreadable.append(f"{ANNOTATIONS}/{stem}.xml: {error}")
    return None


def _picture(folder: Path, stem: str) -> Path:
    for suffix in sorted(SUFFIXES):
        for name in (f"{stem}{suffix}", f"{stem}{suffix.upper()}"):
            if (folder / name).is_file():
                return folder / name
    raise BadAnnotation(f"there is no picture {stem} in {folder.name}")
