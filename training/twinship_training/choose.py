"""Choose one of several trained networks: the smallest that keeps within all limits.

Candidates are measured with validation pictures, never with test pictures.

>>> fast = Candidate(architecture="micro", parameters=14_042, tflite_bytes=20_000, accuracy=0.99, p50_ms=0.1)
>>> check_limits(fast, Limits(accuracy=0.995)).failed
('99.00% right is 0.50 points below 99.50%',)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.evaluate import NotVerified
from inference.metrics_model import Candidate


@dataclass(frozen=True)
class Limits:
    """Limits for a model; None: no limit."""

    size_bytes: int | None = None  # of the flatbuffer, without labels and probes
    accuracy: float | None = None  # a share of 1, on the validation pictures and every runtime
    latency_ms: float | None = None  # the median of one picture, on every runtime of this machine


class NoneFits(NotVerified):
    """No candidate keeps within the limits; the message names each limit that fails, and by how much."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        failed = "; ".join(f"{each.architecture}: {', '.join(each.failed)}" for each in candidates)
        super().__init__(f"no architecture keeps within the limits: {failed}")
        self.candidates = tuple(candidates)


def check_limits(candidate: Candidate, limits: Limits) -> Candidate:
    """The same candidate with `failed` filled in."""
    failed = []
    if limits.size_bytes is not None and candidate.tflite_bytes > limits.size_bytes:
        over = candidate.tflite_bytes - limits.size_bytes
        failed.append(f"{candidate.tflite_bytes:,} bytes are {over:,} more than {limits.size_bytes:,}")
    if limits.accuracy is not None and candidate.accuracy < limits.accuracy:
        under = 100 * (limits.accuracy - candidate.accuracy)
        failed.append(f"{candidate.accuracy:.2%} right is {under:.2f} points below {limits.accuracy:.2%}")
    if limits.latency_ms is not None and candidate.p50_ms > limits.latency_ms:
        over_ms = candidate.p50_ms - limits.latency_ms
        failed.append(f"{candidate.p50_ms:.3f} ms is {over_ms:.3f} more than {limits.latency_ms:g}")
    return candidate.model_copy(update={"failed": tuple(failed)})


def smallest(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the smallest flatbuffer of those that pass. Raises NoneFits."""
    passing = [each for each in candidates if not each.failed]
    if not passing:
        raise NoneFits(candidates)
    return min(passing, key=lambda each: (each.tflite_bytes, each.architecture))
