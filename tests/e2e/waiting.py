"""Waiting for an effect of another process. A failure names what was expected."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0  # much longer than anything here takes, also on a busy machine


def wait_until(true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Poll until `true()` is true: other processes have no event to wait for."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.05)
