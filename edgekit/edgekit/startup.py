"""What a module does before the imports that take half a second: it hears SIGTERM and writes a log line.

Process 1 of a container has no default action for a signal: without a handler the kernel drops SIGTERM, and
the engine waits ten seconds before it kills. Call `begin` from the first lines of `__main__`:

    from edgekit import startup

    startup.begin("inference")

    from inference.service import Service
"""

import os
import signal
from types import FrameType


def begin(module: str) -> None:
    """End with status 0 on SIGTERM and SIGINT until `run_module` takes them over; begin the log."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    import logging

    from edgekit import log

    log.setup(module)
    logging.getLogger(module).info("starting")


def _end(_number: int, _frame: FrameType | None) -> None:
    """End at once: nothing is open yet that needs closing."""
    os._exit(0)
