"""Pictures with boxes from Pascal VOC and COCO: the split, the report, and bad input."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.dataset.pictures import DataError
from tests.unit.twinship_training.boxes import LABELS, coco, voc, write_coco, xml
from twinship_training.data.boxes import boxes_of, find
from twinship_training.data.split import Dataset
from twinship_training.report.card import dataset_lines

GOOD = [("disc", (1, 2, 21, 22))]


def read(folder: Path) -> Dataset:
    """The data set of a VOC folder."""
    return find(f"voc:{folder}", 64)


def replaced(folder: Path, text: str, name: str = "000") -> Path:
    """The folder with another annotation of its first picture, which is one to learn from."""
    (folder / "Annotations" / f"{name}.xml").write_text(text)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 pictures as Pascal VOC."""
    return voc(tmp_path / "voc")


def test_the_lists_of_a_folder_are_its_split(folder: Path) -> None:
    """ImageSets/Main says which pictures are for training, validation and test."""
    data = read(folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 5, 5)
    assert data.labels == LABELS
    assert data.train.shape == (64, 64, 3)
    first = np.asarray(Image.open(folder / "JPEGImages" / "025.png"))
    assert np.array_equal(data.test.images[0], first)


def test_without_lists_a_fixed_seed_splits(tmp_path: Path) -> None:
    """A fifth is for the test, a tenth for the validation; the same ones each time, and none twice."""
    folder = voc(tmp_path / "voc", lists=False)
    data, again = read(folder), read(folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (21, 3, 6)
    assert np.array_equal(data.test.images, again.test.images)
    images = np.concatenate([each.images for each in (data.train, data.validation, data.test)])
    assert len(np.unique(images, axis=0)) == 30


def test_a_list_of_train_and_test_leaves_the_validation_to_us(folder: Path) -> None:
    """What VOC calls trainval is what there is to learn from, a tenth of it chooses the epoch."""
    sets = folder / "ImageSets/Main"
    (sets / "trainval.txt").write_text((sets / "train.txt").read_text() + (sets / "val.txt").read_text())
    (sets / "train.txt").unlink()
    (sets / "val.txt").unlink()
    data = read(folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (23, 2, 5)


def test_both_formats_say_the_same(tmp_path: Path) -> None:
    """The same pictures and boxes as COCO and as VOC without lists are the same data set."""
    file, _ = coco(tmp_path / "coco")
    first, second = find(f"coco:{file}", 64), read(voc(tmp_path / "voc", lists=False))
    assert first.labels == second.labels
    assert first.fingerprint == second.fingerprint


def test_faults_of_boxes_are_counted(folder: Path) -> None:
    """Boxes outside, inside out, repeated or over the edge, and a picture without boxes."""
    boxes = [
        ("disc", (1, 2, 21, 22)),
        ("disc", (1, 2, 21, 22)),
        ("disc", (30, 30, 30, 50)),
        ("disc", (50, 40, 40, 50)),
        ("disc", (70, 10, 90, 20)),
        ("square", (50, 50, 80, 60)),
    ]
    replaced(replaced(folder, xml(boxes)), xml([]), "001")
    data = read(folder)
    found = data.report.boxes
    assert found is not None
    counts = (found.repeated, found.inside_out, found.outside, found.cut, found.empty)
    assert counts == (1, 2, 1, 1, 1)
    rows = boxes_of(data.train.labels[0])
    assert np.allclose(rows[:, 1:] * 64, [(1, 2, 21, 22), (50, 50, 64, 60)])
    text = "\n".join(dataset_lines(data.report))
    assert "boxes outside their picture, dropped: 1" in text
    assert "pictures without a box: 1" in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation><object>", "not XML"),
        ("", "not XML"),
        ("<html></html>", "is not <annotation>"),
        (xml(GOOD).replace("<xmin>1</xmin>", "<xmin>left</xmin>"), "<xmin> is 'left', not a number"),
        (xml(GOOD).replace("<xmin>1</xmin>", ""), "<xmin> is '', not a number"),
        (xml(GOOD).replace("<xmin>1</xmin>", "<xmin>nan</xmin>"), "not a finite number"),
        (xml([("", (1, 2, 21, 22))]), "'' cannot be a label"),
        (xml(GOOD, width=640, height=480), "the annotation is of 640x480 pixels, the picture has 64x64"),
        (xml(GOOD, name="/etc/passwd"), "'/etc/passwd' is not a name inside the data set"),
        (xml(GOOD, name="..\\a.png"), "is not a name inside the data set"),
        (xml(GOOD, name="other/a.png"), "is not a name in JPEGImages"),
        (xml([("disc", (i, 1, i + 9, 9)) for i in range(301)]), "301 boxes, at most 300"),
        (xml(GOOD) + " " * 1_000_001, "more than 1,000,000 bytes"),
    ],
)
def test_an_unusable_annotation_is_named_and_its_picture_left_out(
    folder: Path, text: str, reason: str
) -> None:
    """The other pictures are used; the report has the file and the reason."""
    data = read(replaced(folder, text))
    assert len(data.train) == 19
    assert data.report.unreadable == 1
    assert reason in data.report.unreadable_files[0]
    assert "000" in data.report.unreadable_files[0]


def test_missing_and_broken_pictures_are_named(folder: Path) -> None:
    """A missing picture, a missing annotation and a file that is no picture are left out."""
    (folder / "JPEGImages" / "000.png").unlink()
    (folder / "Annotations" / "001.xml").unlink()
    (folder / "JPEGImages" / "002.png").write_bytes(b"no picture")
    data = read(folder)
    assert len(data.train) == 17
    assert data.report.unreadable == 3
    assert sorted(each[:15] for each in data.report.unreadable_files) == sorted(
        ["Annotations/000", "001: there is n", "JPEGImages/002."]
    )


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a [<!ENTITY x "y">]>',
        '<!DOCTYPE annotation SYSTEM "http://127.0.0.1/a.dtd">',
    ],
)
def test_a_document_type_ends_the_reading(folder: Path, head: str) -> None:
    """Entities and document types are refused by name before anything is resolved."""
    with pytest.raises(DataError, match=r"000\.xml: a document type or an entity is in it"):
        read(replaced(folder, head + xml(GOOD)))


def test_a_picture_of_two_parts_is_learnt_from_in_none(folder: Path) -> None:
    """A picture of the test is dropped from the training, whatever its name is."""
    shutil.copy(folder / "JPEGImages" / "029.png", folder / "JPEGImages" / "000.png")
    data = read(folder)
    assert len(data.train) == 19
    assert data.report.duplicates.dropped == 1
    assert data.report.duplicates.contradictory == 1


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "C:\\x"])
def test_a_list_that_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    """Names of lists are names in the folder."""
    (folder / "ImageSets/Main/train.txt").write_text(f"{name}\n")
    with pytest.raises(DataError, match=r"train\.txt: .*is not a name inside the data set"):
        read(folder)


def test_a_class_without_boxes_to_learn_from_is_refused(folder: Path) -> None:
    """A class that only the test has cannot be learnt, and is not left out silently."""
    with pytest.raises(DataError, match="0 boxes of class 'star' to learn from, at least 5 are needed"):
        read(replaced(folder, xml([("star", (1, 2, 21, 22))]), "029"))


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("voc:/nowhere", "no folder Annotations in it"),
        ("coco:/nowhere.json", "cannot be read"),
        ("digits", "use voc:FOLDER or coco:FILE with --task detect"),
        ("voc:", "use voc:FOLDER or coco:FILE with --task detect"),
    ],
)
def test_a_data_set_that_is_not_there_is_refused(choice: str, reason: str) -> None:
    """One line says what is wanted."""
    with pytest.raises(DataError, match=reason):
        find(choice, 64)


def test_few_pictures_are_refused(tmp_path: Path) -> None:
    """Without lists there are at least ten pictures to split."""
    with pytest.raises(DataError, match="9 readable pictures to split, at least 10 are needed"):
        read(voc(tmp_path / "voc", 9, lists=False))


def test_a_large_json_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 GB of JSON would take ten times that in memory."""
    file = tmp_path / "boxes.json"
    with file.open("wb") as sparse:
        sparse.truncate(1_000_000_000)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("it was read"))
    with pytest.raises(DataError, match="1,000,000,000 bytes, at most 200,000,000 are read"):
        find(f"coco:{file}", 64)


def changed(document: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """The document with other values in its first image, annotation and category."""
    for name, values in parts.items():
        document[name][0] |= values
    return document


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"annotations": {"category_id": 99}}, "the category 99, which is not declared"),
        ({"annotations": {"image_id": 99}}, "the image 99, which is not declared"),
        ({"annotations": {"bbox": [1, 2, 3]}}, "ValueError"),
        ({"annotations": {"bbox": "none"}}, "ValueError"),
        ({"annotations": {"bbox": [1, 2, float("inf"), 4]}}, "not a finite number"),
        ({"images": {"file_name": "/etc/passwd"}}, "is not a name inside the data set"),
        ({"images": {"file_name": "../a.png"}}, "is not a name inside the data set"),
        ({"images": {"file_name": 7}}, "has no file_name"),
        ({"images": {"id": 1}}, "an id of an image or a name of a category occurs twice"),
        ({"categories": {"name": "square"}}, "an id of an image or a name of a category occurs twice"),
        ({"categories": {"name": 7}}, "cannot be a label"),
    ],
)
def test_a_bad_coco_file_is_refused(tmp_path: Path, parts: dict[str, Any], reason: str) -> None:
    """What the file says wrong is named, and no picture is read."""
    _, document = coco(tmp_path, 12)
    if parts.get("images", {}).get("id") == 1:
        document["annotations"] = [each for each in document["annotations"] if each["image_id"]]
    file = write_coco(tmp_path, changed(document, **parts))
    with pytest.raises(DataError, match=reason):
        find(f"coco:{file}", 64)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 1}', "[" * 100_000, "\0", "7"])
def test_what_is_not_coco_is_refused(tmp_path: Path, text: str) -> None:
    """Other JSON, and files that are not JSON, end in one line."""
    file = tmp_path / "boxes.json"
    file.write_text(text)
    with pytest.raises(DataError, match="want COCO's JSON with images, annotations and categories"):
        find(f"coco:{file}", 64)


def test_crowds_and_missing_pictures_of_coco_are_counted(tmp_path: Path) -> None:
    """A crowd is no object; a picture that is not there is named."""
    _, document = coco(tmp_path)
    changed(document, annotations={"iscrowd": 1}, images={"file_name": "gone.png"})
    found = find(f"coco:{write_coco(tmp_path, document)}", 64)
    assert found.report.boxes is not None
    assert found.report.boxes.crowds == 1
    assert found.report.unreadable_files == ("gone.png: there is no such picture beside boxes.json",)
