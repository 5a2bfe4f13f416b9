"""metrics.json of a training: collects what its steps measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from inference import model_section
from inference.artefact import Artefact
from inference.metrics_model import DatasetInfo, History, InlineSize, Metrics, ProofTimes, Sizes, Variant
from inference.models.prove import Proved
from twinship_training.data.split import Dataset
from twinship_training.job import Job
from twinship_training.result_cache import versions
from twinship_training.trial import Measurement, Trial


def summary(
    job: Job,
    trials: Sequence[Trial],
    chosen: Trial,
    variants: tuple[Variant, ...],
    test: Measurement,
    artefact: Artefact,
    proved: Mapping[str, Proved],
) -> Metrics:
    """The metrics of the chosen model."""
    settings, fitted = job.settings, chosen.fitted
    trained = fitted.checkpoint
    return Metrics(
        command=settings.command,
        name=settings.name,
        version=settings.version,
        architecture=chosen.architecture,
        optimisation=settings.optimisation,
        profile=settings.profile,
        seed=settings.seed,
        history=History(loss=trained.loss, validation=trained.validation, kept=trained.best),
        dataset=_dataset_info(job.dataset),
        accuracy=test.accuracy,
        sizes=Sizes(
            artefact_bytes=artefact.size, tflite_bytes=len(artefact.tflite), parameters=fitted.parameters
        ),
        inline=inline_size(artefact),
        cost={runtime: each.cost for runtime, each in test.predictions.items()},
        candidates=tuple(each.candidate for each in trials),
        left_out=dict(job.pretrained.left_out),
        variants=variants,
        proof={name: ProofTimes(p50_ms=each.p50_ms, p95_ms=each.p95_ms) for name, each in proved.items()},
        weights_sha256=artefact.manifest.weightsSha256,
        artefact_sha256=artefact.sha256,
        seconds={**job.seconds, "total": round(time.monotonic() - job.started, 3)},
        versions=versions(),
        created=artefact.manifest.created,
        recipe_key=job.recipe_key,
        **test.figures,
    )


def inline_size(artefact: Artefact) -> InlineSize:
    """The characters that this artefact takes inside a twin."""
    ref = model_section.ModelRef(
        artefact.manifest.name, artefact.manifest.version, artefact.size, artefact.sha256
    )
    try:
        chunks = model_section.section_for(ref, artefact.data)["source"]["inline"]["parts"]
    except model_section.DoesNotFit as error:
        return InlineSize(characters=error.characters, limit=error.limit, fits=False)
    characters = sum(len(chunk) for chunk in chunks.values())
    return InlineSize(characters=characters, limit=model_section.MAX_INLINE_CHARACTERS, fits=True)


def _dataset_info(data: Dataset) -> DatasetInfo:
    return DatasetInfo(
        name=data.name,
        source=data.source,
        why=data.why,
        fingerprint=data.fingerprint,
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
        report=data.report,
    )
