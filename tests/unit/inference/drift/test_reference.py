"""Measures of a frame, and the histograms of them that an artefact carries."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.artefact import Reference
from inference.drift.detector import Charts
from inference.drift.measures import LABEL, MAX_VALUES, NAMES, of_frame
from inference.drift.reference import LEAST_PICTURES, reference
from tests.unit.inference.drift.scene_model import scene_reference, validation

MAX_JSON_BYTES = 4_096
FLAT = np.array([0.1] * 10, np.float32)


def test_the_measures_of_an_answer() -> None:
    """A sure answer has no entropy, one without any knowledge has all of it."""
    sure = of_frame(np.zeros((8, 8, 1), np.uint8), np.eye(10, dtype=np.float32)[7])
    assert sure == pytest.approx([1, 1, 0, 0, 0, 7])
    unsure = of_frame(np.zeros((8, 8, 1), np.uint8), FLAT)
    assert unsure[:3] == pytest.approx([0.1, 0, 1], abs=1e-6)


def test_the_measures_of_a_picture() -> None:
    """Columns of black and white: half bright, and as sharp as can be; the same in colour."""
    columns = np.zeros((28, 28), np.uint8)
    columns[:, ::2] = 255
    grey = of_frame(columns[..., np.newaxis], FLAT)[3:LABEL]
    colour = of_frame(np.repeat(columns[..., np.newaxis], 3, axis=2), FLAT)[3:LABEL]
    assert grey == pytest.approx([0.5, 1], abs=0.01)
    assert colour == pytest.approx(grey, abs=0.01)


@given(side=st.integers(1, 600), channels=st.sampled_from([1, 3]))
def test_a_large_picture_costs_no_more(side: int, channels: int) -> None:
    """Evenly spaced rows of it are looked at; its mean stays about the same."""
    pixels = np.full((side, side, channels), 51, np.uint8)
    assert of_frame(pixels, FLAT)[3:LABEL] == pytest.approx([0.2, 0], abs=1e-6)
    looked_at = pixels[:: -(-pixels.size // MAX_VALUES)].size
    assert looked_at <= MAX_VALUES + side * channels


def test_a_frame_takes_no_time_that_anybody_notices() -> None:
    """Well below a millisecond; the figure is in docs/drift.md."""
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    times = []
    for _ in range(200):
        began = time.perf_counter()
        of_frame(pixels, FLAT)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.001


def test_a_reference_is_small() -> None:
    """It is part of an artefact that fits into a twin."""
    assert len(scene_reference().model_dump_json()) < 1_000
    found = np.random.default_rng(1).random((5_000, LABEL + 1))
    found[:, LABEL] = np.arange(5_000) % 1_000
    made = reference(found, 1_000)
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
    st.lists(st.sampled_from(sorted(COLUMNS)), min_size=LABEL, max_size=LABEL),
    st.integers(LEAST_PICTURES, 1_000),
    st.integers(0, 100),
)
def test_any_measures_make_a_valid_reference(kinds: list[str], count: int, seed: int) -> None:
    """No bin is empty, edges ascend, the JSON reads back as the same, and charts can be made of it."""
    draw = np.random.default_rng(seed)
    found = np.column_stack([*(COLUMNS[kind](draw, count) for kind in kinds), np.arange(count) % 3])
    made = reference(found, 3)
    assert made is not None
    assert Reference.model_validate_json(made.model_dump_json()) == made
    charts = Charts(made, "abc", 1_000)
    assert np.isfinite(charts.gains(found[0].tolist())).all()


def test_few_pictures_make_no_reference() -> None:
    """The ends of a histogram of 99 pictures say little."""
    assert reference(np.zeros((LEAST_PICTURES - 1, LABEL + 1)), 2) is None
