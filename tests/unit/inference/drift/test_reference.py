"""Measures of a frame, and the histograms of them that an artefact carries."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.artefact import MAX_CLASS_GROUPS, Reference
from inference.drift.detector import Charts
from inference.drift.measures import LABEL, MAX_VALUES, MEASURES, of_frame
from inference.drift.reference import LEAST_PICTURES, reference
from tests.unit.inference.drift.scene_model import scene_reference, validation

MAX_JSON_BYTES = 4_096
FLAT = np.array([0.1] * 10, np.float32)
NAMES = MEASURES["classification"].names


def test_the_measures_of_an_answer() -> None:
    """A sure answer has no entropy, one without any knowledge has all of it."""
    sure = of_frame("classification", np.zeros((8, 8, 1), np.uint8), np.eye(10, dtype=np.float32)[7])
    assert sure == pytest.approx([1, 1, 0, 0, 0, 7])
    unsure = of_frame("classification", np.zeros((8, 8, 1), np.uint8), FLAT)
    assert unsure[:3] == pytest.approx([0.1, 0, 1], abs=1e-6)


def test_the_measures_of_a_detector_s_answer() -> None:
    """The highest score, the number of detections and the label of the first; without any 0, 0 and -1."""
    pixels = np.full((8, 8, 1), 51, np.uint8)
    found = np.array([[7, 0.9, 0, 0, 1, 1], [2, 0.4, 0, 0, 1, 1]], np.float32)
    assert of_frame("detection", pixels, found) == pytest.approx([0.9, 2, 0.2, 0, 7])
    assert of_frame("detection", pixels, found[:0]) == pytest.approx([0, 0, 0.2, 0, -1])


@pytest.mark.parametrize("labels", [1, 2, MAX_CLASS_GROUPS - 1, 1_000])
def test_nothing_found_is_the_last_class(labels: int) -> None:
    """A quarter of the pictures shows nothing; with very many labels some share the class."""
    found = np.zeros((400, len(MEASURES["detection"].names) + 1))
    found[:100, LABEL] = -1
    made = reference("detection", found, labels)
    assert made is not None
    assert len(made.classes) == min(labels + 1, MAX_CLASS_GROUPS)
    assert (made.classes[0], made.classes[-1]) == (0.75, 0.25)
    charts = Charts("detection", made, [f"label {number}" for number in range(labels)], 1_000)
    gains = charts.gains([0, 0, 0, 0, -1])
    assert [chart.direction for chart, gain in zip(charts.charts, gains, strict=True) if gain > 0] == [
        "more of nothing found" if labels < MAX_CLASS_GROUPS else f"more of group {MAX_CLASS_GROUPS - 1}"
    ]


def test_the_measures_of_a_picture() -> None:
    """Columns of black and white: half bright, and as sharp as can be; the same in colour."""
    columns = np.zeros((28, 28), np.uint8)
    columns[:, ::2] = 255
    grey = of_frame("classification", columns[..., np.newaxis], FLAT)[3:LABEL]
    colour = of_frame("classification", np.repeat(columns[..., np.newaxis], 3, axis=2), FLAT)[3:LABEL]
    assert grey == pytest.approx([0.5, 1], abs=0.01)
    assert colour == pytest.approx(grey, abs=0.01)


@given(side=st.integers(1, 600), channels=st.sampled_from([1, 3]))
def test_a_large_picture_costs_no_more(side: int, channels: int) -> None:
    """Evenly spaced rows of it are looked at; its mean stays about the same."""
    pixels = np.full((side, side, channels), 51, np.uint8)
    assert of_frame("classification", pixels, FLAT)[3:LABEL] == pytest.approx([0.2, 0], abs=1e-6)
    looked_at = pixels[:: -(-pixels.size // MAX_VALUES)].size
    assert looked_at <= MAX_VALUES + side * channels


def test_a_frame_takes_no_time_that_anybody_notices() -> None:
    """Well below a millisecond; the figure is in docs/drift.md."""
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    times = []
    for _ in range(200):
        began = time.perf_counter()
        of_frame("classification", pixels, FLAT)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.001


def test_a_reference_is_small() -> None:
    """It is part of an artefact that fits into a twin."""
    assert len(scene_reference().model_dump_json()) < 1_000
    found = np.random.default_rng(1).random((5_000, len(NAMES) + 1))
    found[:, LABEL] = np.arange(5_000) % 1_000
    made = reference("classification", found, 1_000)
    assert made is not None
    assert len(made.model_dump_json()) < MAX_JSON_BYTES


def test_shares_are_those_of_the_pictures() -> None:
    """Each bin holds its share, also if most values are the same."""
    made = scene_reference()
    assert set(made.measures) == set(NAMES)
    assert made.frames == len(validation())
    for name, histogram in made.measures.items():
        values = validation()[:, NAMES.index(name)]
        bins = np.searchsorted(histogram.edges, values, side="right")
        shares = np.bincount(bins, minlength=len(histogram.shares)) / len(values)
        assert histogram.shares == pytest.approx(shares, abs=1e-6)


COLUMNS: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "constant": lambda draw, count: np.full(count, 0.5),
    "two values": lambda draw, count: draw.integers(0, 2, count) / 1.0,
    "mostly one value": lambda draw, count: np.where(draw.random(count) < 0.98, 1.0, draw.random(count)),
    "even": lambda draw, count: draw.random(count),
    "wide": lambda draw, count: draw.normal(0, 1e6, count),
    "narrow": lambda draw, count: 1e6 + draw.random(count) * 1e-3,
}


@given(
    st.lists(st.sampled_from(sorted(COLUMNS)), min_size=len(NAMES), max_size=len(NAMES)),
    st.integers(LEAST_PICTURES, 1_000),
    st.integers(0, 100),
)
def test_any_measures_make_a_valid_reference(kinds: list[str], count: int, seed: int) -> None:
    """No bin is empty, edges ascend, the JSON reads back as the same, and charts can be made of it."""
    draw = np.random.default_rng(seed)
    found = np.column_stack([*(COLUMNS[kind](draw, count) for kind in kinds), np.arange(count) % 3])
    made = reference("classification", found, 3)
    assert made is not None
    assert Reference.model_validate_json(made.model_dump_json()) == made
    charts = Charts("classification", made, "abc", 1_000)
    assert np.isfinite(charts.gains(found[0].tolist())).all()


def test_few_pictures_make_no_reference() -> None:
    """The ends of a histogram of 99 pictures say little."""
    assert reference("classification", np.zeros((LEAST_PICTURES - 1, len(NAMES) + 1)), 2) is None
