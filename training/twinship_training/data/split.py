"""From the pictures of a source to a data set: training, validation and test, and no picture in two of them.

The splits do not depend on the training seed, so models of different seeds are compared on the same pictures.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from inference.dataset.pictures import DataError, Origin, Pictures, Shape, Shaping, SourceData, stratified
from inference.metrics_model import ClassCount, DatasetReport, Duplicates

MIN_SIDE: Final = 28  # pixels; the networks' convolutions reduce smaller pictures to nothing
MAX_SIDE: Final = 96  # pixels; with larger pictures a training on two cores takes hours
MAX_VALIDATION: Final = 5_000
VALIDATION_SHARE: Final = 0.1
UNREADABLE_NAMED: Final = 20


@dataclass(frozen=True, eq=False)
class Dataset:
    """`train` to learn from, `validation` to choose by, `test` to measure the result, once."""

    name: str
    source: str
    why: str
    labels: tuple[str, ...]
    train: Pictures
    validation: Pictures
    test: Pictures
    fingerprint: str  # sha256 over every picture and label before the split
    report: DatasetReport


def at_most(side: int) -> Shaping:
    """The median shape, reduced until it fits into `side` × `side`; in colour if any picture is.

    >>> at_most(96)([(480, 640, 3)])
    (72, 96, 3)
    """

    def shape(found: Sequence[Shape]) -> Shape:
        height, width = (float(np.median([each[axis] for each in found])) for axis in (0, 1))
        shrink = min(1.0, side / max(height, width))
        grow = max(1.0, MIN_SIDE / min(height, width))
        return (
            min(side, max(MIN_SIDE, round(height * shrink * grow))),
            min(side, max(MIN_SIDE, round(width * shrink * grow))),
            max(each[2] for each in found),
        )

    return shape


def spread(pictures: Pictures, count: int) -> Pictures:
    """At most `count` pictures, evenly spaced, because MNIST's second half is harder than its first."""
    index = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(np.int64)
    return pictures.take(index)


def split_source(data: SourceData) -> Dataset:
    """Test and validation as in the source; without a validation, a tenth of the training pictures.

    Pictures that are also in the test are dropped from the rest, and pictures that are also in the validation
    from the training. Raises DataError when a class has no picture left to learn from.
    """
    train, test, validation = data.train, data.test, data.validation
    published = [train, test] if validation is None else [train, test, validation]
    found = [keys(each) for each in published]
    train = without(train, found[0], set(found[1]))
    if validation is None:
        train, validation = stratified(train, _validation_count(train, len(data.origin.labels)))
    else:
        validation = without(validation, found[2], set(found[1]))
    train = without(train, keys(train), set(keys(validation)))
    _check_something_left(data.origin, train)
    splits = (train, validation, test)
    duplicates = Duplicates(
        dropped=sum(map(len, published)) - sum(map(len, splits)),
        kept=sum(len(each) - len(set(keys(each))) for each in splits),
        contradictory=contradictory(published, found),
    )
    report = DatasetReport(
        classes=_counts(data.origin.labels, *splits),
        smallest=data.files.smallest,
        largest=data.files.largest,
        shape=test.shape,
        duplicates=duplicates,
        unreadable=len(data.files.unreadable),
        unreadable_files=data.files.unreadable[:UNREADABLE_NAMED],
    )
    origin = data.origin
    fingerprint = digest_of(published)
    return Dataset(origin.name, origin.source, origin.why, origin.labels, *splits, fingerprint, report)


def _check_something_left(origin: Origin, train: Pictures) -> None:
    counts = np.bincount(train.labels, minlength=len(origin.labels))
    if not counts.min():
        label = origin.labels[int(counts.argmin())]
        why = "all of its pictures are also in the test or the validation"
        raise DataError(f"{origin.source}: nothing is left to learn class {label!r} from: {why}")


def _validation_count(pictures: Pictures, classes: int) -> int:
    return min(MAX_VALIDATION, max(classes, int(len(pictures) * VALIDATION_SHARE)))


def keys(pictures: Pictures) -> list[bytes]:
    """One short digest for each picture's content."""
    return [
        hashlib.blake2b(image, digest_size=16).digest() for image in np.ascontiguousarray(pictures.images)
    ]


def without(pictures: Pictures, found: Sequence[bytes], unwanted: set[bytes]) -> Pictures:
    """The pictures whose key is not among the unwanted ones; `found` are their keys."""
    index = [place for place, key in enumerate(found) if key not in unwanted]
    return pictures if len(index) == len(found) else pictures.take(np.array(index, np.int64))


def contradictory(published: Sequence[Pictures], found: Sequence[list[bytes]]) -> int:
    """How many different pictures carry more than one label, or different boxes."""
    labels_of: dict[bytes, set[bytes]] = defaultdict(set)
    for pictures, its_keys in zip(published, found, strict=True):
        for key, label in zip(its_keys, pictures.labels, strict=True):
            labels_of[key].add(label.tobytes())
    return sum(len(labels) > 1 for labels in labels_of.values())


def _counts(labels: Sequence[str], *splits: Pictures) -> tuple[ClassCount, ...]:
    counts = [np.bincount(each.labels, minlength=len(labels)).tolist() for each in splits]
    return tuple(
        ClassCount(label=label, train=train, validation=validation, test=test)
        for label, train, validation, test in zip(labels, *counts, strict=True)
    )


def digest_of(published: Sequence[Pictures]) -> str:
    """sha256 over every picture and its label or boxes."""
    digest = hashlib.sha256()
    for pictures in published:
        digest.update(f"{pictures.images.shape}\n".encode())
        digest.update(np.ascontiguousarray(pictures.images).data)
        digest.update(pictures.labels.astype(pictures.labels.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
