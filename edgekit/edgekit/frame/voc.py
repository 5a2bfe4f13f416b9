"""One XML file of Pascal VOC: the boxes of one picture.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. defusedxml refuses a document type and
an entity. Its package belongs to those that read annotations: `camera_sim` and `twinship_training`.

>>> sides = b"<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
>>> cat = b"<object><name>cat</name><bndbox>" + sides + b"</bndbox></object>"
>>> parse(b"<annotation>" + cat + b"</annotation>", "a.jpg").boxes
(Box(label='cat', left=1.0, top=2.0, right=3.0, bottom=4.0),)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import ParseError

from edgekit.frame.boxes import Annotation, BadAnnotation, Box, box, inner_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ANNOTATIONS, PICTURES = "Annotations", "JPEGImages"
MAX_XML_BYTES: Final = 1_000_000
SIDES: Final = ("xmin", "ymin", "xmax", "ymax")


class ForbiddenXml(ValueError):
    """A document type or an entity is in the file."""


def parse(data: bytes, picture: str) -> Annotation:
    """The annotation in one XML file of at most MAX_XML_BYTES. Raises BadAnnotation, ForbiddenXml."""
    from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
    from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

    if len(data) > MAX_XML_BYTES:
        raise BadAnnotation(f"more than {MAX_XML_BYTES:,} bytes")
    try:
        root = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise ForbiddenXml(
            "a document type or an entity is in it, which is not allowed: remove it"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise BadAnnotation(f"not XML: {error}") from error
    if root.tag != "annotation":
        raise BadAnnotation(f"<{root.tag[:40]}> is not <annotation>")
    named = root.findtext("filename") or ""
    if inner_name(named) and "/" in named:
        raise BadAnnotation(f"{named[:80]!r} is not a name in {PICTURES}")
    return Annotation(picture, _size(root), tuple(_box(each) for each in root.findall("object")))


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
        number = float(text)
    except ValueError as error:
        raise BadAnnotation(f"<{name}> is {text[:40]!r}, not a number") from error
    if not math.isfinite(number):
        raise BadAnnotation(f"<{name}> is {text[:40]!r}, not a finite number")
    return number
