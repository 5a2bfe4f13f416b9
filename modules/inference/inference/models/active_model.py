"""Who answers the frames: the model on duty, the one to go back to, and whether the first is on probation.

The frame path reads one attribute and tells how each frame went; changing the model is one assignment.
Nothing here waits, loads, stores or reports: an end of probation is handed to a callback.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from inference.models.installer import Running
from inference.models.probation import Probation, ProbationResult


@dataclass(frozen=True)
class _Watch:
    running: Running
    probation: Probation


class ActiveModel:
    """`on_ending` is called once for each probation that ends, on the frame path: it must not block."""

    def __init__(self, on_ending: Callable[[Running, ProbationResult], None]) -> None:
        self.current: Running | None = None
        self.previous: Running | None = None
        self._on_ending = on_ending
        self._watch: _Watch | None = None
        self._lock = threading.Lock()

    @property
    def on_probation(self) -> bool:
        return self._watch is not None

    def take_over(
        self, running: Running, previous: Running | None, probation: Probation | None = None
    ) -> None:
        """From the next frame on `running` answers. A frame in flight ends with the model it began with."""
        with self._lock:
            self._watch = _Watch(running, probation) if probation else None
            self.previous = previous
            self.current = running

    def answered(self, running: Running, invoke_ms: float) -> None:
        """`running` answered a frame."""
        watch = self._watch
        if watch is not None and watch.running is running:
            self._end(watch, watch.probation.answered(invoke_ms))

    def failed(self, running: Running, error: Exception) -> Running | None:
        """The engine of `running` raised on a frame: who answers it instead, if anyone."""
        watch = self._watch
        if watch is not None and watch.running is running:
            self._end(watch, watch.probation.failed(error))
        previous = self.previous
        return None if previous is running else previous

    def _end(self, watch: _Watch, ending: ProbationResult | None) -> None:
        if ending is None:
            return
        with self._lock:
            if self._watch is not watch:
                return  # another model was promoted at this very moment
            self._watch = None
            if not ending.passed:
                # At once, not when the delivery thread comes to it: every frame counts.
                self.current = self.previous
        self._on_ending(watch.running, ending)
