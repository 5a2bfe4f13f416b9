"""The files of a training: model.tflite, card.md, plots/, frames/ and metrics.json.

A training writes them into a folder beside `out` and moves them at the end. metrics.json is removed first and
moved last: where it exists, all files belong together.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from PIL import Image

from inference.dataset.pictures import Pictures
from inference.metrics_model import CARD, FRAMES, METRICS, PLOTS, WITHOUT_METRICS, Metrics
from twinship_training import TrainingError

CURVE, CONFUSION, RELIABILITY, MISTAKES = "curve.png", "confusion.png", "reliability.png", "mistakes.png"
PLOT_FILES: Final = (CURVE, CONFUSION, RELIABILITY, MISTAKES)
TRUTH: Final = "truth.csv"  # `file,label`, as the simulated camera reads it


class ExportError(TrainingError):
    """The results cannot be written to `out`."""


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, on the same file system; always removed at the end. Raises ExportError."""
    _check(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = tempfile.TemporaryDirectory(
            prefix=f".{out.name}-", dir=out.parent, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise _not_writable(out, error) from error
    with staged as folder:
        yield Path(folder)


def _check(out: Path) -> None:
    frames = out / FRAMES
    if frames.exists() and not (frames / TRUTH).is_file():
        raise ExportError(f"{frames} has no {TRUTH}, so it is not ours to replace: use another --out")
    plots = out / PLOTS
    if plots.exists() and {each.name for each in plots.iterdir()} - set(PLOT_FILES):
        raise ExportError(f"{plots} has other files too, so it is not ours to replace: use another --out")
    if out.exists() and not (out.is_dir() and os.access(out, os.W_OK)):
        raise ExportError(f"{out} is not a folder that can be written to: use another --out")


def write(folder: Path, card: str, frames: Pictures, metrics: Metrics) -> None:
    """Write card, frames and metrics into `folder`, which has the model and the plots already."""
    (folder / CARD).write_text(card, encoding="utf-8")
    write_frames(folder / FRAMES, frames, [each.label for each in metrics.dataset.report.classes])
    (folder / METRICS).write_text(metrics.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")


def write_frames(folder: Path, pictures: Pictures, labels: Sequence[str]) -> None:
    """Write the pictures as 0000.png, 0001.png … and truth.csv, in their order."""
    folder.mkdir()
    with (folder / TRUTH).open("w", encoding="utf-8", newline="") as file:
        truth = csv.writer(file, lineterminator="\n")
        truth.writerow(("file", "label"))
        for number, (image, label) in enumerate(zip(pictures.images, pictures.labels, strict=True)):
            name = f"{number:04}.png"
            Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / name)
            truth.writerow((name, labels[label]))


def install(staged: Path, out: Path) -> None:
    """Move the staged files to `out`; other files there stay. Raises ExportError."""
    try:
        out.mkdir(exist_ok=True)
        (out / METRICS).unlink(missing_ok=True)
        for name in (FRAMES, PLOTS):
            if (out / name).exists():
                os.replace(out / name, staged / f"{name} before")
        for name in (*WITHOUT_METRICS, METRICS):
            os.replace(staged / name, out / name)
    except OSError as error:
        raise _not_writable(out, error) from error


def _not_writable(out: Path, error: OSError) -> ExportError:
    return ExportError(f"{out}: cannot write there: {error.strerror or error}; use another --out")
