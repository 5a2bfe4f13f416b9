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
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.dataset.pictures import Pictures
from inference.metrics_model import CARD, FRAMES, METRICS, PLOTS, WITHOUT_METRICS, Metrics
from twinship_training import TrainingError

CURVE, CONFUSION, RELIABILITY, MISTAKES = "curve.png", "confusion.png", "reliability.png", "mistakes.png"
PRECISION, PICTURES = "precision.png", "pictures.png"
PLOT_FILES: Final = (CURVE, CONFUSION, RELIABILITY, MISTAKES)
DETECTION_PLOTS: Final = (CURVE, PRECISION, PICTURES)
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
    if plots.exists() and {each.name for each in plots.iterdir()} - {*PLOT_FILES, *DETECTION_PLOTS}:
        raise ExportError(f"{plots} has other files too, so it is not ours to replace: use another --out")
    if out.exists() and not (out.is_dir() and os.access(out, os.W_OK)):
        raise ExportError(f"{out} is not a folder that can be written to: use another --out")


def write(folder: Path, card: str, frames: Pictures, metrics: Metrics) -> None:
    """Write card, frames and metrics into `folder`, which has the model and the plots already."""
    (folder / CARD).write_text(card, encoding="utf-8")
    labels = [each.label for each in metrics.dataset.report.classes]
    if metrics.task == "detection":
        write_box_frames(folder / FRAMES, frames, labels)
    else:
        write_frames(folder / FRAMES, frames, labels)
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


def write_box_frames(folder: Path, pictures: Pictures, labels: Sequence[str]) -> None:
    """Write the pictures as 0000.png …, and their boxes as Pascal VOC: 0000.xml … beside them."""
    folder.mkdir()
    (folder / TRUTH).write_text(
        "file,label\n", encoding="utf-8"
    )  # marks the folder as ours; boxes are in XML
    for number, (image, rows) in enumerate(zip(pictures.images, pictures.labels, strict=True)):
        name = f"{number:04}.png"
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / name)
        tree = _voc(name, image.shape, [(labels[int(row[0])], row[1:]) for row in rows if row[0] >= 0])
        (folder / name).with_suffix(".xml").write_bytes(tostring(tree, encoding="utf-8"))


def _voc(name: str, shape: tuple[int, ...], boxes: Sequence[tuple[str, NDArray[np.float32]]]) -> Element:
    height, width, depth = shape
    root = Element("annotation")
    SubElement(root, "filename").text = name
    size = SubElement(root, "size")
    for tag, number in (("width", width), ("height", height), ("depth", depth)):
        SubElement(size, tag).text = str(number)
    for label, sides in boxes:
        found = SubElement(root, "object")
        SubElement(found, "name").text = label
        corners = SubElement(found, "bndbox")
        scale = (width, height, width, height)
        for tag, side, pixels in zip(("xmin", "ymin", "xmax", "ymax"), sides.tolist(), scale, strict=True):
            SubElement(corners, tag).text = f"{side * pixels:.2f}"
    return root


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
