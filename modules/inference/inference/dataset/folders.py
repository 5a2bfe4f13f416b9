"""Read pictures from folders: one sub-folder for each class, or train/, val/ and test/ that hold these.

`inference.predict` reads the files. An unreadable file is skipped, named and counted; a class
with too few readable pictures is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from inference.artefact import MAX_LABEL_CHARACTERS, MAX_LABELS
from inference.dataset.pictures import (
    DataError,
    FileReport,
    Origin,
    Pictures,
    Shape,
    Shaping,
    SourceData,
    input_spec,
    stratified,
)
from inference.predict import SUFFIXES, FileUnreadable, read_pixels, read_prepared

File = tuple[Path, int]
"""A picture file and the index of its class in the labels."""

TRAIN, VALIDATION, TEST = "train", "val", "test"
TEST_SHARE: Final = 0.2
MIN_OF_A_CLASS: Final = 5  # one for the test, one for the validation, and some to learn from
SAMPLED: Final = 200  # pictures that decide the shape; every picture is decoded only once more
MAX_BYTES: Final = 4 * 1024**3  # of prepared pictures in memory
LAYOUT: Final = (
    "want one sub-folder with pictures (PNG, JPEG, BMP) for each class, or train/ and test/ of these"
)


def folder(path: Path, shaping: Shaping) -> SourceData:
    """The pictures below `path`, all prepared to one shape. Raises DataError."""
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder; {LAYOUT}")
    places = {TRAIN: path}
    if (path / TRAIN).is_dir() and {each.name for each in _folders(path)} <= {TRAIN, VALIDATION, TEST}:
        places = {name: path / name for name in (TRAIN, VALIDATION, TEST) if (path / name).is_dir()}
    labels = _labels(places[TRAIN])
    listed = {name: _files(place, labels) for name, place in places.items()}
    reader = Reader(path, shaping([*shapes(listed[TRAIN])] or [(1, 1, 1)]))
    reader.check_memory(sum(map(len, listed.values())))
    read = {name: reader.read(files) for name, files in listed.items()}
    _check_classes(path, labels, read[TRAIN], reader.skipped)
    train, test = read[TRAIN], read.get(TEST)
    if test is None:
        train, test = stratified(train, max(len(labels), int(len(train) * TEST_SHARE)))
    elif not len(test):
        raise DataError(f"{path / TEST}: no readable picture in it; fill it, or remove the folder")
    origin = Origin("folder", f"the folder {path}", "--dataset names it", labels)
    return SourceData(origin, reader.report, train, test, read.get(VALIDATION) or None)


class Reader:
    """Reads files to one shape; collects sizes (height, width) and unreadable files."""

    def __init__(self, root: Path, shape: Shape) -> None:
        self._root, self._shape, self._spec = root, shape, input_spec(shape)
        self.sizes: list[tuple[int, int]] = []
        self.skipped: list[str] = []

    @property
    def report(self) -> FileReport:
        by_area = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        return FileReport(by_area[0], by_area[-1], tuple(self.skipped))

    def check_memory(self, count: int) -> None:
        """Raise DataError before the pictures are read, not when the machine begins to swap."""
        if (size := count * int(np.prod(self._shape))) > MAX_BYTES:
            needs = f"{count:,} pictures of {self._shape} take {size / 1024**3:.1f} GiB of memory"
            limit = f"{MAX_BYTES // 1024**3} are allowed"
            raise DataError(f"{self._root}: {needs}, {limit}: use a smaller --max-side")

    def read(self, files: Sequence[File]) -> Pictures:
        images, labels = [], []
        for path, label in files:
            picture = read_prepared(path, self._spec)
            if isinstance(picture, FileUnreadable):
                self.skipped.append(f"{path.relative_to(self._root)}: {picture.reason}")
                continue
            self.sizes.append((picture.height, picture.width))
            images.append(picture.pixels)
            labels.append(label)
        stacked = np.stack(images) if images else np.zeros((0, *self._shape), np.uint8)
        return Pictures(stacked, np.array(labels, np.int64))


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def _labels(path: Path) -> tuple[str, ...]:
    labels = tuple(each.name for each in _folders(path))
    for label in labels:
        if not label.isprintable() or len(label) > MAX_LABEL_CHARACTERS:
            raise DataError(
                f"{path}: {label[:40]!r} cannot be a label: at most {MAX_LABEL_CHARACTERS} characters"
            )
    if not 2 <= len(labels) <= MAX_LABELS:
        raise DataError(f"{path}: {len(labels)} classes in it, 2 to {MAX_LABELS} are needed; {LAYOUT}")
    return labels


def _files(path: Path, labels: Sequence[str]) -> list[File]:
    if unknown := {each.name for each in _folders(path)} - set(labels):
        raise DataError(f"{path}: class {min(unknown)!r} is not among those of {TRAIN}/")
    return [
        (file, index)
        for index, label in enumerate(labels)
        for file in sorted((path / label).rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]


def shapes(files: Sequence[File]) -> list[Shape]:
    """The shapes of at most SAMPLED readable pictures, evenly spaced."""
    found: list[Shape] = []
    for index in np.unique(np.linspace(0, len(files) - 1, min(SAMPLED, len(files))).astype(int)):
        pixels = read_pixels(files[index][0])
        if not isinstance(pixels, FileUnreadable):
            found.append((pixels.shape[0], pixels.shape[1], pixels.shape[2]))
    return found


def _check_classes(path: Path, labels: Sequence[str], read: Pictures, skipped: Sequence[str]) -> None:
    counts = np.bincount(read.labels, minlength=len(labels))
    if counts.min() >= MIN_OF_A_CLASS:
        return
    label, count = labels[int(counts.argmin())], int(counts.min())
    because = f"; {len(skipped)} unreadable files, the first: {skipped[0]}" if skipped else ""
    wanted = f"at least {MIN_OF_A_CLASS} are needed"
    raise DataError(f"{path}: class {label!r} has {count} readable pictures, {wanted}{because}")
