"""Pins all threads of a module to one processor core.

A frame passes through a dozen threads of the SDK and paho, and the GIL runs one of them at a time. Passing
the GIL to a thread on another core costs more than the parallel work could save.
"""

import logging
import os
from typing import Final

logger = logging.getLogger(__name__)

#: The cores that the system allowed this process before it was pinned; child processes may use them all.
ALLOWED_CORES: Final = frozenset(os.sched_getaffinity(0))
ANY_CORE: Final = "any"


def pin_to_one_core(default: int, requested: str | None = None) -> None:
    """Run this thread, and every thread that it starts from now on, on one core.

    `default` indexes the allowed cores; -1 is the last. `requested` overrides it with a core number of the
    system, or with "any", which pins nothing. An unusable value is logged and pins nothing either.
    """
    if requested == ANY_CORE:
        return
    core = sorted(ALLOWED_CORES)[default % len(ALLOWED_CORES)]
    if requested:
        core = int(requested) if requested.isdecimal() else -1
    if core in ALLOWED_CORES:
        os.sched_setaffinity(0, {core})
    else:
        cores = ", ".join(map(str, sorted(ALLOWED_CORES)))
        logger.error("MODULE_CORE=%s: cure: one of %s, or %s", requested, cores, ANY_CORE)
