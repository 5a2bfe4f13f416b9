"""One training from settings to a verified artefact, in the order in which things happen.

Data → trials (fit, convert and evaluate each network with validation pictures) → choose → evaluate on the
test pictures, once → pack → prove as a device does → report. The package's docstring names the file of each
step.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from inference.artefact import Artefact, pack, read
from inference.evaluate import NotVerified, prove, too_old
from inference.metrics_model import CARD, FRAMES, MODEL, PLOTS, Accuracy, Metrics, Variant
from twinship_training import choose, convert, workers
from twinship_training.checkpoint import CheckpointFolder, checkpoint_path
from twinship_training.data.download import download as download_keras
from twinship_training.data.split import Dataset, spread
from twinship_training.evaluate import drift_reference, fewer
from twinship_training.fit import Progress, fit
from twinship_training.job import Job
from twinship_training.networks import pretrained
from twinship_training.networks.architectures import AUTO
from twinship_training.networks.detectors import NETWORKS
from twinship_training.networks.mobilenet import Weights
from twinship_training.networks.pretrained import Pretrained
from twinship_training.report import results
from twinship_training.report.card import card
from twinship_training.report.summary import inline_size, summary
from twinship_training.result_cache import cached, fell_back_to_digits, recipe_key, same_data
from twinship_training.settings import SettingsError, TrainSettings
from twinship_training.tasks import TASKS
from twinship_training.trial import Trial, evaluate_on_test, measure_variant, run_trial
from twinship_training.workers import Worker, WorkersError

__all__ = ["SettingsError", "TrainResult", "TrainSettings", "assist", "interrupted", "train"]

FRAMES_WRITTEN: Final = 500
#: A second training in the same process does not wait for a failing download again.
download_once: Final = cache(download_keras)
#: The shares of all work at which these steps begin or end. Trials take most of the time.
TRIALS_FROM, TRIALS_TO, VARIANTS_TO, TESTED, PROVED = 0.05, 0.85, 0.9, 0.95, 0.98


@dataclass(frozen=True)
class TrainResult:
    """The folder of the results and the metrics; `cached`: an earlier training made them."""

    folder: Path
    metrics: Metrics
    cached: bool

    @property
    def artefact(self) -> Path:
        return self.folder / MODEL

    @property
    def frames(self) -> Path:
        return self.folder / FRAMES

    @property
    def card(self) -> Path:
        return self.folder / CARD


def train(settings: TrainSettings, progress: Progress, dataset: Dataset | None = None) -> TrainResult:
    """Train a model and write its files to `settings.out`, or find them there, made by the same settings.

    `dataset` replaces the search for `settings.dataset`. Raises TrainingError (ExportError, CheckpointError,
    WorkersError), DataError, NotEvaluated and NotVerified (below the target; NoneFits: outside the limits).
    Then, and after Ctrl-C, `out` is unchanged. Ctrl-C leaves a checkpoint of the complete epochs.
    """
    started = time.monotonic()
    key = recipe_key(settings)
    worker = _chief(settings)
    before = None if worker else cached(settings, key)  # the other machines would wait for this one
    progress("data", 0.0)
    skipped = fell_back_to_digits(settings, before)
    download = (lambda name, folder: "no download was tried") if skipped else download_once
    dataset = dataset or TASKS[settings.task].find(settings, os.environ, download)
    if before and same_data(before, dataset):
        progress("nothing to do: trained before with the same settings and data", 1.0)
        return TrainResult(settings.out, before, cached=True)
    checkpoints = CheckpointFolder(checkpoint_path(settings.out), key, dataset.fingerprint)
    resume_from = checkpoints.read() if settings.resume else {}
    weights = _pretrained(settings, dataset)
    job = Job(settings, dataset, progress, key, started, checkpoints, worker, resume_from, pretrained=weights)
    try:
        with results.staging(settings.out) as folder:
            metrics = _run(job, folder)
            results.install(folder, settings.out)
    except NotVerified:  # deterministic: resuming would fail the same way
        checkpoints.remove()
        raise
    checkpoints.remove()
    progress(f"done: {settings.out}", 1.0)
    return TrainResult(settings.out, metrics, cached=False)


def _run(job: Job, folder: Path) -> Metrics:
    """All steps after the data; they leave the results in `folder`. Raises NotVerified below the target."""
    trials, chosen = choose_network(job)
    variants = _variants(job, chosen)
    with job.stage("verify", "verifying with the test pictures", VARIANTS_TO):
        test = evaluate_on_test(job, chosen)
    with job.stage("prove", "the proof that a device makes", TESTED):
        artefact = _pack(job, chosen, test.accuracy)
        (folder / MODEL).write_bytes(artefact.data)
        proved = prove(folder / MODEL, too_old(artefact.manifest.minimumRuntime))
    with job.stage("draw", "drawing the card", PROVED):
        metrics = summary(job, trials, chosen, variants, test, artefact, proved)
        job.task.draw(folder / PLOTS, metrics, job.dataset.test, test.preferred)
    results.write(folder, card(metrics), spread(job.dataset.test, FRAMES_WRITTEN), metrics)
    return metrics


def choose_network(job: Job) -> tuple[list[Trial], Trial]:
    """Try all networks of the settings, without test pictures: all trials, and the chosen one.

    Raises NoneFits.
    """
    names = job.architectures
    step = (TRIALS_TO - TRIALS_FROM) / len(names)
    begins = (TRIALS_FROM + step * number for number in range(len(names)))
    trials = [run_trial(job, name, begin, begin + step) for name, begin in zip(names, begins, strict=True)]
    best = choose.smallest([each.candidate for each in trials])
    return trials, next(each for each in trials if each.candidate is best)


def _pretrained(settings: TrainSettings, dataset: Dataset) -> Pretrained:
    """The weights that networks of these settings begin with. Raises WeightsError without --arch auto."""
    if not any(NETWORKS[name].pretrained for name in settings.architectures):
        return Pretrained()

    def find_weights() -> Weights:
        return pretrained.find(settings.weights, os.environ, download_once)

    if settings.architecture != AUTO or settings.weights is not None:
        return Pretrained(find_weights())
    return pretrained.for_auto(dataset.train.shape, settings.max_size_bytes, find_weights)


def _variants(job: Job, chosen: Trial) -> tuple[Variant, ...]:
    wanted = tuple(convert.OPTIMISATIONS) if job.settings.variants else ()
    found = []
    for number, optimisation in enumerate(wanted):
        share = TRIALS_TO + (VARIANTS_TO - TRIALS_TO) * number / len(wanted)
        with job.stage("variants", f"measuring {optimisation}", share):
            found.append(measure_variant(job, chosen, optimisation))
    return tuple(found)


def _pack(job: Job, chosen: Trial, accuracy: Accuracy) -> Artefact:
    """The artefact with a probe for each label, or with fewer if only then it fits into a twin."""
    labels = job.dataset.labels
    probes = job.task.choose_probes(chosen.predictions, chosen.pictures, labels, job.head)
    measured = {"float32": accuracy.float32, **accuracy.shipped}
    manifest = job.manifest(
        chosen.architecture,
        chosen.fitted,
        chosen.tflite,
        measured,
        chosen.candidate.p50_ms,
        job.head,
        drift_reference(job.task.model_task, next(iter(chosen.predictions.values())), labels),
    )

    def packed(count: int) -> Artefact:
        return read(pack(chosen.tflite, manifest, labels, fewer(probes, count)))

    artefacts = (packed(count) for count in range(probes.count, 0, -1))
    return next((each for each in artefacts if inline_size(each).fits), packed(probes.count))


def interrupted(settings: TrainSettings) -> str:
    """How to go on after Ctrl-C."""
    if any(checkpoint_path(settings.out).glob("*.npz")):
        return f"the best weights so far are kept; go on with: {settings.command} --resume"
    return "no epoch was complete, so nothing is kept"


def assist(settings: TrainSettings, progress: Progress) -> tuple[str, ...]:
    """Train together with the chief, which writes the results. Returns the digests of the networks' weights.

    Every machine in TF_CONFIG but the chief calls it. Raises TrainingError and DataError.
    """
    worker = _worker(settings)
    task = TASKS[settings.task]
    data = task.find(settings, os.environ, download_once)
    digests = []
    weights = _pretrained(settings, data)
    for name in (each for each in settings.architectures if each not in weights.left_out):
        network, recipe = NETWORKS[name], settings.recipe(name, len(data.train))
        fitted = fit(
            network,
            recipe,
            data.train,
            data.validation,
            len(data.labels),
            settings.seed,
            progress,
            worker=worker,
            pretrained=weights.weights,
            learning=task.learning,
        )
        digests.append(fitted.weights_sha256)
    return tuple(digests)


def _worker(settings: TrainSettings) -> Worker | None:
    """This machine, if TF_CONFIG names several. Raises WorkersError."""
    worker = workers.find(os.environ)
    if worker and settings.resume:
        raise WorkersError(
            f"--resume needs a single machine: unset {workers.VARIABLE}, or begin anew with all machines"
        )
    return worker


def _chief(settings: TrainSettings) -> Worker | None:
    worker = _worker(settings)
    if worker and not worker.chief:
        raise WorkersError(f"{worker.task} in {workers.VARIABLE} has no results: the chief has them")
    return worker
