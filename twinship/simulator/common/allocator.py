"""Settings of the C library's allocator for a process that serves connections.

asyncio's TLS allocates 256 KiB for each connection. When glibc frees its first block of that size, it takes
later ones from the heap, and the holes that they leave there stay resident. With a fixed threshold they come
from mmap and go back to the system. MQTT packets are smaller and come from the heap, which does not shrink
after each of them (mallopt(3)).
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
MMAP_BYTES: Final = 256 << 10
TRIM_BYTES: Final = 1 << 20


def give_back_large_blocks() -> None:
    """Call it once, early; it does nothing without glibc."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES)
