"""Output of the commands: a line, JSON, a table, progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any


def say(text: str) -> None:
    print(text, flush=True)


def say_json(value: Any, indent: int | None = 2) -> None:
    say(json.dumps(value, indent=indent, ensure_ascii=False))


def plain(value: Any) -> Any:
    """A dataclass as JSON types."""
    return json.loads(json.dumps(asdict(value), default=str))


def draw(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # Text: square brackets in names are not markup
    Console().print(table, highlight=False)


def progress() -> Callable[[str, float], None]:
    """A callback that shows a share of 1 on stderr: one changing line, or a line per tenth in a log."""
    shown = -1

    def show(text: str, share: float) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            print(f"\r\033[K{share:4.0%} {text}", end="" if share < 1 else "\n", file=sys.stderr, flush=True)
        elif int(share * 10) != shown:
            shown = int(share * 10)
            print(f"{share:4.0%} {text}", file=sys.stderr, flush=True)

    return show
