"""Which of several trained networks to take: the smallest that keeps within all limits. Trains nothing.

Judged by the validation pictures, never by the test; sizes and times are the caller's measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinship_training.metrics_model import Facts
from twinship_training.verify import NotVerified


@dataclass(frozen=True)
class Limits:
    """What a model may take and must reach; None: no limit."""

    size_bytes: int | None = None  # of the flatbuffer, without labels and probes
    accuracy: float | None = None  # a share of 1, of the validation pictures, on every runtime
    latency_ms: float | None = None  # the median of one picture, on every runtime of this machine


class Candidate(Facts):
    """A trained network, measured."""

    architecture: str
    parameters: int
    tflite_bytes: int
    accuracy: float
    p50_ms: float
    failed: tuple[str, ...] = ()  # which limits, by how much; empty: it passes

    def judged(self, limits: Limits) -> Candidate:
        """The same with `failed` filled in."""
        failed = []
        if limits.size_bytes is not None and self.tflite_bytes > limits.size_bytes:
            over = self.tflite_bytes - limits.size_bytes
            failed.append(f"{self.tflite_bytes:,} bytes are {over:,} more than {limits.size_bytes:,}")
        if limits.accuracy is not None and self.accuracy < limits.accuracy:
            under = 100 * (limits.accuracy - self.accuracy)
            failed.append(f"{self.accuracy:.2%} right is {under:.2f} points below {limits.accuracy:.2%}")
        if limits.latency_ms is not None and self.p50_ms > limits.latency_ms:
            over_ms = self.p50_ms - limits.latency_ms
            failed.append(f"{self.p50_ms:.3f} ms is {over_ms:.3f} more than {limits.latency_ms:g}")
        return self.model_copy(update={"failed": tuple(failed)})


class NoneFits(NotVerified):
    """No candidate keeps within the limits; the message says of each which one it fails, and by how much."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        said = "; ".join(f"{each.architecture}: {', '.join(each.failed)}" for each in candidates)
        super().__init__(f"no architecture keeps within the limits: {said}")
        self.candidates = tuple(candidates)


def smallest(candidates: Sequence[Candidate]) -> Candidate:
    """Of those that pass the one with the smallest flatbuffer; raises NoneFits."""
    passing = [each for each in candidates if not each.failed]
    if not passing:
        raise NoneFits(candidates)
    return min(passing, key=lambda each: (each.tflite_bytes, each.architecture))
