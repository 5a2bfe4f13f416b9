"""What a training leaves behind: model.tflite, card.md, plots/, frames/ and, last, metrics.json.

Everything is written into a folder beside and moved into place at the end. metrics.json goes first and comes
last, so that where it stands the rest is whole. What the files say is decided elsewhere.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from PIL import Image
from pydantic import Field, ValidationError

from twinship_training import TrainingError
from twinship_training.choose import Candidate
from twinship_training.data import Pictures
from twinship_training.data.report import Report
from twinship_training.metrics_model import Facts
from twinship_training.report.calibration import Calibration

MODEL: Final = "model.tflite"
CARD: Final = "card.md"
METRICS: Final = "metrics.json"
FRAMES: Final = "frames"
PLOTS: Final = "plots"
CURVE, CONFUSION, RELIABILITY, MISTAKES = "curve.png", "confusion.png", "reliability.png", "mistakes.png"
PLOTTED: Final = (CURVE, CONFUSION, RELIABILITY, MISTAKES)
TRUTH: Final = "truth.csv"  # `file,label`, as the simulated camera reads it
PLACED: Final = (FRAMES, PLOTS, CARD, MODEL)


class ExportError(TrainingError):
    """The results cannot be put where they were asked for."""


class DatasetFacts(Facts):
    """Where the pictures came from and what was found; the counts are pictures."""

    name: str
    source: str
    why: str
    fingerprint: str
    train: int
    validation: int
    test: int
    report: Report


class Accuracy(Facts):
    """Shares of 1, on the test pictures unless said otherwise."""

    float32: float  # of the Keras model, before the conversion
    shipped: dict[str, float]  # runtime → accuracy of the artefact, asked through the device's engine
    drop: float  # float32 minus the worst of `shipped`
    validation: float  # float32, on the pictures by which the epoch was chosen
    target: float
    max_drop: float


class Sizes(Facts):
    artefact_bytes: int
    tflite_bytes: int
    parameters: int


class Inline(Facts):
    """What the artefact takes inside a twin, zlib and base64."""

    characters: int
    limit: int
    fits: bool


class Proof(Facts):
    """How quick one invoke was in the device's proof, here and in a niced process: an indication."""

    p50_ms: float
    p95_ms: float


class History(Facts):
    """Epoch by epoch, the first first."""

    loss: tuple[float, ...]  # the mean over the steps of training
    validation: tuple[float, ...]  # accuracy after it, a share of 1
    kept: int  # the epoch whose weights are the result, from 1


class Cost(Facts):
    """What the model takes on this machine: an indication."""

    p50_ms: float  # the median time of one picture, one thread
    memory_bytes: int  # resident memory that it added to the process


class VariantOn(Facts):
    """One optimisation on one runtime, by validation pictures."""

    accuracy: float
    cost: Cost


class Variant(Facts):
    """One way to convert the same float model."""

    optimisation: str
    tflite_bytes: int
    minimum_runtime: dict[str, str]  # runtime → lowest version that has its operators
    runtimes: dict[str, VariantOn]
    refused: dict[str, str]  # runtime of this machine → why it does not load it


class Metrics(Facts):
    """metrics.json: how the model was made and how it did."""

    schema_: Literal["twinship.metrics.v1"] = Field(default="twinship.metrics.v1", alias="schema")
    command: str
    name: str
    version: str
    architecture: str
    optimisation: str
    profile: str
    seed: int
    history: History
    dataset: DatasetFacts
    accuracy: Accuracy
    sizes: Sizes
    inline: Inline
    cost: dict[str, Cost]  # runtime → time and memory
    calibration: Calibration  # of the artefact on the preferred runtime, by the test pictures
    candidates: tuple[Candidate, ...]  # all that were tried, by the validation pictures
    variants: tuple[Variant, ...]  # where they were asked for
    proof: dict[str, Proof]  # runtime → speed
    weights_sha256: str  # of the float weights before conversion
    artefact_sha256: str
    seconds: dict[str, float]  # stage → how long it took; "total" of all
    versions: dict[str, str]
    created: str
    recipe_key: str  # of the settings and the code; with the data's fingerprint it says what can be kept
    confusion: list[list[int]]  # truth → answer → how often


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, on the same file system, gone at the end whatever happens.

    Raises ExportError.
    """
    _check(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise ExportError(
            f"{out}: cannot write there: {error.strerror or error}; use another --out"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check(out: Path) -> None:
    frames = out / FRAMES
    if frames.exists() and not (frames / TRUTH).is_file():
        raise ExportError(f"{frames} holds no {TRUTH}, so it is not ours to replace: use another --out")
    plots = out / PLOTS
    if plots.exists() and {each.name for each in plots.iterdir()} - set(PLOTTED):
        raise ExportError(
            f"{plots} holds more than our plots, so it is not ours to replace: use another --out"
        )
    if out.exists() and not (out.is_dir() and os.access(out, os.W_OK)):
        raise ExportError(f"{out} is not a folder that can be written to: use another --out")


def write(folder: Path, card: str, frames: Pictures, metrics: Metrics) -> None:
    """All results of a training but the model and the plots into one folder."""
    (folder / CARD).write_text(card, encoding="utf-8")
    write_frames(folder / FRAMES, frames, [each.label for each in metrics.dataset.report.classes])
    (folder / METRICS).write_text(metrics.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")


def write_frames(folder: Path, pictures: Pictures, labels: Sequence[str]) -> None:
    """Pictures as 0000.png, 0001.png … and truth.csv, in their order."""
    folder.mkdir()
    with (folder / TRUTH).open("w", encoding="utf-8", newline="") as file:
        truth = csv.writer(file, lineterminator="\n")
        truth.writerow(("file", "label"))
        for number, (image, label) in enumerate(zip(pictures.images, pictures.labels, strict=True)):
            name = f"{number:04}.png"
            Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / name)
            truth.writerow((name, labels[label]))


def install(staged: Path, out: Path) -> None:
    """Move what was staged to `out`; whatever else lies there is left alone. Raises ExportError."""
    try:
        out.mkdir(exist_ok=True)
        (out / METRICS).unlink(missing_ok=True)
        for name in (FRAMES, PLOTS):
            if (out / name).exists():
                os.replace(out / name, staged / f"{name} before")
        for name in (*PLACED, METRICS):
            os.replace(staged / name, out / name)
    except OSError as error:
        raise ExportError(
            f"{out}: cannot write there: {error.strerror or error}; use another --out"
        ) from error


def previous(out: Path) -> Metrics | None:
    """The metrics that lie there, if they are ours and the rest is there too, the model as they say."""
    try:
        metrics = Metrics.model_validate_json((out / METRICS).read_bytes())
        digest = hashlib.sha256((out / MODEL).read_bytes()).hexdigest()
    except (OSError, ValidationError):
        return None
    whole = digest == metrics.artefact_sha256 and all((out / name).exists() for name in PLACED)
    return metrics if whole else None
