"""The model that serves the frames, the one to go back to, and the probation of the first.

The frame path reads `current` and passes on how each frame went. To change the model is one assignment;
nothing here waits, loads or saves. If probation fails, the previous model serves from the next frame on.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from inference.model_section import ModelRef
from inference.models.errors import Reason
from inference.models.installer import Running


@dataclass(frozen=True)
class ProbationResult:
    """How a probation ended; `failure` is None if the model passed."""

    failure: Reason | None = None


@dataclass
class Probation:
    """Counts the frames of a new model until there is a result. Only exceptions of the engine are errors.

    >>> probation = Probation(budget_ms=5.0, frames=2)
    >>> probation.answered(4.0)
    >>> probation.answered(4.5)
    ProbationResult(failure=None)
    """

    budget_ms: float  # for p95 of invoke
    frames: int = 50
    max_errors: int = 3  # this many exceptions end it
    began_s: float = 0.0  # CLOCK_MONOTONIC
    max_s: float = 600.0  # a slow camera ends it after this time …
    min_frames: int = 5  # … with at least this many answers
    errors: int = field(default=0, init=False)
    _invokes_ms: list[float] = field(default_factory=list, init=False, repr=False)

    def answered(self, invoke_ms: float, now_s: float = 0.0) -> ProbationResult | None:
        """The model answered one frame. `now_s`: CLOCK_MONOTONIC."""
        self._invokes_ms.append(invoke_ms)
        # With `frames` answers, p95 (nearest rank) is over the budget exactly when this many are.
        too_many = self.frames - math.ceil(0.95 * self.frames) + 1
        slow = sorted(ms for ms in self._invokes_ms if ms > self.budget_ms)
        if len(slow) >= too_many:
            counted = len(self._invokes_ms)
            took = f"{len(slow)} of {counted} frames took {slow[0]:.3g} ms or more"
            text = f"{took}; the budget is {self.budget_ms:g} ms for 95 in 100"
            return ProbationResult(Reason("too-slow", text))
        enough = min(self.min_frames, self.frames) if now_s - self.began_s >= self.max_s else self.frames
        return ProbationResult() if len(self._invokes_ms) >= enough else None

    def failed(self, error: Exception) -> ProbationResult | None:
        """The engine raised on one frame."""
        self.errors += 1
        if self.errors < self.max_errors:
            return None
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        message = f"{self.errors} frames failed; the last one with {text}"
        return ProbationResult(Reason("engine-errors", message))


@dataclass(frozen=True)
class _Watch:
    running: Running
    probation: Probation


class ActiveModel:
    """Calls `on_probation_end` once for each probation that ends, on the frame path: it must not block."""

    def __init__(self, on_probation_end: Callable[[Running, ProbationResult], None]) -> None:
        self._on_probation_end = on_probation_end
        self._current: Running | None = None
        self._previous: Running | None = None
        self._watch: _Watch | None = None
        self._lock = threading.Lock()
        self._answered: Running | None = None  # the model that answered the last frame since `set`
        self._answers = threading.Condition()

    @property
    def current(self) -> Running | None:
        """The model that serves the next frame."""
        return self._current

    def set(
        self, running: Running | None, previous: Running | None = None, probation: Probation | None = None
    ) -> None:
        """From the next frame on `running` serves. A frame in flight ends with the model it began with."""
        with self._answers:
            self._answered = None
        with self._lock:
            self._watch = _Watch(running, probation) if running and probation else None
            self._previous = previous
            self._current = running

    def set_previous(self, previous: Running | None) -> None:
        """Change the model to go back to; the probation of the current one goes on."""
        self._previous = previous

    def answered(self, running: Running, invoke_ms: float) -> None:
        """`running` answered a frame."""
        if running is not self._answered:  # its first one
            with self._answers:
                self._answered = running
                self._answers.notify_all()
        watch = self._watch
        if watch is not None and watch.running is running:
            self._end(watch, watch.probation.answered(invoke_ms, monotonic()))

    def wait_answered(self, ref: ModelRef, timeout_s: float) -> bool:
        """Wait until this model has answered a frame since it serves; False if it did not in time."""
        with self._answers:
            return self._answers.wait_for(
                lambda: self._answered is not None and self._answered.ref.sha256 == ref.sha256, timeout_s
            )

    def failed(self, running: Running, error: Exception) -> Running | None:
        """The engine of `running` raised on a frame: the model that serves it instead, if any."""
        watch = self._watch
        if watch is not None and watch.running is running:
            self._end(watch, watch.probation.failed(error))
        previous = self._previous
        return None if previous is running else previous

    def _end(self, watch: _Watch, result: ProbationResult | None) -> None:
        if result is None:
            return
        with self._lock:
            if self._watch is not watch:
                return  # another model was promoted at this very moment
            self._watch = None
            if result.failure is not None:
                # At once, not when the reconciler comes to it: every frame counts.
                self._current = self._previous
        self._on_probation_end(watch.running, result)
