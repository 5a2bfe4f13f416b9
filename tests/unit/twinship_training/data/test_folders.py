"""A folder of pictures: its classes, splits and shape, skipped files, and errors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.dataset.pictures import DataError, input_spec
from inference.frames.preprocess import decode_file, prepare
from tests.unit.twinship_training.pictures import SHAPES, colour_folder
from twinship_training.data import find
from twinship_training.data.split import Dataset, at_most
from twinship_training.report.card import dataset_lines


def read(path: Path) -> Dataset:
    """The data set of `--dataset folder:PATH`."""
    return find(f"folder:{path}", {})


def total(data: Dataset) -> int:
    """The number of pictures in all splits."""
    return len(data.train) + len(data.validation) + len(data.test)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    """Labels are the folders' names, sorted; every class has its share of each split."""
    data = read(colour_folder(tmp_path / "shapes"))
    assert data.labels == SHAPES
    assert (len(data.train), len(data.validation), len(data.test)) == (65, 7, 18)
    assert np.bincount(data.test.labels).tolist() == [6, 6, 6]
    assert np.bincount(data.validation.labels).min() >= 2
    assert data.train.shape == (32, 32, 3)
    assert [each.label for each in data.report.classes] == list(SHAPES)


def test_the_split_is_seeded(tmp_path: Path) -> None:
    """The same files give the same splits, in any folder."""
    first, second = (read(colour_folder(tmp_path / name)) for name in ("one", "two"))
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(first.test.images, second.test.images)


def test_published_splits_are_used(tmp_path: Path) -> None:
    """train/, val/ and test/ are used unchanged."""
    for seed, (name, count) in enumerate({"train": 20, "val": 4, "test": 8}.items()):
        colour_folder(tmp_path / name, count, seed=seed)
    data = read(tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (60, 12, 24)


def test_without_val_the_validation_is_taken_from_train(tmp_path: Path) -> None:
    """If only a test is published, a tenth of the training pictures is the validation."""
    colour_folder(tmp_path / "train", 20)
    colour_folder(tmp_path / "test", 8, seed=1)
    data = read(tmp_path)
    assert (len(data.train) + len(data.validation), len(data.test)) == (60, 24)
    assert len(data.validation) == 6


def test_a_picture_in_two_splits_is_dropped_from_training_and_never_from_the_test(tmp_path: Path) -> None:
    """Pictures are compared by their pixels, not by name or format; the report counts them."""
    train = colour_folder(tmp_path / "train", 20)
    test = colour_folder(tmp_path / "test", 8, seed=1)
    for number in range(3):
        Image.open(test / "disc" / f"{number:03}.png").save(train / "disc" / f"copy{number}.bmp")
    data = read(tmp_path)
    learnt = {image.tobytes() for split in (data.train, data.validation) for image in split.images}
    assert learnt.isdisjoint(image.tobytes() for image in data.test.images)
    assert len(data.test) == 24
    assert data.report.duplicates.dropped == 3
    assert any("3 dropped from training" in line for line in dataset_lines(data.report))


def test_a_class_of_one_picture_cannot_be_learnt(tmp_path: Path) -> None:
    """If all pictures of a class are equal, none is left for training after the test has it."""
    root = colour_folder(tmp_path, 10)
    for path in (root / "disc").iterdir():
        Image.new("RGB", (32, 32), "red").save(path)
    with pytest.raises(DataError, match="nothing is left to learn class 'disc' from"):
        read(root)


def test_a_picture_of_two_classes_is_counted(tmp_path: Path) -> None:
    """The report counts pictures that carry two labels."""
    root = colour_folder(tmp_path)
    (root / "frame" / "odd.png").write_bytes((root / "disc" / "000.png").read_bytes())
    report = read(root).report
    assert report.duplicates.contradictory == 1
    assert any("more than one label" in line for line in dataset_lines(report))


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    """A picture file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


PLAIN = Image.fromarray(np.random.default_rng(9).integers(0, 256, (32, 32, 3), dtype=np.uint8))
TURNED = Image.Exif()
TURNED[0x0112] = 6  # a viewer must turn it a quarter to the right


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("grey.png", encoded(PLAIN.convert("L"), "PNG")),
        ("palette.png", encoded(PLAIN.convert("P"), "PNG")),
        ("transparent.png", encoded(PLAIN.convert("RGBA"), "PNG")),
        ("sixteen.png", encoded(Image.fromarray(np.full((32, 32), 40_000, np.uint16)), "PNG")),
        ("photo.jpg", encoded(PLAIN, "JPEG")),
        ("print.jpeg", encoded(PLAIN.convert("CMYK"), "JPEG")),
        ("plain.bmp", encoded(PLAIN, "BMP")),
        ("upper.PNG", encoded(PLAIN, "PNG")),
    ],
)
def test_every_usual_kind_of_picture_is_read(tmp_path: Path, name: str, body: bytes) -> None:
    """The device's code reads grey, palette, transparent, 16-bit and CMYK pictures, JPEG and BMP."""
    root = colour_folder(tmp_path, 10)
    (root / "disc" / name).write_bytes(body)
    data = read(root)
    assert (total(data), data.report.unreadable) == (31, 0)
    spec = input_spec(data.train.shape)
    wanted = prepare(decode_file(body, spec), spec).tobytes()
    splits = (data.train, data.validation, data.test)
    assert wanted in {image.tobytes() for split in splits for image in split.images}


def test_exif_turns_a_picture_upright(tmp_path: Path) -> None:
    """Training and device read a picture as a viewer shows it."""
    half = np.zeros((20, 40, 3), np.uint8)
    half[:10] = 255  # bright above; after a quarter turn to the right, bright on the right
    pixels = decode_file(encoded(Image.fromarray(half), "PNG", exif=TURNED))
    assert pixels.shape == (40, 20, 3)
    assert pixels[:, 10:].min() == 255
    assert pixels[:, :10].max() == 0


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("empty.png", b""),
        ("text.jpg", b"no picture at all"),
        ("cut.png", encoded(PLAIN, "PNG")[:600]),
        ("cut.jpg", encoded(PLAIN, "JPEG")[:300]),
        ("head.bmp", b"BM"),
        ("bomb.png", encoded(Image.new("1", (5_000, 5_000)), "PNG")),
    ],
)
def test_an_unreadable_file_is_skipped_named_and_counted(tmp_path: Path, name: str, body: bytes) -> None:
    """Empty, foreign, truncated or far too large: the other files are used, and the report names this one."""
    root = colour_folder(tmp_path, 10)
    (root / "stripe" / name).write_bytes(body)
    data = read(root)
    assert total(data) == 30
    assert data.report.unreadable == 1
    assert data.report.unreadable_files[0].startswith(f"stripe/{name}: ")
    assert any(name in line for line in dataset_lines(data.report))


def test_other_files_are_ignored(tmp_path: Path) -> None:
    """Text files and hidden folders are neither read nor counted."""
    root = colour_folder(tmp_path, 10)
    (root / "disc" / "notes.txt").write_text("mine")
    (root / "truth.csv").write_text("file,label\n")
    (root / ".cache").mkdir()
    data = read(root)
    assert (data.labels, total(data), data.report.unreadable) == (SHAPES, 30, 0)


def test_many_unreadable_files_are_counted_and_twenty_named(tmp_path: Path) -> None:
    """The report names the first twenty unreadable files and counts the others."""
    root = colour_folder(tmp_path, 10)
    for number in range(30):
        (root / "disc" / f"bad{number:02}.png").write_bytes(b"")
    report = read(root).report
    assert (report.unreadable, len(report.unreadable_files)) == (30, 20)
    assert dataset_lines(report)[-1] == "  and 10 more"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / ("x" * 200)).mkdir(), "cannot be a label"),
        (lambda root: (root / "two\nlines").mkdir(), "cannot be a label"),
        (lambda root: (root / "zebra").mkdir(), r"class 'zebra' has 0 readable pictures, at least 5"),
        (lambda root: [each.unlink() for each in (root / "disc").glob("00[2-9].png")], r"class 'disc' has 2"),
        (
            lambda root: [each.write_bytes(b"") for each in (root / "disc").iterdir()],
            r"'disc' has 0 .*disc/000.png",
        ),
        (
            lambda root: [(root / name).rename(root.parent / name) for name in SHAPES[1:]],
            "1 classes in it, 2 to",
        ),
        (lambda root: [(root / name).rename(root.parent / name) for name in SHAPES], "0 classes in it"),
    ],
)
def test_too_little_is_one_clear_error(tmp_path: Path, change: object, message: str) -> None:
    """The error names the class with too few pictures, or the number of classes, and how many are needed."""
    root = colour_folder(tmp_path / "shapes", 10)
    change(root)  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        read(root)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """A wrong path, or a file: the error names it and the wanted layout."""
    (tmp_path / "file").write_text("")
    for name in ("typo", "file"):
        with pytest.raises(DataError, match=r"no such folder; want one sub-folder"):
            read(tmp_path / name)


def test_an_empty_test_or_one_with_another_class_is_an_error(tmp_path: Path) -> None:
    """The test must have pictures, and only classes of the training."""
    colour_folder(tmp_path / "train", 10)
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="no readable picture"):
        read(tmp_path)
    (tmp_path / "test" / "zebra").mkdir()
    with pytest.raises(DataError, match="'zebra' is not among those of train/"):
        read(tmp_path)


def test_pictures_of_many_sizes_get_one_shape(tmp_path: Path) -> None:
    """The median shape within the limit, scaled by the device's code; the report has the files' sizes."""
    root = colour_folder(tmp_path, 6, width=160, height=80)
    Image.new("RGB", (300, 200)).save(root / "disc" / "large.png")
    data = read(root)
    assert data.train.shape == (48, 96, 3)
    assert (data.report.smallest, data.report.largest) == ((80, 160), (200, 300))
    assert "160×80 to 300×200 pixels, learnt as 96×48 in colour" in dataset_lines(data.report)[0]
    first = prepare(decode_file((root / "disc" / "000.png").read_bytes()), input_spec((48, 96, 3)))
    splits = (data.train, data.validation, data.test)
    assert first.tobytes() in {image.tobytes() for split in splits for image in split.images}


def test_max_side_limits_both_sides(tmp_path: Path) -> None:
    """Pictures are reduced to --max-side; grey pictures stay grey."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(8):
            Image.new("L", (64, 64), 10 * number).save(tmp_path / label / f"{label}{number}.png")
    assert find(f"folder:{tmp_path}", {}, shaping=at_most(40)).train.shape == (40, 40, 1)
