"""The plots of the model card: learning curve, confusion, reliability, worst mistakes. Needs no display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from inference.dataset.pictures import Pictures
from inference.evaluate import Predictions
from inference.metrics_model import Calibration, History, Metrics
from twinship_training.report.results import CONFUSION, CURVE, MISTAKES, RELIABILITY
from twinship_training.tf_import import silenced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN: Final = 25  # mistakes
NAMED: Final = 20  # labels along an axis; more are not readable
LABEL_CHARACTERS: Final = 12
DPI: Final = 120


def worst(truth: NDArray[np.int64], found: Predictions) -> NDArray[np.int64]:
    """The indices of at most SHOWN of the wrong predictions, the highest confidence first."""
    wrong = np.flatnonzero(truth != found.labels)
    return wrong[np.argsort(-found.confidence[wrong], kind="stable")][:SHOWN]


def draw(folder: Path, metrics: Metrics, test: Pictures, found: Predictions) -> None:
    """Write four PNG files into a new folder: from the metrics, the test pictures and their predictions."""
    assert metrics.calibration is not None  # a classifier has one
    folder.mkdir()
    labels = [short(each.label) for each in metrics.dataset.report.classes]
    with silenced():  # at its first use matplotlib prints that it builds its font cache
        save(folder / CURVE, curve_figure(metrics.history))
        save(folder / CONFUSION, _confusion(labels, metrics.confusion))
        save(folder / RELIABILITY, _reliability(metrics.calibration))
        save(folder / MISTAKES, mistakes_figure(labels, test, found))


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches, without a display."""
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save(path: Path, figure: Figure) -> None:
    """Write a PNG file."""
    figure.savefig(path, metadata={"Software": None})  # no version number in the file


def curve_figure(history: History, measure: str = "accuracy") -> Figure:
    """Loss and validation of each epoch."""
    figure = new_figure(6, 3.5)
    epochs = range(1, len(history.loss) + 1)
    left = figure.subplots()
    left.plot(epochs, history.loss, "o-", color="tab:orange")
    left.set(xlabel="epoch", xticks=epochs[:: max(1, len(epochs) // 10)])
    left.set_ylabel("training loss", color="tab:orange")
    left.set_ylim(bottom=0)
    right = left.twinx()
    right.plot(epochs, [100 * share for share in history.validation], "s-", color="tab:blue")
    right.set_ylabel(f"validation {measure}, %", color="tab:blue")
    right.axvline(history.kept, color="grey", linestyle=":")
    right.set_title(f"Learning curve; epoch {history.kept} is the result", fontsize=10)
    return figure


def _confusion(labels: Sequence[str], table: Sequence[Sequence[int]]) -> Figure:
    counts = np.array(table, np.float64)
    side = min(12.0, 3.5 + 0.35 * len(labels))
    figure = new_figure(side, side)
    axes = figure.subplots()
    # The colour is the square root of the share in its row, so that single mistakes are visible.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="truth", title="Predictions for the test pictures")
    if len(labels) <= NAMED:
        _names(axes, labels)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.4 else "black"
                axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour, fontsize=7)
    return figure


def _names(axes: Axes, labels: Sequence[str]) -> None:
    turned = 0 if max(map(len, labels)) <= 2 else 90
    axes.set_xticks(range(len(labels)), labels, rotation=turned)
    axes.set_yticks(range(len(labels)), labels)


def _reliability(found: Calibration) -> Figure:
    figure = new_figure(4.5, 5.5)
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    width = 1 / len(found.bins)
    middles = [(number + 0.5) * width for number in range(len(found.bins))]
    filled = [each for each in found.bins if each.count]
    above.bar(middles, [each.accuracy for each in found.bins], 0.9 * width, color="tab:blue")
    above.plot([0, 1], [0, 1], "--", color="grey")
    above.plot([each.confidence for each in filled], [each.accuracy for each in filled], "o", color="black")
    above.set(ylabel="share of right predictions", ylim=(0, 1.05), xlim=(0, 1))
    above.set_title(
        f"Reliability; expected calibration error {100 * found.expected_error:.2f} points", fontsize=10
    )
    below.bar(middles, [each.count for each in found.bins], 0.9 * width, color="tab:grey")
    below.set(xlabel="confidence", ylabel="predictions", yscale="symlog")
    return figure


def mistakes_figure(labels: Sequence[str], test: Pictures, found: Predictions) -> Figure:
    """The wrong predictions of the test pictures."""
    shown = worst(test.labels, found)
    if not len(shown):
        figure = new_figure(4, 1)
        figure.text(0.5, 0.5, "No mistakes.", ha="center", va="center")
        return figure
    columns = 5
    rows = -(-len(shown) // columns)
    figure = new_figure(7.5, 0.4 + 1.85 * rows)
    figure.suptitle("Mistakes with the highest confidence: truth → predicted (confidence)", fontsize=10)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, index in zip(grid, shown, strict=False):
        axes.imshow(test.images[index].squeeze(), cmap="gray", vmin=0, vmax=255)  # colour has no map
        truth, predicted = labels[test.labels[index]], labels[found.labels[index]]
        axes.set_title(f"{truth} →\n{predicted} ({found.confidence[index]:.0%})", fontsize=7)
    return figure


def short(label: str) -> str:
    """A label for a plot."""
    # In matplotlib "$" begins a formula.
    text = label.replace("$", r"\$")
    return text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1] + "…"
