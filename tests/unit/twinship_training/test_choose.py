"""Which of several networks is taken: a rule about measurements, without a model."""

from __future__ import annotations

from typing import Any

import pytest

from twinship_training.choose import Candidate, Limits, NoneFits, smallest

LIMITS = Limits(size_bytes=22_000, accuracy=0.99, latency_ms=1.0)


def candidate(**changed: Any) -> Candidate:
    """One that passes, judged."""
    facts = {
        "architecture": "micro",
        "parameters": 9,
        "tflite_bytes": 21_000,
        "accuracy": 0.992,
        "p50_ms": 0.2,
    }
    return Candidate.model_validate(facts | changed).judged(LIMITS)


def test_the_smallest_that_passes_is_taken() -> None:
    """Not the best and not the quickest: what must be carried to the device is smallest."""
    best = candidate(architecture="seed", tflite_bytes=21_900, accuracy=0.999, p50_ms=0.1)
    small, failing = candidate(tflite_bytes=9_000), candidate(tflite_bytes=100, accuracy=0.5)
    assert smallest([best, small, failing]) is small


def test_of_equals_the_name_decides() -> None:
    """The same measurements give the same choice, in whatever order they came."""
    two = [candidate(architecture="b"), candidate(architecture="a")]
    assert smallest(two).architecture == smallest(two[::-1]).architecture == "a"


def test_exactly_the_limit_passes() -> None:
    """A limit is what may still be."""
    assert candidate(tflite_bytes=22_000, accuracy=0.99, p50_ms=1.0).failed == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tflite_bytes": 22_808}, "22,808 bytes are 808 more than 22,000"),
        ({"accuracy": 0.9825}, "98.25% right is 0.75 points below 99.00%"),
        ({"p50_ms": 1.25}, "1.250 ms is 0.250 more than 1"),
    ],
)
def test_a_limit_that_fails_is_told_with_its_amount(changed: dict[str, float], said: str) -> None:
    """Which one, and by how much: whether to train longer or to ask for less."""
    found = candidate(**changed)
    assert found.failed == (said,)
    with pytest.raises(NoneFits, match=f"micro: {said}") as caught:
        smallest([found])
    assert "\n" not in str(caught.value)


def test_none_that_passes_is_an_error_with_all_of_them() -> None:
    """Every candidate and every limit that it fails; the table is there for whoever prints it."""
    both = [candidate(architecture="svm", accuracy=0.92), candidate(tflite_bytes=30_000, p50_ms=2.0)]
    with pytest.raises(NoneFits, match=r"svm: .*92.00%.*; micro: .*8,000.*, 2.000 ms") as caught:
        smallest(both)
    assert caught.value.candidates == tuple(both)


def test_no_limit_judges_nothing() -> None:
    """Where nothing was asked for, everything passes."""
    assert candidate(accuracy=0.1).judged(Limits()).failed == ()
