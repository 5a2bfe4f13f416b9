"""Waiting for other processes, and reading the ledgers that they write meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twinship.bench import BenchFailed

LOOK_S: Final = 0.05


def until(true: Callable[[], bool], patience_s: float, what: str) -> None:
    """Look until it is true. Raises BenchFailed after so long."""
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            raise BenchFailed(f"waited {patience_s:g} s in vain for {what}")
        time.sleep(LOOK_S)


def lines(ledger: Path) -> list[str]:
    """The whole lines of a file that somebody appends to; none where there is no file yet."""
    if not ledger.exists():
        return []
    with ledger.open(encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]
