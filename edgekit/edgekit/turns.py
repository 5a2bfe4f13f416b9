"""Whose turn it is to take a message and put it on the wire: one thread's at a time, which keeps order."""

from threading import Lock
from types import TracebackType
from typing import Self


class Turn:
    """Entered, it is this thread's. `end` may be called by any thread, and again."""

    def __init__(self, turns: Lock) -> None:
        self._turns = turns
        self._first_end = Lock()

    def __enter__(self) -> Self:
        self._turns.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Let the next thread begin."""
        if self._first_end.acquire(blocking=False):
            self._turns.release()


class Turns:
    """Threads that take turns."""

    def __init__(self) -> None:
        self._lock = Lock()

    def next(self) -> Turn:
        """The calling thread's next turn, once entered."""
        return Turn(self._lock)
