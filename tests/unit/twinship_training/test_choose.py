"""The choice among several networks: a rule about measurements."""

from __future__ import annotations

from typing import Any

import pytest

from inference.metrics_model import Candidate
from twinship_training.choose import Limits, NoneFits, check_limits, smallest

LIMITS = Limits(size_bytes=22_000, accuracy=0.99, latency_ms=1.0)


def candidate(**changed: Any) -> Candidate:
    """A candidate that passes unless `changed` exceeds a limit."""
    values = {
        "architecture": "micro",
        "parameters": 9,
        "tflite_bytes": 21_000,
        "accuracy": 0.992,
        "p50_ms": 0.2,
    }
    return check_limits(Candidate.model_validate(values | changed), LIMITS)


def test_the_smallest_that_passes_is_chosen() -> None:
    """Neither the most accurate nor the fastest: the smallest file travels to the device."""
    best = candidate(architecture="seed", tflite_bytes=21_900, accuracy=0.999, p50_ms=0.1)
    small, failing = candidate(tflite_bytes=9_000), candidate(tflite_bytes=100, accuracy=0.5)
    assert smallest([best, small, failing]) is small


def test_of_equal_sizes_the_name_decides() -> None:
    """The same measurements give the same choice, in any order."""
    two = [candidate(architecture="b"), candidate(architecture="a")]
    assert smallest(two).architecture == smallest(two[::-1]).architecture == "a"


def test_exactly_the_limit_passes() -> None:
    """Limits are inclusive."""
    assert candidate(tflite_bytes=22_000, accuracy=0.99, p50_ms=1.0).failed == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tflite_bytes": 22_808}, "22,808 bytes are 808 more than 22,000"),
        ({"accuracy": 0.9825}, "98.25% right is 0.75 points below 99.00%"),
        ({"p50_ms": 1.25}, "1.250 ms is 0.250 more than 1"),
    ],
)
def test_a_failed_limit_is_named_with_its_amount(changed: dict[str, float], message: str) -> None:
    """The text has the limit and the difference."""
    found = candidate(**changed)
    assert found.failed == (message,)
    with pytest.raises(NoneFits, match=f"micro: {message}") as caught:
        smallest([found])
    assert "\n" not in str(caught.value)


def test_if_none_passes_the_error_has_all_of_them() -> None:
    """The error names every candidate and every limit that it fails, and carries the candidates."""
    both = [candidate(architecture="svm", accuracy=0.92), candidate(tflite_bytes=30_000, p50_ms=2.0)]
    with pytest.raises(NoneFits, match=r"svm: .*92.00%.*; micro: .*8,000.*, 2.000 ms") as caught:
        smallest(both)
    assert caught.value.candidates == tuple(both)


def test_without_limits_everything_passes() -> None:
    """A limit of None is no limit."""
    assert check_limits(candidate(accuracy=0.1), Limits()).failed == ()
