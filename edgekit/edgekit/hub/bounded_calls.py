"""Calls that may never return, bounded in time and in number; knows nothing of what is called."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class NoAnswer(Exception):
    """The call has not returned in time. Its thread stays behind: nothing can end it."""


class TooManyUnanswered(NoAnswer):
    """As many calls hang as we are willing to keep; only a new process gets rid of them."""


class BoundedCaller:
    """Runs each call on a thread of its own, and no more than `max_hanging` that do not return."""

    def __init__(self, max_hanging: int) -> None:
        self._max_hanging = max_hanging
        self._hanging = 0
        self._lock = threading.Lock()

    @property
    def hanging(self) -> int:
        """How many calls were given up and have not returned since."""
        return self._hanging

    def ask(self, what: str, call: Callable[[], T], timeout_s: float) -> T:
        """What `call` returns or raises; NoAnswer after `timeout_s`, TooManyUnanswered without a try."""
        if self._hanging >= self._max_hanging:
            raise TooManyUnanswered(f"{what}: {self._hanging} earlier requests were never answered")
        returned = threading.Event()
        outcome: list[Any] = []
        given_up = False

        def run() -> None:
            try:
                outcome.append((call(), None))
            except Exception as error:
                outcome.append((None, error))
            with self._lock:
                returned.set()
                if given_up:
                    self._hanging -= 1

        threading.Thread(target=run, name=f"ask-{what}", daemon=True).start()
        if not returned.wait(timeout_s):
            with self._lock:
                if not returned.is_set():
                    given_up = True
                    self._hanging += 1
                    raise NoAnswer(f"{what}: no answer in {timeout_s:g} s")
        result, error = outcome[0]
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]
