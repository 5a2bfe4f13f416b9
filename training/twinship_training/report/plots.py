"""The plots of the model card: learning curve, confusion, reliability, worst mistakes. Needs no display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.metrics_model import Calibration, History
from twinship_training.report.results import CONFUSION, CURVE, MISTAKES, RELIABILITY
from twinship_training.tf_import import silenced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN: Final = 25  # mistakes
NAMED: Final = 20  # labels along an axis; more are not readable
LABEL_CHARACTERS: Final = 12
DPI: Final = 120


@dataclass(frozen=True, eq=False)
class Mistakes:
    """Wrong predictions, the highest confidence first: images uint8 (count, H, W, C), the others (count,)."""

    images: NDArray[np.uint8]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]


def worst(
    images: NDArray[np.uint8],
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    confidence: NDArray[np.float32],
) -> Mistakes:
    """At most SHOWN of the wrong predictions, the highest confidence first."""
    wrong = np.flatnonzero(truth != predicted)
    index = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]
    return Mistakes(images[index], truth[index], predicted[index], confidence[index])


def draw(
    folder: Path,
    labels: Sequence[str],
    history: History,
    confusion: Sequence[Sequence[int]],
    reliability: Calibration,
    mistakes: Mistakes,
) -> None:
    """Write four PNG files into a new folder."""
    folder.mkdir()
    short = [_short(label) for label in labels]
    with silenced():  # at its first use matplotlib prints that it builds its font cache
        _save(folder / CURVE, _curve(history))
        _save(folder / CONFUSION, _confusion(short, confusion))
        _save(folder / RELIABILITY, _reliability(reliability))
        _save(folder / MISTAKES, _mistakes(short, mistakes))


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _save(path: Path, figure: Figure) -> None:
    figure.savefig(path, metadata={"Software": None})  # no version number in the file


def _curve(history: History) -> Figure:
    figure = _figure(6, 3.5)
    epochs = range(1, len(history.loss) + 1)
    left = figure.subplots()
    left.plot(epochs, history.loss, "o-", color="tab:orange")
    left.set(xlabel="epoch", xticks=_ticks(len(history.loss)))
    left.set_ylabel("training loss", color="tab:orange")
    left.set_ylim(bottom=0)
    right = left.twinx()
    right.plot(epochs, [100 * share for share in history.validation], "s-", color="tab:blue")
    right.set_ylabel("validation accuracy, %", color="tab:blue")
    right.axvline(history.kept, color="grey", linestyle=":")
    right.set_title(f"Learning curve; epoch {history.kept} is the result", fontsize=10)
    return figure


def _ticks(epochs: int) -> list[int]:
    return list(range(1, epochs + 1, max(1, epochs // 10)))


def _confusion(labels: Sequence[str], table: Sequence[Sequence[int]]) -> Figure:
    counts = np.array(table, np.float64)
    side = min(12.0, 3.5 + 0.35 * len(labels))
    figure = _figure(side, side)
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
    figure = _figure(4.5, 5.5)
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    width = 1 / len(found.bins)
    middles = [(number + 0.5) * width for number in range(len(found.bins))]
    filled = [(middle, each) for middle, each in zip(middles, found.bins, strict=True) if each.count]
    above.bar([m for m, _ in filled], [each.accuracy for _, each in filled], 0.9 * width, color="tab:blue")
    above.plot([0, 1], [0, 1], "--", color="grey")
    above.plot(
        [each.confidence for _, each in filled], [each.accuracy for _, each in filled], "o", color="black"
    )
    above.set(ylabel="share of right predictions", ylim=(0, 1.05), xlim=(0, 1))
    above.set_title(
        f"Reliability; expected calibration error {100 * found.expected_error:.2f} points", fontsize=10
    )
    below.bar(middles, [each.count for each in found.bins], 0.9 * width, color="tab:grey")
    below.set(xlabel="confidence", ylabel="predictions", yscale="symlog")
    return figure


def _mistakes(labels: Sequence[str], found: Mistakes) -> Figure:
    if not len(found.truth):
        figure = _figure(4, 1)
        figure.text(0.5, 0.5, "No mistakes.", ha="center", va="center")
        return figure
    columns = 5
    rows = -(-len(found.truth) // columns)
    figure = _figure(7.5, 0.4 + 1.85 * rows)
    figure.suptitle("Mistakes with the highest confidence: truth → predicted (confidence)", fontsize=10)
    for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if number < len(found.truth):
            _picture(axes, found.images[number])
            confidence = f"{found.confidence[number]:.0%}"
            title = f"{labels[found.truth[number]]} →\n{labels[found.predicted[number]]} ({confidence})"
            axes.set_title(title, fontsize=7)
    return figure


def _picture(axes: Any, image: NDArray[np.uint8]) -> None:
    grey = image.shape[2] == 1
    axes.imshow(image[:, :, 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)


def _short(label: str) -> str:
    # In matplotlib "$" begins a formula.
    text = label.replace("$", r"\$")
    return text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1] + "…"
