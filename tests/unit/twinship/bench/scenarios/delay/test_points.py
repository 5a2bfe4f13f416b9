"""The measured points of scenario `delay`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from twinship.bench.scenarios.delay.model import promoted
from twinship.bench.scenarios.delay.picture import draw
from twinship.bench.scenarios.delay.points import Point, break_evens, shortcomings

GOOD = Point(
    bandwidth=125_000,
    delay_s=0.005,
    data_bytes=10_500,
    processing_s=0.02,
    predicted_s=0.104,
    measured_s=0.1,
)
CROWDED = replace(GOOD, measured_s=0.25)


def test_right_predictions_have_no_shortcomings() -> None:
    """They deviate by 15 % at most, and by far more on a link with a second flow."""
    assert shortcomings([GOOD], [replace(GOOD, measured_s=0.12)], CROWDED) == []


@pytest.mark.parametrize("measured_s", [0.08, 0.13])
def test_a_wrong_prediction_is_named_with_its_link(measured_s: float) -> None:
    """A delay can be too long or too short."""
    (line,) = shortcomings([GOOD, replace(GOOD, measured_s=measured_s)], [GOOD], CROWDED)
    assert line.startswith("a frame at 125000 bytes/s and 5 ms: ")


def test_a_right_prediction_on_a_crowded_link_is_a_shortcoming() -> None:
    """It would mean that the measurement cannot detect a wrong prediction."""
    (line,) = shortcomings([GOOD], [GOOD], GOOD)
    assert "second flow" in line


def test_break_evens_are_given_for_each_latency_and_slower_devices() -> None:
    """An edge with 10 + 100 ms against 20 ms in the cloud leaves 90 ms for 10,500 bytes."""
    found = break_evens([GOOD, replace(GOOD, delay_s=0.025, processing_s=0.2)], 0.01)
    assert [(each["delay_s"], each["edge_ms"]) for each in found] == [
        (0.005, 10),
        (0.005, 30),
        (0.005, 110),
        (0.025, 10),
        (0.025, 30),
        (0.025, 110),
    ]
    assert [each["bandwidth"] for each in found] == [None, 1_050_000, 116_667, None, None, None]


def test_a_promotion_is_found_by_its_version() -> None:
    """The time when this version last began its probation, by the module's clock."""
    history = [
        {"state": "probation", "at": "2026-01-01T00:00:00.000Z", "version": "0.1.0"},
        {"state": "checking", "at": "2026-01-01T00:00:01.000Z", "version": "0.2.0"},
    ]
    assert promoted({"history": history}, "0.1.0") == 1767225600
    assert promoted({"history": history}, "0.2.0") == 0


def test_the_plot_is_drawn_from_the_report(tmp_path: Path) -> None:
    """Its input is the parsed JSON."""
    points = [replace(GOOD, bandwidth=bandwidth).to_json() for bandwidth in (1e5, 1e6)]
    figures = json.loads(json.dumps({"edge_ms": 5.0, "frames": points, "models": points}))
    draw(figures, tmp_path / "delay.svg")
    assert (tmp_path / "delay.svg").read_text().count("<path") > 10
