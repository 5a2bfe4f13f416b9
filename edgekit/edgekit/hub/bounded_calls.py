"""Calls that may never return, limited in time and in number."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class NoAnswer(Exception):
    """The call has not returned in time. Its thread stays: Python cannot end it."""


class TooManyUnanswered(NoAnswer):
    """The maximum number of calls hangs; only a new process gets rid of their threads."""


class BoundedCaller:
    """Runs each call on its own thread; at most `max_hanging` calls may hang."""

    def __init__(self, max_hanging: int) -> None:
        self._max_hanging = max_hanging
        self._hanging = 0  # calls that timed out and have not returned since
        self._lock = threading.Lock()

    def call(self, name: str, function: Callable[[], T], timeout_s: float) -> T:
        """Return what `function` returns, or raise what it raises.

        Raises NoAnswer after `timeout_s`, and TooManyUnanswered without a call if too many hang.
        """
        if self._hanging >= self._max_hanging:
            raise TooManyUnanswered(f"{name}: {self._hanging} earlier requests were never answered")
        returned = threading.Event()
        outcome: list[Any] = []
        timed_out = False

        def run() -> None:
            try:
                outcome.append((function(), None))
            except Exception as error:
                outcome.append((None, error))
            with self._lock:
                returned.set()
                if timed_out:
                    self._hanging -= 1

        threading.Thread(target=run, name=f"call-{name}", daemon=True).start()
        if not returned.wait(timeout_s):
            with self._lock:
                if not returned.is_set():
                    timed_out = True
                    self._hanging += 1
                    raise NoAnswer(f"{name}: no answer in {timeout_s:g} s")
        result, error = outcome[0]
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]
