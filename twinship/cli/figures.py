"""bench, advise: what was measured, and what follows from it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from twinship.cli.options import BUILD, Dataset, Json, app
from twinship.cli.show import draw, plain, progress, say, say_json


@app.command("bench")
def bench_verb(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO]... | compare A B", help="None: those of every day."),
    ] = None,
    dataset: Dataset = "auto",
    folder: Annotated[Path, typer.Option(help="The report ends up there.")] = BUILD / "bench",
    models: Annotated[Path, typer.Option(help="Where the two models are kept.")] = BUILD / "demo-models",
    as_json: Json = False,
) -> None:
    """Measure on the real path; or compare two reports, by file or by commit."""
    from twinship.bench.run import run

    if words and words[0] == "compare":
        _bench_compare(words[1:], folder, as_json)
        return
    report = run(tuple(words or ()), folder, models, dataset, progress())
    if as_json:
        say_json(report)
        return
    rows = [
        (
            bar["name"],
            _number(bar["value"]),
            _number(bar["must"]),
            _number(bar["goal"]),
            bar["unit"],
            bar["verdict"],
        )
        for bar in report["bars"]
    ]
    draw(("figure", "measured", "must", "goal", "unit", "verdict"), rows)
    say(f"figures: {folder / 'report.json'}, {folder / 'report.html'}")


def _bench_compare(words: list[str], folder: Path, as_json: bool) -> None:
    from twinship.bench import BenchFailed
    from twinship.bench.report.compare import caveats, compare, find

    if len(words) != 2:
        raise BenchFailed("bench compare takes two reports: files, or commits that were measured here")
    before, after = (find(word, folder) for word in words)
    rows = compare(before, after)
    for caveat in caveats(before, after):
        print(f"twinship: {caveat}", file=sys.stderr)
    if as_json:
        say_json([{**plain(row), "ratio": row.ratio} for row in rows])
        return
    shown = [
        (row.name, _number(row.before), _number(row.after), _number(row.ratio), row.verdict) for row in rows
    ]
    draw(("figure", words[0], words[1], "ratio", "beyond noise"), shown)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}" if abs(value) < 1_000 else f"{value:,.0f}"


@app.command("advise")
def advise_verb(
    fps: Annotated[float, typer.Option(help="Frames in a second.")],
    max_latency_ms: Annotated[float, typer.Option(help="From a frame to its answer.")],
    bandwidth: Annotated[str, typer.Option(help="Of the link to the cloud: 2Mbit, 250kB.")],
    rtt_ms: Annotated[float, typer.Option(help="Round trip to the cloud; 0 flatters the cloud.")] = 0.0,
    frame_bytes: Annotated[int | None, typer.Option(help="A frame on the wire [a 28x28 PNG's].")] = None,
    hop_ms: Annotated[float | None, typer.Option(help="One hop through edgeHub [10].")] = None,
    accuracy: Annotated[float, typer.Option(help="At least this share of answers right.")] = 0.0,
    cost: Annotated[bool, typer.Option("--cost", help="Units of each tier of IoT Hub; no prices.")] = False,
    build: Annotated[Path, typer.Option(help="Trained models are looked for below.")] = BUILD,
    as_json: Json = False,
) -> None:
    """Edge or cloud, which model, which measured device, and how many messages a day."""
    from twinship.bench.advise import advice
    from twinship.bench.advise.advise import FRAME_BYTES, HOP_MS, ModelSection, advise, gather
    from twinship.bench.advise.quantities import bandwidth as parsed

    size = FRAME_BYTES if frame_bytes is None else frame_bytes
    hop = HOP_MS if hop_ms is None else hop_ms
    section = ModelSection(fps, max_latency_ms, parsed(bandwidth), rtt_ms, size, hop, accuracy)
    found = advise(section, *gather(build))
    if as_json:
        say_json(advice.to_json(section, found))
    else:
        for line in advice.verdict(section, found):
            say(line)
        for title, columns, rows in advice.tables(found, cost=cost):
            say(f"\n{title}")
            draw(columns, rows)
    if found.place == "neither":
        raise typer.Exit(1)
