"""Packs a foreign TFLite model: chooses, makes probes from the answers here, proves, and writes the artefact.

The model runs in child processes only, because a damaged flatbuffer can kill its process. The artefact
appears under its name after every installed runtime has proved it as a device does.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference import evaluate
from inference.artefact import (
    MAX_PROBES,
    WORD_PATTERN,
    BadArtefact,
    InputSpec,
    Manifest,
    Probes,
    Reference,
    pack,
)
from inference.drift.reference import LEAST_PICTURES, reference
from inference.frames.preprocess import prepare
from inference.predict import FilePicture, read_prepared
from twinship.packaging import NotPackaged
from twinship.packaging.choose import Chosen, Options, choose
from twinship.packaging.model_file import ModelFile, read

RUN_TIMEOUT_S: Final = 120.0
MAX_PROBE_BYTES: Final = 8 * 1024 * 1024
OWN_PROBES: Final = 3
CANDIDATES: Final = 16
MAX_DRIFT_PICTURES: Final = 500
MAX_DRIFT_BYTES: Final = 256 * 1024 * 1024  # of prepared pictures
NOTHING_FOUND: Final = (
    "no probe shows anything that the model finds: a device proves only that it runs; cure: --probes FOLDER"
)
PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp"})


@dataclass(frozen=True)
class Request:
    """What to pack."""

    file: Path
    out: Path
    name: str
    version: str
    options: Options = field(default_factory=Options)
    probes: Path | None = None  # a folder of pictures
    drift: Path | None = None  # a folder of pictures as the camera sends them
    latency_budget_ms: float = 0.0  # 0: ten times the median time of the slowest runtime, at least 20 ms

    def __post_init__(self) -> None:
        """Raise NotPackaged for a name or version that a twin cannot carry."""
        for option, word in (("name", self.name), ("version", self.version)):
            if not re.fullmatch(WORD_PATTERN, word):
                text = "use letters, digits, '.', '_' and '-', at most 64"
                raise NotPackaged(f"--{option} {word}: {text}")


@dataclass(frozen=True)
class Packaged:
    """What was packed. `notes` are lines for the user: decisions and their reasons."""

    out: Path
    manifest: Manifest
    labels: int
    probes: int
    size: int
    p50_ms: Mapping[str, float]  # runtime → of one invoke here
    notes: tuple[str, ...]


def default_name(file: Path) -> str:
    """Return a name for the model in a file of this name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", file.name.removesuffix(".tflite"))[:64].strip("-") or "model"


def package(request: Request) -> Packaged:
    """Pack one file. Raises NotPackaged, and evaluate's NotVerified; nothing is written then."""
    try:
        model = read(request.file.read_bytes())
    except NotPackaged as error:
        raise NotPackaged(f"{request.file}: {error}") from error
    chosen = choose(model, request.options)
    pictures = _pictures(request.probes, chosen.input)
    stand_in = _packed(model, request, chosen, _stand_in(chosen, pictures))
    found = _run(request.file, stand_in, pictures)
    probes, notes = _probes(chosen, pictures, found, own=request.probes is not None)
    p50_ms = {runtime: each.cost.p50_ms for runtime, each in found.items()}
    budget_ms = 10 * max(p50_ms.values())  # a device may have any of the runtimes
    manifest = _manifest(model, request, chosen, budget_ms)
    if request.drift is not None:
        made = _reference(request, chosen, stand_in, request.drift, found)
        manifest = manifest.model_copy(update={"reference": made})
    data = _packed(model, request, chosen, probes, manifest)
    _write(data, request.out)
    return Packaged(
        request.out,
        manifest,
        len(chosen.labels),
        probes.count,
        len(data),
        p50_ms,
        (*chosen.because, *notes),
    )


def _manifest(model: ModelFile, request: Request, chosen: Chosen, budget_ms: float) -> Manifest:
    return Manifest(
        name=request.name,
        version=request.version,
        architecture=model.metadata.name[:64] or "packaged",
        input=chosen.input,
        task=chosen.task,
        head=chosen.head,
        latencyBudgetMs=round(request.latency_budget_ms or max(20.0, budget_ms), 3),
        weightsSha256=hashlib.sha256(model.flatbuffer).hexdigest(),
    )


def _packed(
    model: ModelFile, request: Request, chosen: Chosen, probes: Probes, manifest: Manifest | None = None
) -> bytes:
    manifest = manifest or _manifest(model, request, chosen, 1000.0)
    try:
        return pack(model.flatbuffer, manifest, chosen.labels, probes)
    except BadArtefact as error:
        raise NotPackaged(f"{request.file}: {error.reason}") from error


def _run(
    file: Path, stand_in: bytes, pictures: NDArray[np.uint8], skip: Collection[str] = ()
) -> dict[str, evaluate.Predictions]:
    try:
        return evaluate.evaluate(stand_in, pictures, skip, timeout_s=RUN_TIMEOUT_S)
    except evaluate.NotEvaluated as error:
        raise NotPackaged(f"{file}: the model does not run: {error}") from error


def _reference(
    request: Request, chosen: Chosen, stand_in: bytes, folder: Path, runtimes: Iterable[str]
) -> Reference | None:
    """What these pictures look like to the model on the preferred runtime, for the detection of drift."""
    most = min(MAX_DRIFT_PICTURES, max(LEAST_PICTURES, MAX_DRIFT_BYTES // chosen.input.pixels))
    pictures = _read_pictures(folder, chosen.input, most)
    if len(pictures) < LEAST_PICTURES:
        raise NotPackaged(
            f"--drift {folder}: {len(pictures)} readable pictures; cure: at least {LEAST_PICTURES}, "
            "as the camera sends them"
        )
    preferred, *others = runtimes
    measures = _run(request.file, stand_in, np.stack(pictures), others)[preferred].measures
    return None if measures is None else reference(chosen.task, measures, len(chosen.labels))


def _write(data: bytes, out: Path) -> None:
    """Prove the artefact as a device does, then put it in its place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".package-", dir=out.parent) as folder:
        made = Path(folder) / out.name
        made.write_bytes(data)
        evaluate.prove(made)
        os.replace(made, out)


# -- probes --------------------------------------------------------------------------------------------------


def _pictures(folder: Path | None, spec: InputSpec) -> NDArray[np.uint8]:
    """The candidates for probes, prepared for the model."""
    if folder is None:
        return np.stack([_drawn(spec, seed) for seed in range(CANDIDATES)])
    pictures = _read_pictures(folder, spec, MAX_PROBES)
    if not pictures:
        raise NotPackaged(f"{folder}: no readable picture; cure: --probes with a folder of PNG, JPEG or BMP")
    return np.stack(pictures)


def _read_pictures(folder: Path, spec: InputSpec, most: int) -> list[NDArray[np.uint8]]:
    """The readable ones of at most so many files, evenly spaced by name, prepared for the model."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    taken = files if len(files) <= most else [files[len(files) * place // most] for place in range(most)]
    read = (read_prepared(path, spec) for path in taken)
    return [each.pixels for each in read if isinstance(each, FilePicture)]


def _drawn(spec: InputSpec, seed: int) -> NDArray[np.uint8]:
    """Soft spots of colour: the same pixels on every machine, and nothing that a picture could not show."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    picture = Image.fromarray(colours).resize((spec.width, spec.height), Image.Resampling.BICUBIC)
    return np.array(prepare(np.asarray(picture), spec))


def _stand_in(chosen: Chosen, pictures: NDArray[np.uint8]) -> Probes:
    """Probes for the first run, which nobody checks."""
    if chosen.task == "detection":
        return Probes(pictures[0].tobytes(), detections=((),))
    return Probes(pictures[0].tobytes(), (chosen.labels[0],))


def _probes(
    chosen: Chosen, pictures: NDArray[np.uint8], found: Mapping[str, evaluate.Predictions], *, own: bool
) -> tuple[Probes, list[str]]:
    """The probes on whose answers all runtimes agree, and notes for the user."""
    most = max(1, min(MAX_PROBES if own else OWN_PROBES, MAX_PROBE_BYTES // chosen.input.pixels))
    answers = list(found.values())
    if chosen.task == "detection":
        shown = [
            evaluate.agreed(chosen.labels, chosen.head, [each.detections[index] for each in answers])
            for index in range(len(pictures))
        ]
        best = sorted(range(len(pictures)), key=lambda index: -len(shown[index]))[:most]
        notes = [] if shown[best[0]] else [NOTHING_FOUND]
        if chosen.head.kind == "yolo" and notes:
            notes.append("if the model counts its boxes in pixels, not in shares of the input: --box-pixels")
        return Probes(pictures[best].tobytes(), detections=tuple(shown[index] for index in best)), notes
    agreed = np.all([each.labels == answers[0].labels for each in answers], axis=0)
    sure = np.min([each.confidence for each in answers], axis=0)
    best = sorted(np.flatnonzero(agreed).tolist(), key=lambda index: -float(sure[index]))[:most]
    if not best:
        raise NotPackaged("the installed runtimes answer every probe differently; cure: --probes FOLDER")
    omitted = int((~agreed).sum()) if own else 0
    notes = [f"{omitted} probes are left out: the runtimes answer differently"] if omitted else []
    expected = tuple(chosen.labels[answers[0].labels[index]] for index in best)
    return Probes(pictures[best].tobytes(), expected), notes
