"""Handle Ctrl-C and SIGTERM between two training steps, never inside one.

An exception inside TensorFlow's own Python code frees memory that its threads still use. The process then
sometimes dies of a damaged heap instead of ending in order.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

DEFERRED: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred() -> Iterator[Callable[[], None]]:
    """Defer signals inside the `with` until its function is called, or until the end.

    Python runs signal handlers in the main thread only: other threads, and signals without a Python handler,
    are not affected.
    """
    pending: list[int] = []
    before: dict[int, Callable[[int, Any], Any]] = {}

    def handle() -> None:
        while pending:
            before[number := pending.pop(0)](number, None)

    if threading.current_thread() is threading.main_thread():
        for number in DEFERRED:
            if callable(handler := signal.getsignal(number)):
                before[number] = handler
                signal.signal(number, lambda number, _frame: pending.append(number))
    try:
        yield handle
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    handle()
