"""What was found in a data set, in counts: a part of metrics.json, and lines for a person. Finds nothing."""

from __future__ import annotations

from twinship_training.metrics_model import Facts


class ClassCount(Facts):
    """How many pictures of one class are in each part."""

    label: str
    train: int
    validation: int
    test: int


class Duplicates(Facts):
    """Pictures that are there more than once, to the pixel, after preparation."""

    dropped: int  # from what is learnt from and chosen by, because the test, or the validation, has them
    kept: int  # repeated within one part: left there
    contradictory: int  # different pictures that carry more than one label


class Report(Facts):
    """The classes, sizes and blemishes of a data set."""

    classes: tuple[ClassCount, ...]
    smallest: tuple[int, int]  # height, width as found
    largest: tuple[int, int]
    shape: tuple[int, int, int]  # height, width, channels as learnt
    duplicates: Duplicates
    unreadable: int
    unreadable_files: tuple[str, ...]  # the first of them: name and reason


def lines(report: Report) -> list[str]:
    """The report for a terminal and for the card."""
    height, width, channels = report.shape
    counts = [each.train + each.validation + each.test for each in report.classes]
    found = " to ".join(dict.fromkeys(f"{side[1]}×{side[0]}" for side in (report.smallest, report.largest)))
    said = [
        f"{len(counts)} classes of {min(counts):,} to {max(counts):,} pictures; {found} pixels, "
        f"learnt as {width}×{height} in {'grey' if channels == 1 else 'colour'}"
    ]
    twice = report.duplicates
    if twice.dropped or twice.kept:
        said.append(f"duplicates: {twice.dropped} dropped from training, {twice.kept} within one part")
    if twice.contradictory:
        said.append(f"{twice.contradictory} pictures carry more than one label")
    if report.unreadable:
        said.append(f"{report.unreadable} unreadable files were skipped:")
        said += [f"  {each}" for each in report.unreadable_files]
        more = report.unreadable - len(report.unreadable_files)
        said += [f"  and {more} more"] if more else []
    return said
