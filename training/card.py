"""The model's card: what a person wants to know of a model, on one page of Markdown. Computes nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from training.architectures import ARCHITECTURES
from training.data import LABELS
from training.export import Inline, Metrics

WORST_SHOWN: Final = 3


def card(metrics: Metrics) -> str:
    """Markdown text."""
    return "\n".join(
        (*_head(metrics), *_accuracy(metrics), *_confusion(metrics.confusion), *_made(metrics), "")
    )


def _head(metrics: Metrics) -> list[str]:
    data = metrics.dataset
    return [
        f"# {metrics.name} {metrics.version}",
        "",
        "Recognises handwritten digits in 28×28 grey pictures, white on black. Architecture "
        f"`{metrics.architecture}`: {ARCHITECTURES[metrics.architecture].about}; "
        f"{metrics.sizes.parameters:,} parameters, all int8.",
        "",
        f"Learnt from {data.name}: {data.source} ({data.why}). {data.train:,} pictures were learnt from, "
        f"{data.validation:,} chose the epoch, {data.test:,} judged the result, once.",
        "",
        _size(metrics.sizes.artefact_bytes, metrics.inline),
        "",
    ]


def _size(artefact_bytes: int, inline: Inline) -> str:
    verdict = "fits" if inline.fits else "does not fit"
    return (
        f"{artefact_bytes:,} bytes; {inline.characters:,} characters inline, "
        f"so it {verdict} into a module twin ({inline.limit:,})."
    )


def _accuracy(metrics: Metrics) -> list[str]:
    found = metrics.accuracy
    return [
        "| accuracy | |",
        "|---|---|",
        f"| float32, before conversion | {found.float32:.2%} |",
        *(f"| int8 on {runtime} | {share:.2%} |" for runtime, share in found.int8.items()),
        f"| lost by int8 | {100 * found.drop:.2f} points (at most {100 * found.max_drop:.2f}) |",
        f"| target | {found.target:.2%} |",
        "",
    ]


def _confusion(table: Sequence[Sequence[int]]) -> list[str]:
    return [
        "What it answered (across) to what it was shown (down), int8:",
        "",
        f"| | {' | '.join(LABELS)} |",
        "|---" * (len(LABELS) + 1) + "|",
        *(
            f"| **{label}** | {' | '.join(str(count or '·') for count in row)} |"
            for label, row in zip(LABELS, table, strict=True)
        ),
        "",
        _mistakes(table),
        "",
    ]


def _mistakes(table: Sequence[Sequence[int]]) -> str:
    """The commonest mistakes in words."""
    wrong = [
        (count, LABELS[truth], LABELS[answer])
        for truth, row in enumerate(table)
        for answer, count in enumerate(row)
        if count and truth != answer
    ]
    if not wrong:
        return "No mistakes."
    worst = sorted(wrong, key=lambda mistake: (-mistake[0], mistake[1:]))[:WORST_SHOWN]
    told = ", ".join(f"{truth} taken for {answer} ({count}×)" for count, truth, answer in worst)
    return f"{sum(count for count, _, _ in wrong)} mistakes; the commonest: {told}."


def _made(metrics: Metrics) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in metrics.versions.items())
    return [
        "Made by",
        "",
        f"    {metrics.command}",
        "",
        f"in {metrics.seconds['total']:.0f} s on {metrics.created}, "
        f"epoch {metrics.kept_epoch} of {metrics.epochs} kept, with {versions}.",
        "",
        f"- weights sha256 `{metrics.weights_sha256}`",
        f"- artefact sha256 `{metrics.artefact_sha256}`",
        f"- data sha256 `{metrics.dataset.fingerprint}`",
    ]
