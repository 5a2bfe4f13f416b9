"""The model's card: what a person wants to know of a model, on one page of Markdown. Computes nothing new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from twinship_training.convert import OPTIMISATIONS
from twinship_training.data.report import lines
from twinship_training.networks.architectures import ARCHITECTURES
from twinship_training.report.results import CONFUSION, CURVE, MISTAKES, PLOTS, RELIABILITY, Inline, Metrics

WORST_SHOWN: Final = 3
TABULATED: Final = 20  # classes; a larger table is left to the plot


def card(metrics: Metrics) -> str:
    """Markdown text."""
    parts = (_head, _data, _accuracy, _candidates, _variants, _confusion, _plots, _made)
    return "\n".join(line for part in parts for line in (*part(metrics), "")).rstrip("\n") + "\n"


def _head(metrics: Metrics) -> Iterator[str]:
    labels = _labels(metrics)
    height, width, channels = metrics.dataset.report.shape
    named = ", ".join(labels[:TABULATED]) + (", …" if len(labels) > TABULATED else "")
    yield f"# {metrics.name} {metrics.version}"
    yield ""
    yield (
        f"Tells {len(labels)} classes apart ({named}) in {width}×{height} "
        f"{'grey' if channels == 1 else 'colour'} pictures. Architecture `{metrics.architecture}`: "
        f"{ARCHITECTURES[metrics.architecture].about}; {metrics.sizes.parameters:,} parameters; "
        f"{metrics.optimisation}: {OPTIMISATIONS[metrics.optimisation].about}."
    )
    yield ""
    yield _size(metrics.sizes.artefact_bytes, metrics.inline)


def _size(artefact_bytes: int, inline: Inline) -> str:
    verdict = "fits" if inline.fits else "does not fit"
    return (
        f"{artefact_bytes:,} bytes; {inline.characters:,} characters inline, "
        f"so it {verdict} into a module twin ({inline.limit:,})."
    )


def _data(metrics: Metrics) -> Iterator[str]:
    data = metrics.dataset
    yield (
        f"Learnt from {data.name}: {data.source} ({data.why}). {data.train:,} pictures were learnt from, "
        f"{data.validation:,} chose the network and the epoch, {data.test:,} judged the result, once."
    )
    yield ""
    yield from (
        f"- {line}" if not line.startswith(" ") else f"  - {line.strip()}" for line in lines(data.report)
    )


def _accuracy(metrics: Metrics) -> Iterator[str]:
    found, name = metrics.accuracy, metrics.optimisation
    yield "| accuracy | |"
    yield "|---|---|"
    yield f"| float32, before conversion | {found.float32:.2%} |"
    yield from (f"| {name} on {runtime} | {share:.2%} |" for runtime, share in found.shipped.items())
    yield f"| lost by {name} | {100 * found.drop:.2f} points (at most {100 * found.max_drop:.2f}) |"
    yield f"| target | {found.target:.2%} |"
    yield f"| expected calibration error | {100 * metrics.calibration.expected_error:.2f} points |"
    yield ""
    yield "| here, one thread | median of one picture | memory |"
    yield "|---|---|---|"
    for runtime, cost in metrics.cost.items():
        yield f"| {runtime} | {cost.p50_ms:.3f} ms | {cost.memory_bytes / 1e6:.1f} MB |"


def _candidates(metrics: Metrics) -> Iterator[str]:
    if len(metrics.candidates) < 2:
        return
    yield f"Tried, by the validation pictures; the smallest within the limits is `{metrics.architecture}`:"
    yield ""
    yield "| network | parameters | bytes | right | median | limits |"
    yield "|---|---|---|---|---|---|"
    for each in metrics.candidates:
        verdict = "; ".join(each.failed) or "passes"
        yield (
            f"| {each.architecture} | {each.parameters:,} | {each.tflite_bytes:,} | {each.accuracy:.2%} "
            f"| {each.p50_ms:.3f} ms | {verdict} |"
        )


def _variants(metrics: Metrics) -> Iterator[str]:
    if not metrics.variants:
        return
    yield "Optimisations of the same float model, by validation pictures:"
    yield ""
    yield "| optimisation | bytes | runtime | right | median | memory |"
    yield "|---|---|---|---|---|---|"
    for each in metrics.variants:
        begin = f"| {each.optimisation} | {each.tflite_bytes:,} |"
        for runtime, found in each.runtimes.items():
            cost = found.cost
            took = f"{cost.p50_ms:.3f} ms | {cost.memory_bytes / 1e6:.1f} MB"
            yield f"{begin} {runtime} | {found.accuracy:.2%} | {took} |"
        yield from (f"{begin} {runtime} | {why} | | |" for runtime, why in each.refused.items())


def _confusion(metrics: Metrics) -> Iterator[str]:
    labels, table = _labels(metrics), metrics.confusion
    if len(labels) <= TABULATED:
        yield f"What it answered (across) to what it was shown (down), {metrics.optimisation}:"
        yield ""
        yield f"| | {' | '.join(labels)} |"
        yield "|---" * (len(labels) + 1) + "|"
        for label, row in zip(labels, table, strict=True):
            yield f"| **{label}** | {' | '.join(str(count or '·') for count in row)} |"
        yield ""
    yield _mistakes(labels, table)


def _mistakes(labels: Sequence[str], table: Sequence[Sequence[int]]) -> str:
    """The commonest mistakes in words."""
    wrong = [
        (count, labels[truth], labels[answer])
        for truth, row in enumerate(table)
        for answer, count in enumerate(row)
        if count and truth != answer
    ]
    if not wrong:
        return "No mistakes."
    worst = sorted(wrong, key=lambda mistake: (-mistake[0], mistake[1:]))[:WORST_SHOWN]
    told = ", ".join(f"{truth} taken for {answer} ({count}×)" for count, truth, answer in worst)
    return f"{sum(count for count, _, _ in wrong)} mistakes; the commonest: {told}."


def _plots(metrics: Metrics) -> Iterator[str]:
    for title, name in (
        ("Learning curve", CURVE),
        ("Confusion", CONFUSION),
        ("Reliability", RELIABILITY),
        ("The surest mistakes", MISTAKES),
    ):
        yield f"![{title}]({PLOTS}/{name})"


def _made(metrics: Metrics) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in metrics.versions.items())
    yield "Made by"
    yield ""
    yield f"    {metrics.command}"
    yield ""
    yield (
        f"in {metrics.seconds['total']:.0f} s on {metrics.created}, seed {metrics.seed}, "
        f"epoch {metrics.history.kept} of {len(metrics.history.loss)} kept, with {versions}."
    )
    yield ""
    yield f"- weights sha256 `{metrics.weights_sha256}`"
    yield f"- artefact sha256 `{metrics.artefact_sha256}`"
    yield f"- data sha256 `{metrics.dataset.fingerprint}`"


def _labels(metrics: Metrics) -> list[str]:
    # "|" would begin another column.
    return [each.label.replace("|", r"\|") for each in metrics.dataset.report.classes]
