"""Waiting for something that another process does. A failure says what was waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0  # far beyond what anything here takes, also on a busy machine


def wait_until(true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Look until it is true; other processes tell nobody, so there is nothing better to wait on."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s in vain for {what}"
        time.sleep(0.05)
