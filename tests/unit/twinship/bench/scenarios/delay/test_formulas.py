"""The article's formulas and the break-even bandwidth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.bench.scenarios.delay.formulas import break_even, delay_s, deviation, model_s, processing_s

POSITIVE = st.floats(1e-3, 1e9)


def test_a_frame_takes_its_bytes_over_the_bandwidth_and_then_the_processing() -> None:
    """Delay = Data Size / Bandwidth + Processing Time: 250,000 bytes at 1 Mbit/s are 2 s."""
    assert delay_s(250_000, 125_000, 0.25) == 2.25
    assert model_s(31_660, 12_500, 0.5) == pytest.approx(3.0328)


def test_a_link_without_bandwidth_is_refused() -> None:
    """No answer ever arrives over it."""
    for bandwidth in (0, -1, math.nan):
        with pytest.raises(ValueError, match="more than 0"):
            delay_s(1, bandwidth, 0)


def test_latency_counts_as_one_empty_round_trip() -> None:
    """A frame takes 20 ms, an empty message 8 ms; where that takes 58 ms, processing takes 70 ms."""
    assert processing_s(0.020, 0.058, 0.008) == pytest.approx(0.070)


@given(data=POSITIVE, edge=POSITIVE, share=st.floats(0.0, 0.99))
def test_at_the_break_even_both_delays_are_equal(data: float, edge: float, share: float) -> None:
    """With the returned bandwidth, the formula gives the edge's delay."""
    bandwidth = break_even(data, edge, edge * share)
    assert delay_s(data, bandwidth, edge * share) == pytest.approx(edge)


@given(data=POSITIVE, edge=POSITIVE, more=st.floats(1.0, 100.0))
def test_no_link_compensates_slow_processing(data: float, edge: float, more: float) -> None:
    """If the cloud's processing takes as long as the edge altogether, the cloud is never faster."""
    assert math.isinf(break_even(data, edge, edge * more))


def test_a_deviation_is_a_share_of_the_measured_value() -> None:
    """It has no sign."""
    assert deviation(0.115, 0.1) == pytest.approx(0.15)
    assert deviation(0.085, 0.1) == pytest.approx(0.15)
