"""One XML file of Pascal VOC: what is refused, and with which line."""

from __future__ import annotations

import pytest

from edgekit.frame.boxes import Annotation, BadAnnotation, Box
from edgekit.frame.voc import MAX_XML_BYTES, ForbiddenXml, parse

SIDES = "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
CAT = f"<object><name>cat</name><bndbox>{SIDES}</bndbox></object>"


def annotation(inside: str) -> Annotation:
    """What `parse` makes of an annotation of this XML."""
    return parse(f"<annotation>{inside}</annotation>".encode(), "a.jpg")


def test_boxes_and_size_are_read() -> None:
    """The size is (height, width); without a size, or with zeros, it is unknown."""
    size = "<size><width>40</width><height>30</height></size>"
    assert annotation(size + CAT) == Annotation("a.jpg", (30, 40), (Box("cat", 1, 2, 3, 4),))
    assert annotation(CAT).size is None
    assert annotation(size.replace("40", "0")).size is None


@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ("<object></annotation>", "not XML"),
        (CAT.replace(">1<", ">one<"), "<xmin> is 'one', not a number"),
        (CAT.replace(">1<", ">nan<"), "<xmin> is 'nan', not a finite number"),
        (CAT.replace("<xmin>1</xmin>", ""), "<xmin> is '', not a number"),
        (CAT.replace("cat", ""), "cannot be a label"),
        ("<filename>folder/a.jpg</filename>", "not a name in JPEGImages"),
        ("<filename>../a.jpg</filename>", "not a name inside the data set"),
    ],
)
def test_a_bad_annotation_is_refused_by_name(inside: str, named: str) -> None:
    """The error is one line that names the element and its text."""
    with pytest.raises(BadAnnotation, match=named) as refused:
        annotation(inside)
    assert "\n" not in str(refused.value)


def test_another_document_is_refused() -> None:
    """Another root element, too many bytes, and a document type, which could name other files."""
    with pytest.raises(BadAnnotation, match="<html> is not <annotation>"):
        parse(b"<html/>", "a.jpg")
    with pytest.raises(BadAnnotation, match="more than 1,000,000 bytes"):
        parse(b" " * (MAX_XML_BYTES + 1), "a.jpg")
    with pytest.raises(ForbiddenXml):
        parse(b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation/>', "a.jpg")
