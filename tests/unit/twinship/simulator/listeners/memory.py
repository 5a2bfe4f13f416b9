"""Memory that ended connections leave behind while the garbage collector does not run."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Final

TLS_BYTES: Final = 262_144  # asyncio's read buffer of one TLS connection


@contextlib.contextmanager
def left_bytes() -> Iterator[Callable[[], int]]:
    """A function that returns how many bytes more are allocated than at the beginning of the block."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
