"""The command blocks of docs/azure.md with their marks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"(?:^(?:▶ `(?P<test>[^`]+)`|(?P<not_run>✋ not run here))\n\n)?^```sh\n(?P<lines>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A block: "▶" with the test that runs it, "✋" if no test does, "" if the mark is missing; its lines."""

    mark: str
    test: str | None
    lines: tuple[str, ...]


def blocks(text: str | None = None) -> list[Block]:
    """Every sh block of a page, by default of docs/azure.md."""
    text = (ROOT / "docs" / "azure.md").read_text() if text is None else text
    return [
        Block(
            "▶" if each["test"] else "✋" if each["not_run"] else "",
            each["test"],
            tuple(each["lines"].splitlines()),
        )
        for each in _BLOCK.finditer(text)
    ]
