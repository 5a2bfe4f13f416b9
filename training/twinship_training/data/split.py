"""From pictures to a data set: seeded, stratified parts, and no picture in two of them.

The parts do not move with the training seed: models of different seeds are compared on the same pictures.
Where the pictures came from is the sources' business (`archives`, `digits`, `folder`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from twinship_training.data.pictures import DataError, Dataset, Origin, Pictures
from twinship_training.data.report import ClassCount, Duplicates, Report

MAX_VALIDATION: Final = 5_000
VALIDATION_SHARE: Final = 0.1
SPLIT_SEED: Final = 20_260_101
UNREADABLE_NAMED: Final = 20


@dataclass(frozen=True)
class Found:
    """What a source noticed while it read."""

    smallest: tuple[int, int]  # height, width
    largest: tuple[int, int]
    unreadable: tuple[str, ...] = ()  # name and reason


def assemble(
    origin: Origin, found: Found, pool: Pictures, test: Pictures, validation: Pictures | None = None
) -> Dataset:
    """The data set of `test`, `validation` (a tenth of `pool` when there is none) and the rest of `pool`.

    What the test has is dropped from the rest, and what the validation has from the training. Raises
    DataError when that leaves nothing to learn a class from.
    """
    published = [pool, test] if validation is None else [pool, test, validation]
    keys = [_keys(part) for part in published]
    pool = _without(pool, keys[0], set(keys[1]))
    if validation is None:
        train, validation = stratified(pool, _validation_count(pool, len(origin.labels)))
    else:
        train, validation = pool, _without(validation, keys[2], set(keys[1]))
    train = _without(train, _keys(train), set(_keys(validation)))
    _check_something_left(origin, train)
    dropped = sum(map(len, published)) - len(train) - len(validation) - len(test)
    duplicates = Duplicates(
        dropped=dropped,
        kept=sum(len(part) - len(set(_keys(part))) for part in (train, validation, test)),
        contradictory=_contradictory(published, keys),
    )
    report = Report(
        classes=_counts(origin.labels, train, validation, test),
        smallest=found.smallest,
        largest=found.largest,
        shape=test.shape,
        duplicates=duplicates,
        unreadable=len(found.unreadable),
        unreadable_files=found.unreadable[:UNREADABLE_NAMED],
    )
    return Dataset(
        origin.name,
        origin.source,
        origin.why,
        origin.labels,
        train,
        validation,
        test,
        _fingerprint(published),
        report,
    )


def _check_something_left(origin: Origin, train: Pictures) -> None:
    counts = np.bincount(train.labels, minlength=len(origin.labels))
    if not counts.min():
        label = origin.labels[int(counts.argmin())]
        same = "all of its pictures are also among those that judge"
        raise DataError(f"{origin.source}: nothing is left to learn class {label!r} from: {same}")


def stratified(pictures: Pictures, count: int) -> tuple[Pictures, Pictures]:
    """All but `count` of these, and those `count`: every label keeps its share, the order is kept."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(pictures))
    by_label = order[np.argsort(pictures.labels[order], kind="stable")]
    held = by_label[((np.arange(count) + 0.5) * len(order) / count).astype(np.int64)]
    return pictures.take(np.setdiff1d(order, held)), pictures.take(np.sort(held))


def _validation_count(pool: Pictures, classes: int) -> int:
    return min(MAX_VALIDATION, max(classes, int(len(pool) * VALIDATION_SHARE)))


def _keys(pictures: Pictures) -> list[bytes]:
    """One short digest for each picture's content."""
    return [
        hashlib.blake2b(image, digest_size=16).digest() for image in np.ascontiguousarray(pictures.images)
    ]


def _without(pictures: Pictures, keys: Sequence[bytes], unwanted: set[bytes]) -> Pictures:
    places = [place for place, key in enumerate(keys) if key not in unwanted]
    return pictures if len(places) == len(keys) else pictures.take(np.array(places, np.int64))


def _contradictory(parts: Sequence[Pictures], keys: Sequence[list[bytes]]) -> int:
    seen: dict[bytes, set[int]] = defaultdict(set)
    for part, its_keys in zip(parts, keys, strict=True):
        for key, label in zip(its_keys, part.labels.tolist(), strict=True):
            seen[key].add(label)
    return sum(len(labels) > 1 for labels in seen.values())


def _counts(labels: Sequence[str], *parts: Pictures) -> tuple[ClassCount, ...]:
    counts = [np.bincount(part.labels, minlength=len(labels)).tolist() for part in parts]
    return tuple(
        ClassCount(label=label, train=train, validation=validation, test=test)
        for label, train, validation, test in zip(labels, *counts, strict=True)
    )


def _fingerprint(parts: Sequence[Pictures]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.images.shape}\n".encode())
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(part.labels.astype("<i8").tobytes())
    return digest.hexdigest()
