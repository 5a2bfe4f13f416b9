"""One training from settings to results: data, fit, int8, verification, artefact.

The order of things, and what is kept from an earlier run; each step's rules are in the file named for it.
TensorFlow is imported when a training begins and not before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from inference import wish
from inference.artefact import Artefact, Manifest, Probes, pack, read
from inference.prove import Proved
from training import convert, export, verify
from training.architectures import ARCHITECTURES
from training.ask import Answers, ask
from training.card import card
from training.data import LABELS, Dataset, find, spread
from training.download import download
from training.export import Accuracy, DatasetFacts, Inline, Metrics, Proof, Sizes
from training.fit import Fitted, Progress, fit, input_spec, predictions
from training.kept import kept, recipe_key, same_data, versions, was_digits
from training.settings import SettingsError, TrainSettings

__all__ = ["SettingsError", "TrainResult", "TrainSettings", "train"]

FRAMES: Final = 500
#: A second training in the same process would wait as long for the same answer.
download_once: Final = cache(download)
#: From which share of the whole work to which: a fit takes most of it.
FIT_FROM, FIT_TO, CONVERTED, VERIFIED = 0.05, 0.85, 0.9, 0.98
Confusion = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TrainResult:
    """Where the results lie and what was measured; `cached`: they were there already."""

    folder: Path
    metrics: Metrics
    cached: bool

    @property
    def artefact(self) -> Path:
        return self.folder / export.MODEL

    @property
    def frames(self) -> Path:
        return self.folder / export.FRAMES

    @property
    def card(self) -> Path:
        return self.folder / export.CARD


def train(settings: TrainSettings, progress: Progress, dataset: Dataset | None = None) -> TrainResult:
    """Train a model and leave its files in `settings.out`, or find them there, made by the same settings.

    `progress` is told what is being done and which share of 1 is done. `dataset` spares the search when the
    caller has one. Raises TrainingError: DataError, ExportError, NotAnswered, NotVerified (below the target).
    Then, and after Ctrl-C, `out` is as it was and nothing half made is left.
    """
    started = time.monotonic()
    key = recipe_key(settings)
    before = kept(settings, key)
    progress("data", 0.0)
    fetch = None if was_digits(settings, before) else download_once
    dataset = dataset or find(settings.dataset, os.environ, fetch)
    if before and same_data(before, dataset):
        progress("nothing to do: trained before with the same settings and data", 1.0)
        return TrainResult(settings.out, before, cached=True)
    with export.staging(settings.out) as folder:
        metrics = _made(_Job(settings, dataset, progress, key, started), folder)
        export.install(folder, settings.out)
    progress(f"done: {settings.out}", 1.0)
    return TrainResult(settings.out, metrics, cached=False)


def inline(artefact: Artefact) -> Inline:
    """What this artefact takes inside a twin."""
    ref = wish.ModelRef(artefact.manifest.name, artefact.manifest.version, artefact.size, artefact.sha256)
    try:
        parts = wish.section_for(ref, artefact.data)["source"]["inline"]["parts"]
    except wish.DoesNotFit as error:
        return Inline(characters=error.characters, limit=error.limit, fits=False)
    characters = sum(len(part) for part in parts.values())
    return Inline(characters=characters, limit=wish.MAX_INLINE_CHARACTERS, fits=True)


@dataclass(frozen=True)
class _Job:
    """One training under way: what its steps share."""

    settings: TrainSettings
    dataset: Dataset
    progress: Progress
    key: str
    started: float  # CLOCK_MONOTONIC, s
    seconds: dict[str, float] = field(default_factory=dict)  # stage → how long it took

    @contextmanager
    def stage(self, name: str, told: str, share: float) -> Iterator[None]:
        self.progress(told, share)
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 3)


def _made(job: _Job, folder: Path) -> Metrics:
    """Do all of it; the results are in `folder` then. Raises NotVerified below the target."""
    data = job.dataset
    with job.stage("fit", f"{data.name} ({data.source}); starting TensorFlow", FIT_FROM):
        fitted = _fitted(job)
    with job.stage("convert", "converting to int8", FIT_TO):
        tflite = convert.to_int8(fitted.model, spread(data.train, convert.REPRESENTATIVE).images)
    with job.stage("verify", "verifying on every runtime", CONVERTED):
        probes, accuracy, confusion = _verified(job, fitted, tflite)
    with job.stage("prove", "the proof that a device makes", VERIFIED):
        artefact = read(pack(tflite, _manifest(job, fitted, tflite, accuracy), LABELS, probes))
        (folder / export.MODEL).write_bytes(artefact.data)
        proof = verify.prove(folder / export.MODEL)
    metrics = _metrics(job, fitted, artefact, accuracy, confusion, proof)
    export.write(folder, card(metrics), spread(data.test, FRAMES), metrics)
    return metrics


def _fitted(job: _Job) -> Fitted:
    def told(text: str, share: float) -> None:
        job.progress(text, FIT_FROM + share * (FIT_TO - FIT_FROM))

    settings, data = job.settings, job.dataset
    architecture = ARCHITECTURES[settings.architecture]
    return fit(architecture, settings.recipe, data.train, data.validation, len(LABELS), settings.seed, told)


def _verified(job: _Job, fitted: Fitted, tflite: bytes) -> tuple[Probes, Accuracy, Confusion]:
    """Here the test pictures are looked at, once. Raises NotVerified below the target."""
    data, candidates = job.dataset, spread(job.dataset.validation, verify.PROBE_CANDIDATES)
    stand_in = Probes(candidates.images[0].tobytes(), (LABELS[candidates.labels[0]],))
    draft = pack(tflite, _manifest(job, fitted, tflite), LABELS, stand_in)
    answered = ask(draft, np.concatenate([candidates.images, data.test.images]))
    first, rest = slice(len(candidates)), slice(len(candidates), None)
    found = verify.verified(_part(answered, rest), data.test.labels, len(LABELS))
    float32 = float((predictions(fitted.model, data.test).argmax(axis=1) == data.test.labels).mean())
    accuracy = _judged(job.settings, data, fitted, float32, found)
    return verify.choose_probes(_part(answered, first), candidates, LABELS), accuracy, found.confusion


def _part(answered: Mapping[str, Answers], places: slice) -> dict[str, Answers]:
    return {runtime: answers.part(places) for runtime, answers in answered.items()}


def _judged(
    settings: TrainSettings, data: Dataset, fitted: Fitted, float32: float, found: verify.Verified
) -> Accuracy:
    """The figures, if they are good enough; else NotVerified."""
    wanted = settings.target(data.name)
    what = f"{settings.architecture} on {len(data.test):,} test pictures of {data.name}"
    verify.check_target(wanted, float32, found.accuracy, what=what)
    return Accuracy(
        float32=round(float32, 6),
        int8={runtime: round(share, 6) for runtime, share in found.accuracy.items()},
        drop=round(float32 - found.worst, 6),
        validation=round(fitted.validation, 6),
        target=wanted.accuracy,
        max_drop=wanted.drop,
    )


def _manifest(job: _Job, fitted: Fitted, tflite: bytes, accuracy: Accuracy | None = None) -> Manifest:
    settings = job.settings
    measured = {"float32": accuracy.float32, **accuracy.int8} if accuracy else {}
    return Manifest(
        schema="twinship.model.v1",
        name=settings.name,
        version=settings.version,
        architecture=settings.architecture,
        input=input_spec(job.dataset.train.shape),
        latencyBudgetMs=settings.latency_budget_ms,
        minimumRuntime=convert.minimum_runtime(tflite),
        metrics={"accuracy": measured, "test": len(job.dataset.test)},
        dataset=f"{job.dataset.name} {job.dataset.fingerprint[:16]}",  # a path would not travel well
        weightsSha256=fitted.weights_sha256,
        created=_now(),
    )


def _metrics(
    job: _Job,
    fitted: Fitted,
    artefact: Artefact,
    accuracy: Accuracy,
    confusion: Confusion,
    proof: Mapping[str, Proved],
) -> Metrics:
    settings = job.settings
    return Metrics(
        command=settings.command,
        name=settings.name,
        version=settings.version,
        architecture=settings.architecture,
        profile=settings.profile,
        seed=settings.seed,
        epochs=settings.recipe.epochs,
        kept_epoch=fitted.epoch,
        dataset=_facts(job.dataset),
        accuracy=accuracy,
        sizes=Sizes(
            artefact_bytes=artefact.size, tflite_bytes=len(artefact.tflite), parameters=fitted.parameters
        ),
        inline=inline(artefact),
        proof={runtime: Proof(p50_ms=each.p50_ms, p95_ms=each.p95_ms) for runtime, each in proof.items()},
        weights_sha256=artefact.manifest.weightsSha256,
        artefact_sha256=artefact.sha256,
        seconds={**job.seconds, "total": round(time.monotonic() - job.started, 3)},
        versions=versions(),
        created=artefact.manifest.created,
        recipe_key=job.key,
        confusion=[list(row) for row in confusion],
    )


def _facts(data: Dataset) -> DatasetFacts:
    return DatasetFacts(
        name=data.name,
        source=data.source,
        why=data.why,
        fingerprint=data.fingerprint,
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
