"""monitor: prints the predictions and the latency that arrive at IoT Hub, or at the simulator."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinship.cli import checks
from twinship.cli.options import DOT_ENV, EnvFile, app, path_option
from twinship.cli.show import say, say_json, warn
from twinship.printable import printable

if TYPE_CHECKING:
    from twinship.fleet.monitor import UpstreamMessage
    from twinship.fleet.monitor.event_hub import Event
    from twinship.fleet.monitor.rows import Filter, Rate

SAVE_S = 1.0  # how often the checkpoint is written
RATE_S = 10.0  # how often the rate is printed


class Output(StrEnum):
    """The format of the messages on stdout."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


def _start(value: str) -> str:
    if value not in ("now", "start"):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise checks.CannotUse(
                f"{value!r} is no start; cure: now, start, or a time as 2026-11-28T06:30:00Z"
            ) from None
    return value


def _group(value: str) -> str:
    if value != "$Default":
        checks.consumer_groups([value])
    return value


def _devices(values: list[str] | None) -> list[str] | None:
    for value in values or ():
        checks.device_name(value)
    return values


def _labels(values: list[str] | None) -> list[str] | None:
    for value in values or ():
        checks.filled(value)
    return values


_CONFIDENCE = {"callback": checks.finite, "min": 0.0, "max": 1.0}


@app.command("monitor")
def monitor_command(
    start: Annotated[
        str,
        typer.Option(
            "--from", callback=_start, help="now, start, or a time (ISO 8601; UTC if it has no zone)."
        ),
    ] = "now",
    consumer_group: Annotated[str, typer.Option(callback=_group, help="Consumer group.")] = "$Default",
    checkpoint: Annotated[
        Path | None,
        path_option(checks.file_to_write, "Remember the position in this file, and continue there."),
    ] = None,
    output: Annotated[
        Output, typer.Option(help="Format on stdout; csv has predictions only.")
    ] = Output.TABLE,
    device: Annotated[
        list[str] | None, typer.Option(callback=_devices, help="Only this device (repeatable).")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(callback=_labels, help="Only predictions of this label (repeatable).")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(help="Only predictions from this confidence.", **_CONFIDENCE)
    ] = 0.0,
    max_confidence: Annotated[
        float, typer.Option(help="Only predictions up to this confidence.", **_CONFIDENCE)
    ] = 1.0,
    env_file: EnvFile = DOT_ENV,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --output jsonl.")] = False,
) -> None:
    """Print the predictions and latency sent upstream, until Ctrl-C."""
    from twinship.fleet.monitor import event_hub
    from twinship.fleet.monitor.checkpoint import Checkpoint
    from twinship.fleet.monitor.rows import Filter

    endpoint = event_hub.find(os.environ, env_file)
    kept = Checkpoint(checkpoint, endpoint.name, consumer_group) if checkpoint else None
    offsets = kept.load() if kept else {}
    chosen = Filter(tuple(device or ()), tuple(label or ()), min_confidence, max_confidence)
    screen = _Screen(_PRINTERS[Output.JSONL if as_json else output](), chosen)
    saved = time.monotonic()
    with event_hub.Reader(endpoint, consumer_group, _time(start), offsets, warn) as reader:
        try:
            for event in reader:
                if event is not None:
                    screen.show(event)
                    offsets[event.partition] = event.offset
                screen.tick(now := time.monotonic())
                if kept and event and now - saved >= SAVE_S:
                    kept.save(offsets)
                    saved = now
        finally:
            screen.end()
            if kept:
                kept.save(offsets)


def _time(start: str) -> str | datetime:
    if start in ("now", "start"):
        return start
    when = datetime.fromisoformat(start)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


class _Screen:
    """Prints the messages of events that pass the filter, on stderr what cannot be read, and the rate."""

    def __init__(self, printer: Callable[[UpstreamMessage], None], chosen: Filter) -> None:
        from twinship.fleet.monitor.rows import Rate

        self._printer, self._filter = printer, chosen
        self._rate: Rate = Rate()
        self._since = time.monotonic()

    def show(self, event: Event) -> None:
        from twinship.fleet.monitor import BadLine, Batch, parse_body

        try:
            message = parse_body(event.source, event.body)
            for one in message.predictions if isinstance(message, Batch) else (message,):
                if self._filter.passes(one):
                    self._show(one)
        except (BadLine, RecursionError) as error:  # a body that nests too deep ends no monitoring
            source = event.source
            reason = str(error) if isinstance(error, BadLine) else "nested too deep"
            warn(f"twinship: skipped {len(event.body)} bytes of {source.device}/{source.module}: {reason}")

    def _show(self, message: UpstreamMessage) -> None:
        from twinship.fleet.monitor import Prediction
        from twinship.fleet.monitor.rows import total_ms

        self._printer(message)
        if isinstance(message, Prediction):
            self._rate.add(total_ms(message))

    def tick(self, now: float) -> None:
        """Print the rate if it is due."""
        if now - self._since >= RATE_S:
            self._print_rate(now)

    def end(self) -> None:
        """Print the rate of the last seconds."""
        self._print_rate(time.monotonic())

    def _print_rate(self, now: float) -> None:
        line, self._since = self._rate.line(now - self._since), now
        if line:
            warn(line)


def _table() -> Callable[[UpstreamMessage], None]:
    from twinship.fleet.monitor.rows import HEADER, table_line

    say(HEADER)
    return lambda message: say(table_line(message))


def _jsonl() -> Callable[[UpstreamMessage], None]:
    from twinship.fleet.monitor.rows import row

    return lambda message: say_json(row(message), indent=None)


def _csv() -> Callable[[UpstreamMessage], None]:
    import csv
    import io

    from twinship.fleet.monitor import Prediction
    from twinship.fleet.monitor.rows import CSV_COLUMNS, row

    def write(cells: list[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(printable(each) for each in cells)
        say(line.getvalue())

    def show(message: UpstreamMessage) -> None:
        if isinstance(message, Prediction):
            found = row(message)
            write([str(found[name]) for name in CSV_COLUMNS])

    write(list(CSV_COLUMNS))
    return show


_PRINTERS = {Output.TABLE: _table, Output.JSONL: _jsonl, Output.CSV: _csv}
