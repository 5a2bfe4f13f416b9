"""package: make an artefact of a TFLite model that somebody else made. No hub is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinship.cli import checks
from twinship.cli.options import BUILD, Json, app, path_option
from twinship.cli.show import draw, plain, say, say_json

TFLITE = typer.Argument(
    parser=checks.file_to_read(checks.MAX_MODEL_BYTES),
    metavar="FILE",
    help="A TFLite model with one picture as its input.",
)


@app.command("package")
def package_command(
    file: Annotated[Path, TFLITE],
    labels: Annotated[
        Path | None,
        path_option(
            checks.file_to_read(checks.MAX_TEXT_BYTES), "Labels, one on each line [from the metadata]."
        ),
    ] = None,
    out: Annotated[
        Path | None, path_option(checks.file_to_write, "The artefact [build/NAME.twinship.tflite].")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model [from the file].")] = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1.0.0",
    mean: Annotated[
        str | None, typer.Option(help="Mean of the pixels: 127.5 or three numbers 1,2,3.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation of the pixels, as --mean.")] = None,
    order: Annotated[str, typer.Option(help="Order of the channels: rgb or bgr.")] = "rgb",
    resize: Annotated[
        str, typer.Option(help="Pictures of another shape: stretch, crop or letterbox.")
    ] = "stretch",
    head: Annotated[
        str | None, typer.Option(help="softmax, logits, sigmoid, ssd, yolo or centers [from the model].")
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(callback=checks.finite, min=0, max=1, help="Lowest score of a detection.")
    ] = None,
    iou_threshold: Annotated[
        float | None,
        typer.Option(
            callback=checks.finite, min=0, max=1, help="yolo: boxes that overlap more are one object."
        ),
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(min=1, max=300, help="Most detections of a picture.")
    ] = None,
    box_pixels: Annotated[
        bool, typer.Option("--box-pixels", help="yolo: the boxes count pixels of the input.")
    ] = False,
    probes: Annotated[
        Path | None,
        path_option(checks.folder_of_files, "Pictures for the proof on the device [drawn patterns]."),
    ] = None,
    drift: Annotated[
        Path | None,
        path_option(
            checks.folder_of_files, "100 pictures or more, as the camera sends them: for drift [none]."
        ),
    ] = None,
    latency_budget_ms: Annotated[
        float | None,
        typer.Option(
            callback=checks.finite, min=0.001, help="Longest invoke on a device [10 times the slowest here]."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an artefact of a TFLite model that somebody else made."""
    from twinship.packaging.choose import options
    from twinship.packaging.package import Request, default_name, package

    named = default_name(file) if name is None else name
    made = package(
        Request(
            file=file,
            out=out or BUILD / f"{named}.twinship.tflite",
            name=named,
            version=version,
            options=options(
                labels=None if labels is None else labels.read_text(encoding="utf-8", errors="replace"),
                mean=_numbers("--mean", mean),
                std=_numbers("--std", std),
                order=order,
                resize=resize,
                head=head,
                score_threshold=score_threshold,
                iou_threshold=iou_threshold,
                max_detections=max_detections,
                box_pixels=box_pixels,
            ),
            probes=probes,
            drift=drift,
            latency_budget_ms=latency_budget_ms or 0.0,
        )
    )
    if as_json:
        say_json(plain(made) | {"manifest": made.manifest.model_dump(by_alias=True)})
        return
    for line in made.notes:
        say(line)
    shape = made.manifest.input
    say(
        f"{made.out}: {made.manifest.name}:{made.manifest.version}, {made.manifest.task}, "
        f"{made.labels} labels, {shape.width}x{shape.height}, {made.size:,} bytes, {made.probes} probes"
    )
    draw(("runtime", "median"), [(runtime, f"{ms:.3f} ms") for runtime, ms in made.p50_ms.items()])


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    try:
        return () if text is None else tuple(float(each) for each in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option} {text}: use a number, or three with commas: 1,2,3") from None
