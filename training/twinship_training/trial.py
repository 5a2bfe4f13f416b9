"""Fit, convert and evaluate one network. Trials use training and validation pictures only.

`evaluate_on_test` is the only code that measures with test pictures, and only the chosen network gets there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.dataset.pictures import Pictures
from inference.evaluate import Predictions, evaluate, too_old
from inference.metrics_model import Accuracy, Candidate, Variant, VariantResult
from twinship_training import convert
from twinship_training.choose import check_limits
from twinship_training.data.split import spread
from twinship_training.evaluate import check_target, check_tensors
from twinship_training.fit import Fitted, fit
from twinship_training.job import Job
from twinship_training.networks.detectors import NETWORKS

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
    figures: Mapping[str, Any]  # fields of Metrics that only this task has

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
            NETWORKS[architecture],
            settings.recipe(architecture, len(data.train)),
            data.train,
            data.validation,
            len(data.labels),
            settings.seed,
            progress,
            worker=job.worker,
            pretrained=job.pretrained.weights,
            learning=job.task.learning,
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
    scores = job.task.scores(predictions, pictures, data.labels)
    candidate = Candidate(
        architecture=architecture,
        parameters=fitted.parameters,
        tflite_bytes=len(tflite),
        accuracy=round(min(scores.values()), 6),
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
    scores = job.task.scores(predictions, pictures, job.dataset.labels)
    return Variant(
        optimisation=optimisation,
        tflite_bytes=len(tflite),
        minimum_runtime=minimum,
        runtimes={
            runtime: VariantResult(accuracy=round(scores[runtime], 6), cost=each.cost)
            for runtime, each in predictions.items()
        },
        refused=too_old(minimum),
    )


def evaluate_on_test(job: Job, trial: Trial) -> Measurement:
    """Measure the chosen network with the test pictures. Raises NotVerified below the target."""
    test, labels = job.dataset.test, job.dataset.labels
    predictions = _evaluate(job, trial.architecture, trial.fitted, trial.tflite, test)
    shipped = job.task.scores(predictions, test, labels)
    found = job.task.on_test(trial.fitted, predictions, test, labels)
    target = job.settings.target(trial.architecture, job.dataset)
    target = replace(target, drop=target.drop + found.chance)
    what = f"{trial.architecture} on {len(test):,} test pictures of {job.dataset.name}"
    check_target(target, found.float32, shipped, what=what, changed=found.changed)
    accuracy = Accuracy(
        float32=round(found.float32, 6),
        shipped={runtime: round(share, 6) for runtime, share in shipped.items()},
        drop=round(found.float32 - min(shipped.values()), 6),
        validation=round(max(trial.fitted.checkpoint.validation), 6),
        target=target.accuracy,
        max_drop=round(target.drop, 6),
    )
    return Measurement(accuracy, predictions, found.figures)


def _evaluate(
    job: Job, architecture: str, fitted: Fitted, tflite: bytes, pictures: Pictures
) -> dict[str, Predictions]:
    """The converted model's predictions on every runtime that is new enough."""
    skip = too_old(convert.minimum_runtime(tflite))
    draft = job.draft(architecture, fitted, tflite, pictures)
    return evaluate(draft, pictures.images, skip, measured_from=job.head.scoreThreshold)
