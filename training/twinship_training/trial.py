"""Fit, convert and evaluate one network. Trials use training and validation pictures only.

`evaluate_on_test` is the only code that measures with test pictures, and only the chosen network gets there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.dataset.pictures import Pictures
from inference.evaluate import Predictions, count, evaluate, too_old
from inference.metrics_model import Accuracy, Candidate, Variant, VariantResult
from twinship_training import convert
from twinship_training.choose import check_limits
from twinship_training.data.split import spread
from twinship_training.evaluate import changes, check_target, check_tensors
from twinship_training.fit import Fitted, fit, logits
from twinship_training.job import Job
from twinship_training.networks.architectures import ARCHITECTURES

#: The shares of a trial's work that are done after fitting, and after converting.
FITTED, CONVERTED = 0.9, 0.95
TRIAL_PICTURES: Final = 5_000  # validation pictures, at most
VARIANT_PICTURES: Final = 2_000


@dataclass(frozen=True, eq=False)
class Trial:
    """A trained network that may be chosen."""

    architecture: str
    fitted: Fitted
    tflite: bytes
    pictures: Pictures  # validation pictures
    predictions: dict[str, Predictions]  # runtime → the converted model's predictions for them
    candidate: Candidate


@dataclass(frozen=True, eq=False)
class Measurement:
    """The chosen model, measured with the test pictures."""

    accuracy: Accuracy
    predictions: dict[str, Predictions]
    confusion: tuple[tuple[int, ...], ...]
    logits: NDArray[np.float32]  # of the calibrated float model, (count, classes)

    @property
    def preferred(self) -> Predictions:
        """The predictions on the runtime that a device prefers."""
        return next(iter(self.predictions.values()))


def run_trial(job: Job, architecture: str, begin: float, end: float) -> Trial:
    """Fit, convert and evaluate; progress goes from `begin` to `end`, shares of all work."""
    data, settings = job.dataset, job.settings
    prefix = f"{architecture}: " if len(job.architectures) > 1 else ""

    def progress(text: str, share: float) -> None:
        job.progress(f"{prefix}{text}", begin + share * FITTED * (end - begin))

    with job.stage("fit", f"{prefix}{data.name} ({data.source}); starting TensorFlow", begin):
        fitted = fit(
            ARCHITECTURES[architecture],
            settings.recipe(architecture, len(data.train)),
            data.train,
            data.validation,
            len(data.labels),
            settings.seed,
            progress,
            worker=job.worker,
            pretrained=job.pretrained.weights,
            resume_from=job.resume_from.get(architecture),
            on_epoch=partial(job.checkpoints.write, architecture) if job.worker is None else None,
        )
    share = begin + FITTED * (end - begin)
    with job.stage("convert", f"{prefix}converting to {settings.optimisation}", share):
        tflite = convert.convert(fitted.model, settings.optimisation, representative(job), fitted.spec)
    share = begin + CONVERTED * (end - begin)
    pictures = spread(data.validation, TRIAL_PICTURES)
    with job.stage("evaluate", f"{prefix}evaluating on every runtime", share):
        predictions = _evaluate(job, architecture, fitted, tflite, pictures)
        check_tensors(predictions, settings.optimisation)
    found = count(predictions, pictures.labels, len(data.labels))
    candidate = Candidate(
        architecture=architecture,
        parameters=fitted.parameters,
        tflite_bytes=len(tflite),
        accuracy=round(found.worst, 6),
        p50_ms=max(each.cost.p50_ms for each in predictions.values()),
    )
    candidate = check_limits(candidate, settings.limits)
    return Trial(architecture, fitted, tflite, pictures, predictions, candidate)


def representative(job: Job) -> NDArray[np.uint8]:
    """The training pictures from which a conversion takes the range of every tensor."""
    return spread(job.dataset.train, convert.REPRESENTATIVE).images


def measure_variant(job: Job, trial: Trial, optimisation: str) -> Variant:
    """Convert the same float model this way and measure it on every runtime that can load it."""
    tflite = convert.convert(trial.fitted.model, optimisation, representative(job), trial.fitted.spec)
    minimum = convert.minimum_runtime(tflite)
    pictures = spread(job.dataset.validation, VARIANT_PICTURES)
    predictions = _evaluate(job, trial.architecture, trial.fitted, tflite, pictures)
    found = count(predictions, pictures.labels, len(job.dataset.labels))
    return Variant(
        optimisation=optimisation,
        tflite_bytes=len(tflite),
        minimum_runtime=minimum,
        runtimes={
            runtime: VariantResult(accuracy=round(found.accuracy[runtime], 6), cost=each.cost)
            for runtime, each in predictions.items()
        },
        refused=too_old(minimum),
    )


def evaluate_on_test(job: Job, trial: Trial) -> Measurement:
    """Measure the chosen network with the test pictures. Raises NotVerified below the target."""
    test, labels = job.dataset.test, job.dataset.labels
    predictions = _evaluate(job, trial.architecture, trial.fitted, trial.tflite, test)
    found = count(predictions, test.labels, len(labels))
    values = logits(trial.fitted.model, test, trial.fitted.spec)
    before = values.argmax(axis=1).astype(np.int64)
    float32 = float((before == test.labels).mean())
    target = job.settings.target(trial.architecture, job.dataset)
    worst = min(predictions, key=lambda runtime: found.accuracy[runtime])
    what = f"{trial.architecture} on {len(test):,} test pictures of {job.dataset.name}"
    changed = changes(before, predictions[worst].labels, labels)
    check_target(target, float32, found.accuracy, what=what, changed=changed)
    accuracy = Accuracy(
        float32=round(float32, 6),
        shipped={runtime: round(share, 6) for runtime, share in found.accuracy.items()},
        drop=round(float32 - found.worst, 6),
        validation=round(max(trial.fitted.checkpoint.validation), 6),
        target=target.accuracy,
        max_drop=target.drop,
    )
    return Measurement(accuracy, predictions, found.confusion, values)


def _evaluate(
    job: Job, architecture: str, fitted: Fitted, tflite: bytes, pictures: Pictures
) -> dict[str, Predictions]:
    """The converted model's predictions on every runtime that is new enough."""
    skip = too_old(convert.minimum_runtime(tflite))
    return evaluate(job.draft(architecture, fitted, tflite, pictures), pictures.images, skip)
