"""The commands bench and advise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinship.cli import checks
from twinship.cli.options import BUILD, DEMO_MODELS, Dataset, Json, app, path_option
from twinship.cli.show import draw, plain, progress, say, say_json, warn

DEVICES = Path("devices")


@app.command("bench")
def bench_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCENARIO]... | compare A B", help="The scenarios to measure [the everyday ones]."
        ),
    ] = None,
    dataset: Dataset = "auto",
    folder: Annotated[Path, path_option(checks.folder_to_write, "Folder of the report.")] = BUILD / "bench",
    models: Annotated[
        Path, path_option(checks.folder_to_write, "Folder of the two trained models.")
    ] = DEMO_MODELS,
    as_json: Json = False,
) -> None:
    """Measure the real path, or compare two reports."""
    from twinship.bench.report.figures import number
    from twinship.bench.run import run

    if names and names[0] == "compare":
        _bench_compare(names[1:], folder, as_json)
        return
    report = run(tuple(names or ()), folder, models, dataset, progress())
    if as_json:
        say_json(report)
        return
    rows = [
        (
            bar["name"],
            number(bar["value"]),
            number(bar["must"]),
            number(bar["goal"]),
            bar["unit"],
            bar["verdict"],
        )
        for bar in report["bars"]
    ]
    draw(("figure", "measured", "must", "goal", "unit", "verdict"), rows)
    say(f"figures: {folder / 'report.json'}, {folder / 'report.html'}")


def _bench_compare(names: list[str], folder: Path, as_json: bool) -> None:
    from twinship.bench import BenchFailed
    from twinship.bench.report.compare import caveats, compare, find
    from twinship.bench.report.figures import number

    if len(names) != 2:
        raise BenchFailed(
            "bench compare takes two reports: files, or commits that were measured on this machine"
        )
    before, after = (find(name, folder) for name in names)
    rows = compare(before, after)
    for caveat in caveats(before, after):
        warn(f"twinship: {caveat}")
    if as_json:
        say_json([{**plain(row), "ratio": row.ratio} for row in rows])
        return
    shown = [
        (row.name, number(row.before), number(row.after), number(row.ratio), row.verdict) for row in rows
    ]
    draw(("figure", names[0], names[1], "ratio", "beyond noise"), shown)


@app.command("advise")
def advise_command(
    fps: Annotated[float, typer.Option(callback=checks.finite, help="Frames per second.")],
    max_latency_ms: Annotated[
        float, typer.Option(callback=checks.finite, help="Longest time from a frame to its answer.")
    ],
    bandwidth: Annotated[str, typer.Option(help="Bandwidth of the link to the cloud: 2Mbit, 250kB.")],
    rtt_ms: Annotated[
        float, typer.Option(callback=checks.finite, help="Round trip to the cloud; 0 favours the cloud.")
    ] = 0.0,
    frame_bytes: Annotated[
        int | None, typer.Option(help="Size of a frame on the wire [a PNG of 28x28].")
    ] = None,
    hop_ms: Annotated[
        float | None, typer.Option(callback=checks.finite, help="One hop through edgeHub [10].")
    ] = None,
    accuracy: Annotated[
        float, typer.Option(callback=checks.finite, help="Lowest accepted accuracy, a share of 1.")
    ] = 0.0,
    cost: Annotated[bool, typer.Option("--cost", help="Show units of each IoT Hub tier; no prices.")] = False,
    build: Annotated[Path, path_option(checks.folder_to_read, "Folder with trained models.")] = BUILD,
    devices: Annotated[
        Path,
        path_option(
            checks.folder_to_read, "Folder with results of `twinship benchmark --out`, besides Twinship's."
        ),
    ] = DEVICES,
    as_json: Json = False,
) -> None:
    """Advise edge or cloud, a model and a device; count the messages."""
    from twinship.bench.advise import advice
    from twinship.bench.advise.advise import FRAME_BYTES, HOP_MS, Requirements, advise, gather
    from twinship.bench.advise.quantities import bandwidth as parsed

    size = FRAME_BYTES if frame_bytes is None else frame_bytes
    hop = HOP_MS if hop_ms is None else hop_ms
    requirements = Requirements(fps, max_latency_ms, parsed(bandwidth), rtt_ms, size, hop, accuracy)
    found = advise(requirements, *gather(build, devices))
    if as_json:
        say_json(advice.to_json(requirements, found))
    else:
        for line in advice.verdict(requirements, found):
            say(line)
        for title, columns, rows in advice.tables(found, cost=cost):
            say("")
            say(title)
            draw(columns, rows)
    if found.place == "neither":
        raise typer.Exit(1)
