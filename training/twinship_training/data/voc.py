"""Pascal VOC: Annotations/NAME.xml, JPEGImages/NAME.jpg, ImageSets/Main/train.txt, val.txt and test.txt.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. A document type or an entity in the
XML ends the reading: defusedxml refuses both. A picture is looked for in JPEGImages only.

>>> sides = b"<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
>>> cat = b"<object><name>cat</name><bndbox>" + sides + b"</bndbox></object>"
>>> parse(b"<annotation>" + cat + b"</annotation>", "a.jpg").boxes
(Box(label='cat', left=1.0, top=2.0, right=3.0, bottom=4.0),)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import ParseError

from inference.dataset.folders import SUFFIXES, TEST, TRAIN, VALIDATION
from inference.dataset.pictures import DataError
from twinship_training.data.annotations import Annotation, BadAnnotation, Box, Listed, box, inner_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ANNOTATIONS, PICTURES, SETS = "Annotations", "JPEGImages", "ImageSets/Main"
MAX_XML_BYTES: Final = 1_000_000
MAX_LIST_BYTES: Final = 50_000_000
SIDES: Final = ("xmin", "ymin", "xmax", "ymax")


def read(path: Path) -> Listed:
    """The pictures and annotations below a folder, no picture is read. Raises DataError."""
    for name in (ANNOTATIONS, PICTURES):
        if not (path / name).is_dir():
            raise DataError(f"{path}: no folder {name} in it; want {ANNOTATIONS}/, {PICTURES}/ and {SETS}/")
    listed = Listed("voc", path, {})
    for part, stems in _parts(path).items():
        listed.parts[part] = [found for stem in stems if (found := _annotated(listed, stem))]
    return listed


def parse(data: bytes, picture: str) -> Annotation:
    """One XML file. Raises BadAnnotation, and DataError for a document type or an entity."""
    from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
    from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

    try:
        root = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError("a document type or an entity is in it, which is not allowed: remove it") from error
    except (ParseError, ValueError, LookupError) as error:
        raise BadAnnotation(f"not XML: {error}") from error
    if root.tag != "annotation":
        raise BadAnnotation(f"<{root.tag[:40]}> is not <annotation>")
    named = root.findtext("filename") or ""
    if inner_name(named) and "/" in named:
        raise BadAnnotation(f"{named[:80]!r} is not a name in {PICTURES}")
    return Annotation(picture, _size(root), tuple(_box(each) for each in root.findall("object")))


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
            data = opened.read(MAX_XML_BYTES + 1)
        if len(data) > MAX_XML_BYTES:
            raise BadAnnotation(f"more than {MAX_XML_BYTES:,} bytes")
        return picture, parse(data, picture.name)
    except DataError as error:
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


def _size(root: Element) -> tuple[int, int] | None:
    """(height, width); None where the tools wrote none, or zeros."""
    numbers = [_number(root.find("size"), name, "0") for name in ("height", "width")]
    return (int(numbers[0]), int(numbers[1])) if all(numbers) else None


def _box(element: Element) -> Box:
    sides = [_number(element.find("bndbox"), name) for name in SIDES]
    return box((element.findtext("name") or "").strip(), sides)


def _number(element: Element | None, name: str, default: str = "") -> float:
    text = default if element is None else element.findtext(name, default)
    try:
        return float(text)
    except ValueError as error:
        raise BadAnnotation(f"<{name}> is {text[:40]!r}, not a number") from error
