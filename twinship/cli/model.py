"""train, verify, predict: a model before it is shipped; no hub."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinship.cli.options import BUILD, Dataset, Json, app
from twinship.cli.show import draw, plain, progress, say, say_json

if TYPE_CHECKING:
    from inference.frames.prediction import Scored
    from twinship_training.choose import Candidate
    from twinship_training.report.results import Variant
    from twinship_training.train import TrainResult


@app.command("train")
def train_verb(
    arch: Annotated[
        str, typer.Option(help="seed, micro, small, svm; auto: the smallest within the limits.")
    ] = "micro",
    dataset: Dataset = "auto",
    profile: Annotated[str, typer.Option(help="full, or quick: seconds instead of minutes.")] = "full",
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    name: Annotated[str | None, typer.Option(help="The model's name [after the data set].")] = None,
    version: Annotated[str, typer.Option(help="The model's version.")] = "1.0.0",
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = BUILD / "model",
    min_accuracy: Annotated[float | None, typer.Option(help="Below this the training fails.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Of the flatbuffer, as 22KB.")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Median of one picture, here.")] = None,
    optimise: Annotated[str, typer.Option(help="int8, float16, dynamic or float32.")] = "int8",
    variants: Annotated[bool, typer.Option("--variants", help="Measure all optimisations.")] = False,
    max_side: Annotated[int, typer.Option(help="Larger pictures are made smaller, pixels.")] = 96,
    force: Annotated[bool, typer.Option("--force", help="Also when the same result is there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Train, convert, verify on the device's runtimes, write an artefact."""
    from twinship.demo.models import require_training

    require_training()
    from twinship_training.choose import NoneFits
    from twinship_training.settings import model_name, size_bytes
    from twinship_training.train import TrainSettings, assist, interrupted, train
    from twinship_training.workers import find

    settings = TrainSettings(
        architecture=arch,
        dataset=dataset,
        profile=profile,
        epochs=epochs,
        seed=seed,
        name=model_name(dataset) if name is None else name,
        version=version,
        out=out,
        min_accuracy=min_accuracy,
        force=force,
        resume=resume,
        max_size_bytes=None if max_size is None else size_bytes(max_size),
        max_latency_ms=max_latency_ms,
        optimisation=optimise,
        variants=variants,
        max_side=max_side,
    )
    worker = find(os.environ)
    if worker and not worker.chief:
        digests = assist(settings, progress())
        say(f"{worker.task} is done, the chief has the results; weights {', '.join(digests)}")
        return
    try:
        result = train(settings, progress())
    except NoneFits as error:
        if not as_json:
            _draw_candidates(error.candidates)
        raise
    except KeyboardInterrupt:
        print(f"\ntwinship: {interrupted(settings)}", file=sys.stderr)
        raise
    if as_json:
        say_json(result.metrics.model_dump(by_alias=True))
    else:
        _say_trained(result)


def _say_trained(result: TrainResult) -> None:
    from twinship_training.data.report import lines

    metrics = result.metrics
    facts, accuracy = metrics.dataset, metrics.accuracy
    say(f"{facts.name}: {facts.source}, because {facts.why}")
    for line in lines(facts.report):
        say(line)
    if len(metrics.candidates) > 1:
        _draw_candidates(metrics.candidates)
    if metrics.variants:
        _draw_variants(metrics.variants)
    name = metrics.optimisation
    shipped = ", ".join(f"{share:.2%} {name} on {runtime}" for runtime, share in accuracy.shipped.items())
    say(f"accuracy on {facts.test:,} test pictures: {accuracy.float32:.2%} float, {shipped}")
    fits = "fits" if metrics.inline.fits else "does not fit"
    say(
        f"{result.artefact}: {metrics.architecture}, {metrics.sizes.artefact_bytes:,} bytes; "
        f"{fits} inside a twin; see {result.card}"
    )


def _draw_candidates(candidates: Sequence[Candidate]) -> None:
    rows = [
        (
            each.architecture,
            f"{each.tflite_bytes:,}",
            f"{each.accuracy:.2%}",
            f"{each.p50_ms:.3f} ms",
            "; ".join(each.failed) or "passes",
        )
        for each in candidates
    ]
    draw(("network", "bytes", "right", "median", "limits"), rows)


def _draw_variants(variants: Sequence[Variant]) -> None:
    rows = [
        (
            each.optimisation,
            f"{each.tflite_bytes:,}",
            runtime,
            f"{on.accuracy:.2%}",
            f"{on.cost.p50_ms:.3f} ms",
            f"{on.cost.memory_bytes / 1e6:.1f} MB",
        )
        for each in variants
        for runtime, on in each.runtimes.items()
    ]
    refused = [
        (each.optimisation, f"{each.tflite_bytes:,}", runtime, why, "", "")
        for each in variants
        for runtime, why in each.refused.items()
    ]
    draw(("optimisation", "bytes", "runtime", "right", "median", "memory"), [*rows, *refused])


@app.command("verify")
def verify_verb(
    model: Annotated[Path, typer.Argument(help="An artefact: the model.tflite of a training.")],
    dataset: Dataset = "auto",
    as_json: Json = False,
) -> None:
    """Prove an artefact as a device does, and count its answers on every runtime."""
    from twinship_training import data, verify
    from twinship_training.data.pictures import exactly

    shaping = exactly(verify.read_file(model).manifest.input)
    found = data.find(dataset, os.environ, shaping=shaping)
    verified = verify.verify_file(model, found.labels, found.test)
    if as_json:
        say_json({"dataset": found.name, "test": len(found.test), "accuracy": dict(verified.accuracy)})
        return
    say(f"{found.name}: {found.source}, because {found.why}")
    shares = [(runtime, f"{share:.2%}") for runtime, share in verified.accuracy.items()]
    draw(("runtime", f"right of {len(found.test):,}"), shares)


@app.command("predict")
def predict_verb(
    model: Annotated[Path, typer.Argument(help="An artefact: the model.tflite of a training.")],
    pictures: Annotated[list[Path], typer.Argument(help="PNG, JPEG or BMP files.")],
    top: Annotated[int, typer.Option(help="How many labels.", min=1)] = 3,
    runtime: Annotated[str, typer.Option(help="auto, litert or tflite_runtime.")] = "auto",
    as_json: Json = False,
) -> None:
    """Classify picture files with the device's own code; no hub."""
    from inference.artefact import read
    from inference.predict import FilePrediction, predict_files

    found = list(predict_files(read(model.read_bytes()), pictures, top_k=top, runtime=runtime))
    answered = [one for one in found if isinstance(one, FilePrediction)]
    unreadable = [one for one in found if not isinstance(one, FilePrediction)]
    if as_json:
        say_json([plain(one) for one in found])
    else:
        draw(
            ("picture", "label", "confidence", "next"),
            [(str(one.path), *_surest(one.top)) for one in answered],
        )
    for one in unreadable:
        print(f"twinship: {one.path} cannot be read: {one.reason}", file=sys.stderr)
    if unreadable:
        raise typer.Exit(1)


def _surest(top: Sequence[Scored]) -> tuple[str, str, str]:
    others = ", ".join(f"{other.label} {other.confidence:.1%}" for other in top[1:])
    return top[0].label, f"{top[0].confidence:.1%}", others
