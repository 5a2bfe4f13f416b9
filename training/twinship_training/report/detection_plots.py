"""The plots of a detector's card: learning curve, precision and recall, the pictures with most mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from inference.dataset.pictures import Pictures
from inference.evaluate import Predictions
from inference.heads import iou
from inference.metrics_model import Metrics
from twinship_training.report.plots import curve_figure, new_figure, save, short
from twinship_training.report.results import CURVE, PICTURES, PRECISION
from twinship_training.tf_import import silenced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN: Final = 6  # pictures
SCORE: Final = 0.3  # detections below it are not drawn
SAME: Final = 0.5  # IoU from which a detection and a box are the same object
LINES: Final = 20  # labels with a line of their own


def draw(folder: Path, metrics: Metrics, test: Pictures, found: Predictions) -> None:
    """Write three PNG files into a new folder: from the metrics, the test pictures and their detections."""
    folder.mkdir()
    with silenced():
        save(folder / CURVE, curve_figure(metrics.history, "mAP50"))
        save(folder / PRECISION, _precision(metrics))
        save(folder / PICTURES, pictures_figure(metrics, test, found.detections))


def wrong(found: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,): for each row of `found`, label first and box last, whether `truth` has no such object."""
    same = [
        bool((iou(row[-4:], truth[truth[:, 0] == row[0]][:, -4:]) >= SAME).any()) if len(truth) else False
        for row in found
    ]
    return ~np.array(same, bool)


def worst(test: Pictures, found: tuple[NDArray[np.float32], ...]) -> list[int]:
    """The indices of at most SHOWN pictures, most mistakes first: missed boxes and wrong detections."""
    mistakes = []
    for rows, labels in zip(found, test.labels, strict=True):
        shown, truth = rows[rows[:, 1] >= SCORE], labels[labels[:, 0] >= 0]
        mistakes.append(int(wrong(shown, truth).sum() + wrong(truth, shown).sum()))
    order: list[int] = np.argsort(-np.array(mistakes), kind="stable")[:SHOWN].tolist()
    return order


def _precision(metrics: Metrics) -> Figure:
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for each in metrics.detection[:LINES]:
        recall = np.linspace(0, 1, len(each.curve))
        axes.plot(recall, each.curve, label=f"{short(each.label)} {each.shipped:.1%}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"{metrics.optimisation}, IoU 0.5; label and average precision", fontsize=10)
    axes.legend(fontsize=7)
    return figure


def pictures_figure(metrics: Metrics, test: Pictures, found: tuple[NDArray[np.float32], ...]) -> Figure:
    """The pictures with most mistakes, their boxes and the detections."""
    labels = [short(each.label) for each in metrics.dataset.report.classes]
    shown = worst(test, found)
    rows = -(-len(shown) // 2)
    height, width, _ = test.shape
    figure = new_figure(9, 0.5 + 4.4 * rows * height / width)
    figure.suptitle("White: truth. Green: found. Red: found where there is no such object.", fontsize=10)
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, index in zip(grid, shown, strict=False):
        axes.imshow(test.images[index].squeeze(), cmap="gray", vmin=0, vmax=255)
        truth = test.labels[index][test.labels[index][:, 0] >= 0]
        rows_found = found[index][found[index][:, 1] >= SCORE]
        for row in truth:
            _box(axes, row[1:], (width, height), "white", "")
        for row, bad in zip(rows_found, wrong(rows_found, truth), strict=True):
            text = f"{labels[int(row[0])]} {row[1]:.0%}"
            _box(axes, row[2:], (width, height), "red" if bad else "lime", text)
    return figure


def _box(axes: Axes, box: NDArray[np.float32], size: tuple[int, int], colour: str, text: str) -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = (box * np.array((*size, *size))).tolist()
    style = "--" if colour == "white" else "-"
    corner = (left, top)
    axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, color=colour, linestyle=style))
    if text:
        axes.text(left, top, text, color=colour, fontsize=5)
