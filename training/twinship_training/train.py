"""One training from settings to results: data, trials, choice, verification, artefact.

The order of things, and what is kept from an earlier run; each step's rules are in the file named for it.
TensorFlow is imported when a training begins and not before.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from inference import model_section
from inference.artefact import Artefact, pack, read
from twinship_training import choose, convert, verify, workers
from twinship_training.checkpoint import Checkpoints, beside
from twinship_training.data import Dataset, find, spread
from twinship_training.data.download import download
from twinship_training.data.pictures import at_most
from twinship_training.evaluate import Answers, ask
from twinship_training.fit import Progress, fit, predictions
from twinship_training.job import Job
from twinship_training.networks.architectures import ARCHITECTURES
from twinship_training.report import plots, results
from twinship_training.report.calibration import calibration
from twinship_training.report.card import card
from twinship_training.report.results import (
    Accuracy,
    DatasetFacts,
    History,
    Inline,
    Metrics,
    Proof,
    Sizes,
    Variant,
)
from twinship_training.result_cache import kept, recipe_key, same_data, versions, was_digits
from twinship_training.settings import SettingsError, TrainSettings
from twinship_training.trial import Trial, cost, tried, variant
from twinship_training.workers import Worker, WorkersError

__all__ = ["SettingsError", "TrainResult", "TrainSettings", "assist", "interrupted", "train"]

FRAMES: Final = 500
#: A second training in the same process would wait as long for the same answer.
download_once: Final = cache(download)
#: From which share of the whole work to which: trials take most of it.
TRIALS_FROM, TRIALS_TO, VARIANTS_TO, VERIFIED, PROVED = 0.05, 0.85, 0.9, 0.95, 0.98


@dataclass(frozen=True)
class TrainResult:
    """Where the results lie and what was measured; `cached`: they were there already."""

    folder: Path
    metrics: Metrics
    cached: bool

    @property
    def artefact(self) -> Path:
        return self.folder / results.MODEL

    @property
    def frames(self) -> Path:
        return self.folder / results.FRAMES

    @property
    def card(self) -> Path:
        return self.folder / results.CARD


def train(settings: TrainSettings, progress: Progress, dataset: Dataset | None = None) -> TrainResult:
    """Train a model and leave its files in `settings.out`, or find them there, made by the same settings.

    `progress` is told what is being done and which share of 1 is done. `dataset` spares the search when the
    caller has one. Raises TrainingError: DataError, ExportError, NotAnswered, NotVerified (below the target;
    NoneFits: outside the limits), CheckpointError. Then, and after Ctrl-C, `out` is as it was, nothing half
    made is left, and what the fitting had reached is kept beside it, for `settings.resume`.
    """
    started = time.monotonic()
    key = recipe_key(settings)
    worker = _chief(settings)
    before = None if worker else kept(settings, key)  # the others would wait for this one
    progress("data", 0.0)
    fetch = None if was_digits(settings, before) else download_once
    dataset = dataset or find(settings.dataset, os.environ, fetch, at_most(settings.max_side))
    if before and same_data(before, dataset):
        progress("nothing to do: trained before with the same settings and data", 1.0)
        return TrainResult(settings.out, before, cached=True)
    checkpoints = Checkpoints(beside(settings.out), key, dataset.fingerprint)
    reached = checkpoints.read() if settings.resume else {}
    job = Job(settings, dataset, progress, key, started, checkpoints, worker, reached)
    try:
        with results.staging(settings.out) as folder:
            metrics = _made(job, folder)
            results.install(folder, settings.out)
    except verify.NotVerified:  # it would end so again
        checkpoints.remove()
        raise
    checkpoints.remove()
    progress(f"done: {settings.out}", 1.0)
    return TrainResult(settings.out, metrics, cached=False)


def assist(settings: TrainSettings, progress: Progress) -> tuple[str, ...]:
    """Learn along with the chief, who has the results; the digests of the weights, network by network.

    For the machines that TF_CONFIG names besides the chief. Raises TrainingError.
    """
    worker = _together(settings)
    data = find(settings.dataset, os.environ, download_once, at_most(settings.max_side))
    digests = []
    for name in settings.architectures:
        network, recipe = ARCHITECTURES[name], settings.recipe(name, len(data.train))
        classes = len(data.labels)
        fitted = fit(
            network, recipe, data.train, data.validation, classes, settings.seed, progress, worker=worker
        )
        digests.append(fitted.weights_sha256)
    return tuple(digests)


def interrupted(settings: TrainSettings) -> str:
    """How to go on after Ctrl-C."""
    if any(beside(settings.out).glob("*.npz")):
        return f"the best weights so far are kept; go on with: {settings.command} --resume"
    return "no epoch was complete, so nothing is kept"


def _together(settings: TrainSettings) -> Worker | None:
    """This machine, where TF_CONFIG names several. Raises WorkersError."""
    worker = workers.find(os.environ)
    if worker and settings.resume:
        raise WorkersError(
            f"--resume goes on alone: unset {workers.VARIABLE}, or begin anew with all machines"
        )
    return worker


def _chief(settings: TrainSettings) -> Worker | None:
    worker = _together(settings)
    if worker and not worker.chief:
        raise WorkersError(f"{worker.task} in {workers.VARIABLE} has no results: ask the chief's machine")
    return worker


def inline(artefact: Artefact) -> Inline:
    """What this artefact takes inside a twin."""
    ref = model_section.ModelRef(
        artefact.manifest.name, artefact.manifest.version, artefact.size, artefact.sha256
    )
    try:
        parts = model_section.section_for(ref, artefact.data)["source"]["inline"]["parts"]
    except model_section.DoesNotFit as error:
        return Inline(characters=error.characters, limit=error.limit, fits=False)
    characters = sum(len(part) for part in parts.values())
    return Inline(characters=characters, limit=model_section.MAX_INLINE_CHARACTERS, fits=True)


def _made(job: Job, folder: Path) -> Metrics:
    """Do all of it; the results are in `folder` then. Raises NotVerified below the target."""
    data = job.dataset
    trials = _trials(job)
    best = choose.smallest([each.candidate for each in trials])
    trial = next(each for each in trials if each.candidate is best)
    variants = _variants(job, trial)
    with job.stage("verify", "verifying with the test pictures", VARIANTS_TO):
        test = _tested(job, trial)
    with job.stage("prove", "the proof that a device makes", VERIFIED):
        artefact = _artefact(job, trial, test.accuracy)
        (folder / results.MODEL).write_bytes(artefact.data)
        besides = convert.too_old(artefact.manifest.minimumRuntime)
        proved = verify.prove(folder / results.MODEL, besides)
    proof = {name: Proof(p50_ms=each.p50_ms, p95_ms=each.p95_ms) for name, each in proved.items()}
    with job.stage("draw", "drawing the card", PROVED):
        metrics = _metrics(job, trials, trial, variants, test, artefact, proof)
        _drawn(folder, data, metrics, test)
    results.write(folder, card(metrics), spread(data.test, FRAMES), metrics)
    return metrics


def _trials(job: Job) -> list[Trial]:
    names = job.settings.architectures
    step = (TRIALS_TO - TRIALS_FROM) / len(names)
    begins = (TRIALS_FROM + step * place for place in range(len(names)))
    return [tried(job, name, begin, begin + step) for name, begin in zip(names, begins, strict=True)]


def _variants(job: Job, trial: Trial) -> tuple[Variant, ...]:
    wanted = tuple(convert.OPTIMISATIONS) if job.settings.variants else ()
    found = []
    for place, optimisation in enumerate(wanted):
        share = TRIALS_TO + (VARIANTS_TO - TRIALS_TO) * place / len(wanted)
        with job.stage("variants", f"measuring {optimisation}", share):
            found.append(variant(job, trial, optimisation))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Tested:
    """What the test said, in its one look."""

    accuracy: Accuracy
    answered: dict[str, Answers]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def preferred(self) -> Answers:
        """Of the runtime that a device takes first."""
        return next(iter(self.answered.values()))


def _tested(job: Job, trial: Trial) -> _Tested:
    """Here the test pictures are looked at, once. Raises NotVerified below the target."""
    test, labels = job.dataset.test, job.dataset.labels
    draft = job.draft(trial.architecture, trial.fitted, trial.tflite, trial.asked)
    answered = ask(draft, test.images, convert.too_old(convert.minimum_runtime(trial.tflite)))
    found = verify.verified(answered, test.labels, len(labels))
    before = predictions(trial.fitted.model, test).argmax(axis=1).astype(np.int64)
    float32 = float((before == test.labels).mean())
    wanted = job.settings.target(trial.architecture, job.dataset)
    worst = min(answered, key=lambda runtime: found.accuracy[runtime])
    what = f"{trial.architecture} on {len(test):,} test pictures of {job.dataset.name}"
    changed = verify.changes(before, answered[worst].predicted, labels)
    verify.check_target(wanted, float32, found.accuracy, what=what, changed=changed)
    accuracy = Accuracy(
        float32=round(float32, 6),
        shipped={runtime: round(share, 6) for runtime, share in found.accuracy.items()},
        drop=round(float32 - found.worst, 6),
        validation=round(trial.fitted.validation, 6),
        target=wanted.accuracy,
        max_drop=wanted.drop,
    )
    return _Tested(accuracy, answered, found.confusion)


def _artefact(job: Job, trial: Trial, accuracy: Accuracy) -> Artefact:
    """With a probe for each label; with fewer where that is what lets it fit into a twin."""
    labels = job.dataset.labels
    probes = verify.choose_probes(trial.answered, trial.asked, labels)
    measured = {"float32": accuracy.float32, **accuracy.shipped}
    manifest = job.manifest(trial.architecture, trial.fitted, trial.tflite, measured)

    def packed(count: int) -> Artefact:
        return read(pack(trial.tflite, manifest, labels, verify.fewer(probes, count)))

    artefacts = (packed(count) for count in range(probes.count, 0, -1))
    return next((each for each in artefacts if inline(each).fits), packed(probes.count))


def _metrics(
    job: Job,
    trials: list[Trial],
    trial: Trial,
    variants: tuple[Variant, ...],
    test: _Tested,
    artefact: Artefact,
    proof: dict[str, Proof],
) -> Metrics:
    settings, fitted = job.settings, trial.fitted
    right = test.preferred.predicted == job.dataset.test.labels
    return Metrics(
        command=settings.command,
        name=settings.name,
        version=settings.version,
        architecture=trial.architecture,
        optimisation=settings.optimisation,
        profile=settings.profile,
        seed=settings.seed,
        history=History(
            loss=tuple(epoch.loss for epoch in fitted.history),
            validation=tuple(epoch.validation for epoch in fitted.history),
            kept=fitted.epoch,
        ),
        dataset=_facts(job.dataset),
        accuracy=test.accuracy,
        sizes=Sizes(
            artefact_bytes=artefact.size, tflite_bytes=len(artefact.tflite), parameters=fitted.parameters
        ),
        inline=inline(artefact),
        cost={runtime: cost(answers) for runtime, answers in test.answered.items()},
        calibration=calibration(test.preferred.confidence, right),
        candidates=tuple(each.candidate for each in trials),
        variants=variants,
        proof=proof,
        weights_sha256=artefact.manifest.weightsSha256,
        artefact_sha256=artefact.sha256,
        seconds={**job.seconds, "total": round(time.monotonic() - job.started, 3)},
        versions=versions(),
        created=artefact.manifest.created,
        recipe_key=job.key,
        confusion=[list(row) for row in test.confusion],
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
        report=data.report,
    )


def _drawn(folder: Path, data: Dataset, metrics: Metrics, test: _Tested) -> None:
    answers = test.preferred
    mistakes = plots.worst(data.test.images, data.test.labels, answers.predicted, answers.confidence)
    plots.draw(
        folder / results.PLOTS,
        data.labels,
        metrics.history,
        metrics.confusion,
        metrics.calibration,
        mistakes,
    )
