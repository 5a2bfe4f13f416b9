"""The model card: one page of Markdown about a model, made from its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from inference.metrics_model import PLOTS, BoxReport, Cost, DatasetReport, Metrics
from twinship_training.convert import OPTIMISATIONS
from twinship_training.networks.detectors import NETWORKS
from twinship_training.report.results import DETECTION_PLOTS, PLOT_FILES

WORST_SHOWN: Final = 3
TABULATED: Final = 20  # classes; with more classes only the plot shows the confusion


def card(metrics: Metrics) -> str:
    """Markdown text."""
    sections = (_head, _data, _accuracy, _task_section, _costs, _candidates, _variants, _plots, _made)
    return "\n\n".join(paragraph for section in sections for paragraph in section(metrics)) + "\n"


def dataset_lines(report: DatasetReport) -> list[str]:
    """The data set's report for a terminal and for the card."""
    height, width, channels = report.shape
    counts = [each.train + each.validation + each.test for each in report.classes]
    found = " to ".join(dict.fromkeys(f"{side[1]}×{side[0]}" for side in (report.smallest, report.largest)))
    lines = [
        f"{len(counts)} classes of {min(counts):,} to {max(counts):,} "
        f"{'boxes' if report.boxes else 'pictures'}; {found} pixels, "
        f"learnt as {width}×{height} in {'grey' if channels == 1 else 'colour'}"
    ]
    duplicates = report.duplicates
    if duplicates.dropped or duplicates.kept:
        lines.append(
            f"duplicates: {duplicates.dropped} dropped from training, {duplicates.kept} within one split"
        )
    if duplicates.contradictory:
        lines.append(f"{duplicates.contradictory} pictures carry more than one label")
    if report.boxes:
        lines += _box_lines(report.boxes)
    if report.unreadable:
        lines.append(f"{report.unreadable} unreadable files were skipped:")
        lines += [f"  {each}" for each in report.unreadable_files]
        more = report.unreadable - len(report.unreadable_files)
        lines += [f"  and {more} more"] if more else []
    return lines


def measure(metrics: Metrics) -> str:
    """What the shares of `accuracy` are."""
    return "mAP50" if metrics.task == "detection" else "accuracy"


def _box_lines(boxes: BoxReport) -> list[str]:
    faults = {
        "cut to their picture": boxes.cut,
        "outside their picture, dropped": boxes.outside,
        "without width or height, dropped": boxes.inside_out,
        "repeated, dropped once": boxes.repeated,
        "crowds, dropped": boxes.crowds,
    }
    lines = [f"boxes {what}: {count}" for what, count in faults.items() if count]
    return [f"pictures without a box: {boxes.empty}", *lines] if boxes.empty else lines


def _head(metrics: Metrics) -> Iterator[str]:
    labels = _labels(metrics)
    height, width, channels = metrics.dataset.report.shape
    named = ", ".join(labels[:TABULATED]) + (", …" if len(labels) > TABULATED else "")
    inline = metrics.inline
    does, into = ("Finds objects in", ":") if metrics.task == "detection" else ("Classifies", " into")
    yield f"# {metrics.name} {metrics.version}"
    yield (
        f"{does} {width}×{height} {'grey' if channels == 1 else 'colour'} pictures{into} "
        f"{len(labels)} classes ({named}). Architecture `{metrics.architecture}`: "
        f"{NETWORKS[metrics.architecture].about}; {metrics.sizes.parameters:,} parameters; "
        f"{metrics.optimisation}: {OPTIMISATIONS[metrics.optimisation].about}."
    )
    yield (
        f"{metrics.sizes.artefact_bytes:,} bytes; {inline.characters:,} characters inline, "
        f"so it {'fits' if inline.fits else 'does not fit'} into a module twin ({inline.limit:,})."
    )


def _data(metrics: Metrics) -> Iterator[str]:
    data = metrics.dataset
    yield (
        f"Data: {data.name}: {data.source} ({data.why}). {data.train:,} pictures for the training, "
        f"{data.validation:,} to choose network and epoch, {data.test:,} to measure the result, once."
    )
    yield "\n".join(
        f"- {line}" if not line.startswith(" ") else f"  - {line.strip()}"
        for line in dataset_lines(data.report)
    )


def _accuracy(metrics: Metrics) -> Iterator[str]:
    found, name = metrics.accuracy, metrics.optimisation
    yield _table(
        f"{measure(metrics)} |",
        f"float32, before conversion | {found.float32:.2%}",
        *(f"{name} on {runtime} | {share:.2%}" for runtime, share in found.shipped.items()),
        f"lost by {name} | {100 * found.drop:.2f} points (at most {100 * found.max_drop:.2f})",
        f"target | {found.target:.2%}",
    )


def _task_section(metrics: Metrics) -> Iterator[str]:
    if metrics.task == "detection":
        yield from _precision(metrics)
    else:
        yield from _calibration(metrics)
        yield from _confusion(metrics)


def _precision(metrics: Metrics) -> Iterator[str]:
    yield (
        "Average precision at an IoU of 0.5 by pycocotools, with the test pictures; scores of at least 0.05 "
        "and 100 detections of a picture count. mAP50 is the mean over the labels."
    )
    yield _table(
        f"label | float32 | {metrics.optimisation}",
        *(f"{_cell(each.label)} | {each.float32:.2%} | {each.shipped:.2%}" for each in metrics.detection),
    )
    report = metrics.dataset.report
    yield "Sides of the boxes (square roots of areas) in pixels of the prepared pictures:"
    yield _table(
        "label | boxes to learn from | 5 % | median | 95 %",
        *(
            f"{_cell(each.label)} | {counts.train:,} | {each.p5:g} | {each.median:g} | {each.p95:g}"
            for each, counts in zip(report.boxes.sizes if report.boxes else (), report.classes, strict=True)
        ),
    )


def _costs(metrics: Metrics) -> Iterator[str]:
    yield _table(
        "this machine, one thread | median of one picture | memory",
        *(f"{runtime} | {_cost(cost)}" for runtime, cost in metrics.cost.items()),
    )


def _calibration(metrics: Metrics) -> Iterator[str]:
    found, name = metrics.calibration, metrics.optimisation
    if found is None:
        return
    yield (
        "Expected calibration error: the mean of |accuracy - confidence| over the test pictures, in "
        f"{len(found.bins)} bins of equal width. The temperature {found.temperature:.3f} divides the logits; "
        "the validation pictures decide it, and the last layer contains it."
    )
    rows = (
        ("float32, before calibration", found.float_error_before),
        ("float32, after calibration", found.float_error_after),
        (name, found.expected_error),
        ("95 % of perfectly calibrated models with these confidences, at most", found.perfect_p95),
    )
    yield _table(
        "expected calibration error |",
        *(f"{what} | {100 * error:.2f} points" for what, error in rows if error is not None),
    )


def _candidates(metrics: Metrics) -> Iterator[str]:
    if len(metrics.candidates) < 2:
        return
    yield f"Measured with validation pictures; the smallest within the limits is `{metrics.architecture}`:"
    yield _table(
        "network | parameters | bytes | right | median | limits",
        *(
            f"{each.architecture} | {each.parameters:,} | {each.tflite_bytes:,} | {each.accuracy:.2%} "
            f"| {each.p50_ms:.3f} ms | {'; '.join(each.failed) or 'passes'}"
            for each in metrics.candidates
        ),
    )
    yield from left_out_lines(metrics)


def left_out_lines(metrics: Metrics) -> list[str]:
    """The networks that were not trained, for a terminal and for the card."""
    return [f"{name} was left out: {why}" for name, why in metrics.left_out.items()]


def _variants(metrics: Metrics) -> Iterator[str]:
    rows = []
    for each in metrics.variants:
        begin = f"{each.optimisation} | {each.tflite_bytes:,} |"
        for runtime, found in each.runtimes.items():
            rows.append(f"{begin} {runtime} | {found.accuracy:.2%} | {_cost(found.cost)}")
        rows += [f"{begin} {runtime} | {why} | |" for runtime, why in each.refused.items()]
    if rows:
        yield "Optimisations of the same float model, measured with validation pictures:"
        yield _table("optimisation | bytes | runtime | right | median | memory", *rows)


def _cost(cost: Cost) -> str:
    return f"{cost.p50_ms:.3f} ms | {cost.memory_bytes / 1e6:.1f} MB"


def _table(head: str, *rows: str) -> str:
    """A Markdown table; "|" separates the cells."""
    return "\n".join((f"| {head} |", "|---" * (head.count("|") + 1) + "|", *(f"| {row} |" for row in rows)))


def _confusion(metrics: Metrics) -> Iterator[str]:
    labels, table = _labels(metrics), metrics.confusion
    if len(labels) <= TABULATED:
        yield f"Predicted labels (columns) of test pictures with these labels (rows), {metrics.optimisation}:"
        yield _table(
            f"| {' | '.join(labels)}",
            *(
                f"**{label}** | {' | '.join(str(count or '·') for count in row)}"
                for label, row in zip(labels, table, strict=True)
            ),
        )
    yield _mistakes(labels, table)


def _mistakes(labels: Sequence[str], table: Sequence[Sequence[int]]) -> str:
    """The commonest mistakes as text."""
    wrong = [
        (count, labels[truth], labels[answer])
        for truth, row in enumerate(table)
        for answer, count in enumerate(row)
        if count and truth != answer
    ]
    if not wrong:
        return "No mistakes."
    worst = sorted(wrong, key=lambda mistake: (-mistake[0], mistake[1:]))[:WORST_SHOWN]
    named = ", ".join(f"{truth} taken for {answer} ({count}×)" for count, truth, answer in worst)
    return f"{sum(count for count, _, _ in wrong)} mistakes; the commonest: {named}."


def _plots(metrics: Metrics) -> Iterator[str]:
    titles: tuple[str, ...] = (
        "Learning curve",
        "Confusion",
        "Reliability",
        "Mistakes with the highest confidence",
    )
    files: tuple[str, ...] = PLOT_FILES
    if metrics.task == "detection":
        titles, files = (
            ("Learning curve", "Precision and recall", "Pictures with most mistakes"),
            DETECTION_PLOTS,
        )
    plots = zip(titles, files, strict=True)
    yield "\n".join(f"![{title}]({PLOTS}/{name})" for title, name in plots)


def _made(metrics: Metrics) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in metrics.versions.items())
    yield "Made by"
    yield f"    {metrics.command}"
    yield (
        f"in {metrics.seconds['total']:.0f} s on {metrics.created}, seed {metrics.seed}, "
        f"epoch {metrics.history.kept} of {len(metrics.history.loss)} kept, with {versions}."
    )
    digests = {
        "weights": metrics.weights_sha256,
        "artefact": metrics.artefact_sha256,
        "data": metrics.dataset.fingerprint,
    }
    yield "\n".join(f"- {what} sha256 `{digest}`" for what, digest in digests.items())


def _labels(metrics: Metrics) -> list[str]:
    return [_cell(each.label) for each in metrics.dataset.report.classes]


def _cell(label: str) -> str:
    # In a Markdown table "|" begins another column.
    return label.replace("|", r"\|")
