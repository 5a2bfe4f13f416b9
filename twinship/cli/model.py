"""train, verify, predict: make a model and check it before it is published. No hub is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinship.cli import checks
from twinship.cli.options import BUILD, Dataset, Json, app, path_option
from twinship.cli.show import draw, plain, progress, say, say_json, warn

if TYPE_CHECKING:
    from inference.artefact import Artefact
    from inference.dataset.pictures import Shaping, SourceData
    from inference.frames.prediction import Scored
    from inference.metrics_model import Candidate, Variant
    from inference.predict import FilePrediction
    from twinship_training.train import TrainResult


Model = Annotated[
    Path,
    typer.Argument(
        parser=checks.file_to_read(checks.MAX_MODEL_BYTES),
        help="An artefact: model.tflite from `twinship train`.",
    ),
]


@app.command("train")
def train_command(
    arch: Annotated[
        str | None,
        typer.Option(
            callback=checks.filled,
            help="seed, micro [default], small, svm, mobilenet; auto: the smallest within the limits; "
            "detect: centers [default], centers-small.",
        ),
    ] = None,
    task: Annotated[str, typer.Option(help="classify, or detect: find objects.")] = "classify",
    dataset: Annotated[
        str,
        typer.Option(
            callback=checks.filled,
            help="mnist, fashion_mnist, digits, auto, folder:PATH, npz:FILE; detect: voc:FOLDER, coco:FILE.",
        ),
    ] = "auto",
    profile: Annotated[str, typer.Option(help="full, or quick: seconds instead of minutes.")] = "full",
    epochs: Annotated[int | None, typer.Option(help="Number of epochs [the network's own].")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    name: Annotated[str | None, typer.Option(help="Name of the model [from the data set].")] = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0.0",
    out: Annotated[Path, path_option(checks.folder_to_write, "Folder for the results.")] = BUILD / "model",
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            callback=checks.finite, min=0, max=1, help="Fail if the accuracy is lower, such as 0.98."
        ),
    ] = None,
    max_size: Annotated[str | None, typer.Option(help="Fail if the flatbuffer is larger, as 22KB.")] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(callback=checks.finite, help="Fail if one picture takes longer here."),
    ] = None,
    optimise: Annotated[str, typer.Option(help="int8, float16, dynamic or float32.")] = "int8",
    variants: Annotated[bool, typer.Option("--variants", help="Measure all optimisations.")] = False,
    max_side: Annotated[int | None, typer.Option(help="Reduce larger pictures to this many pixels.")] = None,
    weights: Annotated[
        Path | None,
        path_option(checks.file_to_read(checks.MAX_MODEL_BYTES), "ImageNet weights of Keras's MobileNetV2."),
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(callback=checks.finite, min=0, max=1, help="detect: lowest score to report [0.3]."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train although the result exists already.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue after Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Train, convert and verify a network, and write an artefact."""
    from twinship.demo.models import require_training

    require_training()
    from twinship_training.choose import NoneFits
    from twinship_training.settings import default_architecture, model_name, size_bytes
    from twinship_training.train import TrainSettings, assist, interrupted, train
    from twinship_training.workers import find

    settings = TrainSettings(
        architecture=arch or default_architecture(task),
        task=task,
        score_threshold=score_threshold,
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
        weights=weights,
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
        warn("")  # the line of progress ends
        warn(f"twinship: {interrupted(settings)}")
        raise
    if as_json:
        say_json(result.metrics.model_dump(by_alias=True))
    else:
        _say_trained(result)


def _say_trained(result: TrainResult) -> None:
    from twinship_training.report.card import dataset_lines, left_out_lines, measure

    metrics = result.metrics
    data, accuracy = metrics.dataset, metrics.accuracy
    say(f"{data.name}: {data.source}, because {data.why}")
    for line in dataset_lines(data.report):
        say(line)
    if len(metrics.candidates) > 1:
        _draw_candidates(metrics.candidates)
    for line in left_out_lines(metrics):
        say(line)
    if metrics.variants:
        _draw_variants(metrics.variants)
    name = metrics.optimisation
    shipped = ", ".join(f"{share:.2%} {name} on {runtime}" for runtime, share in accuracy.shipped.items())
    say(f"{measure(metrics)} on {data.test:,} test pictures: {accuracy.float32:.2%} float, {shipped}")
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
            f"{found.accuracy:.2%}",
            f"{found.cost.p50_ms:.3f} ms",
            f"{found.cost.memory_bytes / 1e6:.1f} MB",
        )
        for each in variants
        for runtime, found in each.runtimes.items()
    ]
    refused = [
        (each.optimisation, f"{each.tflite_bytes:,}", runtime, why, "", "")
        for each in variants
        for runtime, why in each.refused.items()
    ]
    draw(("optimisation", "bytes", "runtime", "right", "median", "memory"), [*rows, *refused])


@app.command("verify")
def verify_command(
    model: Model,
    dataset: Dataset = "auto",
    as_json: Json = False,
) -> None:
    """Prove an artefact as a device does; measure its accuracy."""
    from inference import evaluate
    from inference.dataset.pictures import exactly

    artefact = evaluate.read_file(model)
    if artefact.manifest.task == "detection" or (dataset == "auto" and not artefact.manifest.dataset):
        _prove_only(model, artefact, as_json)
        return
    data = _pictures(dataset, exactly(artefact.manifest.input))
    found = evaluate.verify_file(model, data.origin.labels, data.test)
    if as_json:
        say_json({"dataset": data.origin.name, "test": len(data.test), "accuracy": dict(found.accuracy)})
        return
    say(f"{data.origin.name}: {data.origin.source}, because {data.origin.why}")
    shares = [(runtime, f"{share:.2%}") for runtime, share in found.accuracy.items()]
    draw(("runtime", f"right of {len(data.test):,}"), shares)


def _prove_only(model: Path, artefact: Artefact, as_json: bool) -> None:
    """Verify a model of others, for which no data set is named."""
    from inference import evaluate

    proved = evaluate.prove(model, evaluate.too_old(artefact.manifest.minimumRuntime))
    if as_json:
        say_json({"runtimes": {runtime: plain(each) for runtime, each in proved.items()}})
        return
    say(f"{artefact.manifest.name}: {artefact.probes.count} probes answered; accuracy: name a --dataset")
    draw(("runtime", "median"), [(runtime, f"{each.p50_ms:.3f} ms") for runtime, each in proved.items()])


def _pictures(dataset: str, shaping: Shaping) -> SourceData:
    """The data set; digits and downloads only if twinship-training is installed. Raises DataError."""
    from inference.dataset.choice import find

    try:
        from twinship_training.data.download import download as download_keras
        from twinship_training.data.scikit import digits
    except ModuleNotFoundError:
        return find(dataset, os.environ, shaping)
    return find(dataset, os.environ, shaping, download=download_keras, digits=digits)


@app.command("predict")
def predict_command(
    model: Model,
    pictures: Annotated[
        list[Path],
        typer.Argument(parser=checks.file_or_folder, help="PNG, JPEG or BMP files, or folders of them."),
    ],
    top: Annotated[int, typer.Option(help="Number of labels.", min=1)] = 3,
    runtime: Annotated[str, typer.Option(help="auto, litert or tflite_runtime.")] = "auto",
    draw_to: Annotated[
        Path | None,
        path_option(checks.file_to_write, "Write a copy of the one picture with its boxes, PNG.", "--draw"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Classify pictures, or find objects, with the device's code."""
    from inference.artefact import read
    from inference.predict import FilePrediction, draw_boxes, predict_files

    if draw_to is not None and (len(pictures) != 1 or pictures[0].is_dir()):
        raise typer.BadParameter("--draw takes one picture")
    found = list(predict_files(read(model.read_bytes()), pictures, top_k=top, runtime=runtime))
    predicted = [one for one in found if isinstance(one, FilePrediction)]
    unreadable = [one for one in found if not isinstance(one, FilePrediction)]
    if as_json:
        say_json([plain(one) for one in found])
    else:
        boxes = any(one.detections for one in predicted)
        draw(
            ("picture", "label", "confidence", "next, or box (left top width height)" if boxes else "next"),
            [row for one in predicted for row in _rows(one)],
        )
    if draw_to is not None and predicted:
        draw_boxes(predicted[0], draw_to)
    for one in unreadable:
        warn(f"twinship: {one.path} cannot be read: {one.reason}")
    if unreadable:
        raise typer.Exit(1)


def _rows(one: FilePrediction) -> list[tuple[str, str, str, str]]:
    """A row for a classified picture; of a detector a row for each object."""
    if one.top:
        return [(str(one.path), *_top_cells(one.top))]
    rows = [
        (str(one.path), each.label, f"{each.confidence:.1%}", " ".join(f"{side:.3f}" for side in each.box))
        for each in one.detections
    ]
    return rows or [(str(one.path), "nothing", "", "")]


def _top_cells(top: Sequence[Scored]) -> tuple[str, str, str]:
    others = ", ".join(f"{other.label} {other.confidence:.1%}" for other in top[1:])
    return top[0].label, f"{top[0].confidence:.1%}", others
