"""Output of the commands: a line, a warning, JSON, a table, progress.

Everything that a command prints goes through these functions, which show no character that a terminal obeys:
names, errors and labels come from devices, twins and files.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from twinship.printable import printable


def say(text: str) -> None:
    """One line on stdout."""
    print(printable(text), flush=True)


def warn(text: str) -> None:
    """One line on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def say_json(value: Any, indent: int | None = 2) -> None:
    """JSON in ASCII, which any terminal and any locale carries. A number that is not finite is null."""
    print(json.dumps(_finite(value), indent=indent, allow_nan=False), flush=True)


def _finite(value: Any) -> Any:
    """The value with None for NaN and the infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain(value: Any) -> Any:
    """A dataclass as JSON types."""
    return json.loads(json.dumps(asdict(value), default=str))


def draw(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(Text(printable(column)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: square brackets are not markup
    Console().print(table, highlight=False)


def progress() -> Callable[[str, float], None]:
    """A callback that shows a share of 1 on stderr: one changing line, or a line per tenth in a log."""
    shown = -1

    def show(text: str, share: float) -> None:
        nonlocal shown
        line = printable(f"{share:4.0%} {text}")
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="" if share < 1 else "\n", file=sys.stderr, flush=True)
        elif int(share * 10) != shown:
            shown = int(share * 10)
            print(line, file=sys.stderr, flush=True)

    return show
