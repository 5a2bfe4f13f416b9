"""Ctrl-C and SIGTERM while TensorFlow computes: heard between two steps, never inside one.

An exception in the middle of TensorFlow's own Python frees what its threads still use: now and then the
process then dies of a damaged heap instead of ending in order.
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
    """While entered, a signal waits until the function that is handed out is called, or the end.

    Only the main thread hears signals: elsewhere nothing changes, nor for signals without a handler.
    """
    came: list[int] = []
    before: dict[int, Callable[[int, Any], Any]] = {}

    def act() -> None:
        while came:
            before[number := came.pop(0)](number, None)

    if threading.current_thread() is threading.main_thread():
        for number in DEFERRED:
            if callable(handler := signal.getsignal(number)):
                before[number] = handler
                signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield act
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    act()
