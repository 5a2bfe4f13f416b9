"""The terminal output of the demo: steps, live numbers, and the tables at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from inference.frames.ledger import STAGES
from twinship.demo.report import Summary
from twinship.printable import printable

PLAIN_LINE_EVERY = 50  # frames; if the output is not a terminal


@dataclass(frozen=True)
class Live:
    """The numbers while frames are sent."""

    answered: int
    version: str
    answer_p50_ms: float | None  # capture to prediction, of the newest frames

    def __str__(self) -> str:
        latency = "" if self.answer_p50_ms is None else f", frame to answer p50 {self.answer_p50_ms:.1f} ms"
        return f"model {self.version or '–'}{latency}"


class Screen:
    """A terminal, or a plain log if the output is not a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._last_line = -1

    def step(self, text: str) -> None:
        """Print one step that has begun or is done."""
        self.console.print(f"[bold]▸[/bold] {_shown(text)}", highlight=False)

    @contextmanager
    def frames(self, expected: int) -> Iterator[None]:
        """Show the progress of the frames while this is entered; `expected` 0: without end."""
        columns = [BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")]
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            self._progress, self._task = progress, progress.add_task("", total=expected or None)
            yield
        self._progress = None

    def live(self, numbers: Live) -> None:
        """Show the newest numbers."""
        if self._progress is not None:
            self._progress.update(self._task, completed=numbers.answered, description=_shown(str(numbers)))
        line = numbers.answered // PLAIN_LINE_EVERY
        if not self.console.is_terminal and line != self._last_line:
            self._last_line = line
            self.console.print(f"  {numbers.answered} answered, {_shown(str(numbers))}", highlight=False)

    def summary(self, summary: Summary, shortcomings: list[str]) -> None:
        """Print the tables at the end, and the reasons why the run is no success."""
        self.console.print(_counts(summary), _versions(summary), _stages(summary), sep="\n")
        for line in shortcomings:
            self.console.print(f"[red]✗[/red] {_shown(line)}", highlight=False)
        if not shortcomings:
            self.console.print("[green]✓[/green] every frame is accounted for", highlight=False)


def _shown(text: str) -> str:
    """Text of a device or of a path: neither markup nor a character that the terminal obeys."""
    return escape(printable(text))


def _counts(summary: Summary) -> Table:
    table = Table(title=_shown(summary.dataset), title_justify="left")
    values = {
        "sent": summary.frames_sent,
        "answered": summary.frames_answered,
        "lost": summary.frames_lost,
        "dropped": summary.frames_dropped,
        "repeated": summary.repeats,
        "of other runs": summary.foreign_frames,
    }
    for name in values:
        table.add_column(name, justify="right")
    table.add_row(*(str(value) for value in values.values()))
    return table


def _versions(summary: Summary) -> Table:
    judged = summary.detection is not None
    measures = ("mAP50", "precision", "recall") if judged else ("accuracy",)
    table = Table("model version", "frames", *measures, "sha256", "weights")
    for name, version in summary.by_version.items():
        found = version.detection
        shares = (
            (found.map50, found.precision, found.recall) if found else (version.accuracy,) * len(measures)
        )
        table.add_row(
            _shown(name),
            str(version.frames),
            *("no truth" if each is None else f"{each:.2%}" for each in shares),
            _shown(version.sha256[:12]),
            _shown(version.weights_sha256[:12]),
        )
    return table


def _stages(summary: Summary) -> Table:
    table = Table("stage", "p50 ms", "p90 ms", "p99 ms")
    for stage in (*STAGES, "total"):
        if stage in summary.latency_ms:
            row = summary.latency_ms[stage]
            table.add_row(
                stage, *(f"{row[name]:.2f}" for name in ("p50", "p90", "p99")), end_section=stage == "publish"
            )
    return table
