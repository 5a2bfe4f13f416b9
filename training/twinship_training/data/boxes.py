"""Pictures with boxes: `voc:FOLDER` and `coco:FILE` become a data set for `--task detect`.

The parts of VOC's ImageSets stay as they are; without them a fixed seed splits, whatever the seed of the
training. A picture without boxes stays: it shows what is no object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgekit.frame.boxes import BadAnnotation, Box, checked
from inference.artefact import MAX_LABELS
from inference.dataset.folders import TEST, TRAIN, VALIDATION, File, Reader, shapes
from inference.dataset.pictures import SPLIT_SEED, DataError, Pictures, Shape, Shaping
from inference.metrics_model import BoxReport, BoxSizes, ClassCount, DatasetReport, Duplicates
from twinship_training.data import coco, voc
from twinship_training.data.annotations import Listed
from twinship_training.data.split import (
    UNREADABLE_NAMED,
    Dataset,
    at_most,
    contradictory,
    digest_of,
    keys,
    without,
)

#: The choices → their readers.
READERS: Final[Mapping[str, Callable[[Path], Listed]]] = {"voc": voc.read, "coco": coco.read}
STRIDE: Final = 16  # pixels: the networks shrink pictures 16 times and enlarge the result
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
MIN_PICTURES: Final = 10  # in a data set that is split here
MIN_OF_A_CLASS: Final = 5  # boxes to learn from
NO_BOX: Final = -1.0
Truth = Sequence[tuple[Box, ...]]


def find(choice: str, side: int) -> Dataset:
    """The data set for the text of `--dataset`, its pictures at most `side` pixels wide. Raises DataError."""
    kind, _, place = choice.partition(":")
    if kind not in READERS or not place:
        raise DataError(f"data set {choice!r} has no boxes: use voc:FOLDER or coco:FILE with --task detect")
    listed = READERS[kind](Path(place))
    return _dataset(listed, f"{kind} {place}", in_strides(at_most(side)))


def in_strides(shaping: Shaping) -> Shaping:
    """The same shape with sides that are multiples of STRIDE.

    >>> in_strides(at_most(100))([(480, 640, 3)])
    (80, 96, 3)
    """

    def shape(found: Sequence[Shape]) -> Shape:
        height, width, channels = shaping(found)
        rounded = [max(2, round(side / STRIDE)) * STRIDE for side in (height, width)]
        return rounded[0], rounded[1], channels

    return shape


def _dataset(listed: Listed, source: str, shaping: Shaping) -> Dataset:
    files = [file for part in listed.parts.values() for file, _ in part]
    if not files:
        first = (
            f"; the first of {len(listed.unreadable)}: {listed.unreadable[0]}" if listed.unreadable else ""
        )
        raise DataError(f"{source}: no picture with an annotation in it{first}")
    reader = Reader(listed.root, shaping(shapes([(file, 0) for file in files]) or [(1, 1, 1)]))
    reader.check_memory(len(files))
    read = {part: _read(listed, reader, part) for part in listed.parts}
    labels = _labels(source, [boxes for _, boxes in read.values()])
    most = max(1, *(len(each) for _, boxes in read.values() for each in boxes), 1)
    parts = {part: Pictures(images, table(boxes, labels, most)) for part, (images, boxes) in read.items()}
    published = [*parts.values()]
    train, validation, test = _split(source, parts)
    train = without(train, keys(train), _all(test) | _all(validation))
    _check(source, labels, train)
    report = DatasetReport(
        classes=_counts(labels, train, validation, test),
        smallest=reader.report.smallest,
        largest=reader.report.largest,
        shape=test.shape,
        duplicates=Duplicates(
            dropped=sum(map(len, published)) - len(train) - len(validation) - len(test),
            kept=sum(len(each) - len(_all(each)) for each in (train, validation, test)),
            contradictory=contradictory(published, [keys(each) for each in published]),
        ),
        unreadable=len(listed.unreadable) + len(reader.skipped),
        unreadable_files=(*listed.unreadable, *reader.skipped)[:UNREADABLE_NAMED],
        boxes=_box_report(listed, labels, (train, validation, test)),
    )
    why = "--dataset names it"
    return Dataset(listed.name, source, why, labels, train, validation, test, digest_of(published), report)


def _read(listed: Listed, reader: Reader, part: str) -> tuple[NDArray[np.uint8], list[tuple[Box, ...]]]:
    """The prepared pictures of a part, and their boxes in shares. Bad ones are noted and left out."""
    entries = listed.parts[part]
    files: list[File] = [(file, number) for number, (file, _) in enumerate(entries)]
    begin = len(reader.sizes)
    read = reader.read(files)
    kept, boxes = [], []
    for place, (number, size) in enumerate(zip(read.labels.tolist(), reader.sizes[begin:], strict=True)):
        file, annotation = entries[number]
        try:
            boxes.append(checked(annotation, size, listed.faults))
        except BadAnnotation as error:
            listed.unreadable.append(f"{file.relative_to(listed.root)}: {error}")
            continue
        kept.append(place)
    return read.images[kept], boxes


def table(truth: Truth, labels: Sequence[str], most: int) -> NDArray[np.float32]:
    """(count, most, 5), as `Pictures` says."""
    found = np.full((len(truth), most, 5), NO_BOX, np.float32)
    number = {label: index for index, label in enumerate(labels)}
    for row, boxes in zip(found, truth, strict=True):
        for place, box in enumerate(boxes):
            row[place] = number[box.label], box.left, box.top, box.right, box.bottom
    return found


def boxes_of(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The boxes of one picture or of several, (boxes, 5), without the empty places."""
    flat: NDArray[np.float32] = labels.reshape(-1, 5)
    return flat[flat[:, 0] >= 0]


def _labels(source: str, parts: Sequence[Truth]) -> tuple[str, ...]:
    labels = tuple(sorted({box.label for part in parts for boxes in part for box in boxes}))
    if not 1 <= len(labels) <= MAX_LABELS:
        raise DataError(f"{source}: boxes of {len(labels)} classes in it, 1 to {MAX_LABELS} are needed")
    return labels


def _split(source: str, parts: Mapping[str, Pictures]) -> tuple[Pictures, Pictures, Pictures]:
    """Train, validation, test: as the data set has them; missing ones are drawn from the first."""
    train = parts[TRAIN] if TRAIN in parts else parts[""]
    if len(parts) < 3 and len(train) < MIN_PICTURES:
        raise DataError(
            f"{source}: {len(train)} readable pictures to split, at least {MIN_PICTURES} are needed"
        )
    held = {TEST: parts.get(TEST), VALIDATION: parts.get(VALIDATION)}
    whole = len(train)
    for number, (name, share) in enumerate(((TEST, TEST_SHARE), (VALIDATION, VALIDATION_SHARE))):
        if held[name] is None:
            order = np.random.default_rng(SPLIT_SEED + number).permutation(len(train))
            count = max(1, round(whole * share))
            held[name], train = train.take(np.sort(order[:count])), train.take(np.sort(order[count:]))
    validation, test = held[VALIDATION], held[TEST]
    if not validation or not test or not len(train):
        raise DataError(
            f"{source}: train, val or test has no readable picture; leave the list away or fill it"
        )
    return train, without(validation, keys(validation), _all(test)), test


def _all(pictures: Pictures) -> set[bytes]:
    return set(keys(pictures))


def _check(source: str, labels: Sequence[str], train: Pictures) -> None:
    counts = np.bincount(boxes_of(train.labels)[:, 0].astype(np.int64), minlength=len(labels))
    if counts.min() < MIN_OF_A_CLASS:
        label = labels[int(counts.argmin())]
        wanted = f"at least {MIN_OF_A_CLASS} are needed: add some, or remove the class from the annotations"
        raise DataError(f"{source}: {counts.min()} boxes of class {label!r} to learn from, {wanted}")


def _counts(labels: Sequence[str], *splits: Pictures) -> tuple[ClassCount, ...]:
    counts = [
        np.bincount(boxes_of(each.labels)[:, 0].astype(np.int64), minlength=len(labels)).tolist()
        for each in splits
    ]
    return tuple(
        ClassCount(label=label, train=train, validation=validation, test=test)
        for label, train, validation, test in zip(labels, *counts, strict=True)
    )


def _box_report(listed: Listed, labels: Sequence[str], splits: Sequence[Pictures]) -> BoxReport:
    faults = listed.faults
    height, width, _ = splits[0].shape
    rows = np.concatenate([boxes_of(each.labels) for each in splits])
    sides = (rows[:, 3:5] - rows[:, 1:3]) * np.array((width, height))
    sizes = []
    for number, label in enumerate(labels):
        lengths = np.sqrt(sides[rows[:, 0] == number].prod(axis=1))
        low, middle, high = np.percentile(lengths, (5, 50, 95)).round(1).tolist()
        sizes.append(BoxSizes(label=label, p5=low, median=middle, p95=high))
    return BoxReport(
        empty=sum(int((each.labels[:, :, 0] < 0).all(axis=1).sum()) for each in splits),
        cut=faults.cut,
        outside=faults.outside,
        inside_out=faults.inside_out,
        repeated=faults.repeated,
        crowds=faults.crowds,
        sizes=tuple(sizes),
    )
