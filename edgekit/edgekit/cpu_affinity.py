"""One processor core for all of a module's threads.

They take turns as it is: a frame passes a dozen threads of the SDK and paho, one of which runs at a time
(GIL). Handing the turn over to another core costs more than the work it could do meanwhile.
"""

import logging
import os
from typing import Final

logger = logging.getLogger(__name__)

#: The cores that this process was given, before it kept to one; a child with work of its own gets them all.
GIVEN: Final = frozenset(os.sched_getaffinity(0))
ANY: Final = "any"


def keep_to_one(default: int, named: str | None = None) -> None:
    """Run this thread, and those that it starts from now on, on one core.

    `default`: which of those given, -1 is the last. `named`: its number as the system counts, or "any" for
    all of them; what cannot be is logged, and all are used.
    """
    if named == ANY:
        return
    core = sorted(GIVEN)[default % len(GIVEN)]
    if named:
        core = int(named) if named.isdecimal() else -1
    if core in GIVEN:
        os.sched_setaffinity(0, {core})
    else:
        logger.error("MODULE_CORE=%s: cure: one of %s, or %s", named, ", ".join(map(str, sorted(GIVEN))), ANY)
