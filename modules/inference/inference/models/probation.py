"""The first frames of a promoted model: does it keep what the proof promised? Pure: figures are handed in.

Bad frames are not told here: only the engine's own exceptions count against a model.
"""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ProbationResult:
    """How probation ended: an empty code for well, else one of reconcile.CODES."""

    code: str = ""
    message: str = ""

    @property
    def passed(self) -> bool:
        return not self.code


@dataclass
class Probation:
    """Counts until there is an Ending; it gives that once, and is of no use afterwards."""

    budget_ms: float  # p95 of invoke may be this much
    frames: int = 50
    max_errors: int = 3  # this many exceptions end it
    errors: int = field(default=0, init=False)
    _invokes_ms: list[float] = field(default_factory=list, init=False, repr=False)

    def answered(self, invoke_ms: float) -> ProbationResult | None:
        """The model answered one frame."""
        self._invokes_ms.append(invoke_ms)
        # With `frames` answers, p95 (nearest rank) is over the budget exactly when this many are.
        too_many = self.frames - math.ceil(0.95 * self.frames) + 1
        slow = sorted(ms for ms in self._invokes_ms if ms > self.budget_ms)
        if len(slow) >= too_many:
            counted = len(self._invokes_ms)
            took = f"{len(slow)} of {counted} frames took {slow[0]:.3g} ms or more"
            return ProbationResult("too-slow", f"{took}; the budget is {self.budget_ms:g} ms for 95 in 100")
        return ProbationResult() if len(self._invokes_ms) >= self.frames else None

    def failed(self, error: Exception) -> ProbationResult | None:
        """The engine raised on one frame."""
        self.errors += 1
        if self.errors < self.max_errors:
            return None
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return ProbationResult("engine-errors", f"{self.errors} frames failed; the last one with {text}")
