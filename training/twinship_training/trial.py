"""One network fitted, converted and asked, by training and validation pictures alone; the test is not seen.

Which of several to take is `choose`'s to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinship_training import convert, verify
from twinship_training.choose import Candidate
from twinship_training.data import Pictures, spread
from twinship_training.evaluate import Answers, ask
from twinship_training.fit import Fitted, fit
from twinship_training.job import Job
from twinship_training.networks.architectures import ARCHITECTURES
from twinship_training.report.results import Cost, Variant, VariantOn

#: Of the share of the whole work that a trial has: how far it is once fitted, and once converted.
FITTED, CONVERTED = 0.9, 0.95
ASKED: Final = 5_000  # validation pictures, at most
ASKED_OF_A_VARIANT: Final = 2_000


@dataclass(frozen=True, eq=False)
class Trial:
    """A network that may become the model."""

    architecture: str
    fitted: Fitted
    tflite: bytes
    asked: Pictures  # validation pictures
    answered: dict[str, Answers]  # runtime → what the converted model answered to them
    candidate: Candidate


def tried(job: Job, architecture: str, begin: float, end: float) -> Trial:
    """Do it; progress goes from `begin` to `end`, shares of 1."""
    data, settings = job.dataset, job.settings

    head = f"{architecture}: " if len(settings.architectures) > 1 else ""

    def told(text: str, share: float) -> None:
        job.progress(f"{head}{text}", begin + share * FITTED * (end - begin))

    recipe = settings.recipe(architecture, len(data.train))
    network = ARCHITECTURES[architecture]
    with job.stage("fit", f"{head}{data.name} ({data.source}); starting TensorFlow", begin):
        fitted = fit(
            network,
            recipe,
            data.train,
            data.validation,
            len(data.labels),
            settings.seed,
            told,
            worker=job.worker,
            reached=job.reached.get(architecture),
            keep=partial(job.checkpoints.write, architecture) if job.worker is None else None,
        )
    share = begin + FITTED * (end - begin)
    with job.stage("convert", f"{head}converting to {settings.optimisation}", share):
        tflite = convert.converted(fitted.model, settings.optimisation, representative(job))
    share = begin + CONVERTED * (end - begin)
    with job.stage("ask", f"{head}asking every runtime", share):
        asked = spread(data.validation, ASKED)
        besides = convert.too_old(convert.minimum_runtime(tflite))
        answered = ask(job.draft(architecture, fitted, tflite, asked), asked.images, besides)
        verify.check_tensors(answered, settings.optimisation)
    found = verify.verified(answered, asked.labels, len(data.labels))
    candidate = Candidate(
        architecture=architecture,
        parameters=fitted.parameters,
        tflite_bytes=len(tflite),
        accuracy=round(found.worst, 6),
        p50_ms=round(max(answers.cost.p50_ms for answers in answered.values()), 4),
    )
    return Trial(architecture, fitted, tflite, asked, answered, candidate.judged(settings.limits))


def representative(job: Job) -> NDArray[np.uint8]:
    """The pictures by which a conversion finds the range of every tensor."""
    return spread(job.dataset.train, convert.REPRESENTATIVE).images


def variant(job: Job, trial: Trial, optimisation: str) -> Variant:
    """The same float model, converted this way, measured on every runtime that loads it."""
    tflite = convert.converted(trial.fitted.model, optimisation, representative(job))
    minimum = convert.minimum_runtime(tflite)
    refused = convert.too_old(minimum)
    asked = spread(job.dataset.validation, ASKED_OF_A_VARIANT)
    answered = ask(job.draft(trial.architecture, trial.fitted, tflite, asked), asked.images, refused)
    found = verify.verified(answered, asked.labels, len(job.dataset.labels))
    return Variant(
        optimisation=optimisation,
        tflite_bytes=len(tflite),
        minimum_runtime=minimum,
        runtimes={
            runtime: VariantOn(accuracy=round(found.accuracy[runtime], 6), cost=cost(answers))
            for runtime, answers in answered.items()
        },
        refused=refused,
    )


def cost(answers: Answers) -> Cost:
    """As metrics.json has it."""
    return Cost(p50_ms=round(answers.cost.p50_ms, 4), memory_bytes=answers.cost.memory_bytes)
