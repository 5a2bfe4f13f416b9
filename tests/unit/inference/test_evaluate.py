"""Evaluation of an artefact on every runtime, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.dataset.pictures import Pictures
from inference.evaluate import (
    NotEvaluated,
    NotVerified,
    Predictions,
    count,
    evaluate,
    read_file,
    too_old,
    verify_file,
)
from inference.metrics_model import Cost
from inference.runtimes import versions
from tests.models import LABELS, quadrant, tiny_artefact


def predictions(labels: list[int]) -> Predictions:
    """The predictions of one runtime."""
    cost = Cost(p50_ms=0.1, memory_bytes=1_000)
    return Predictions(np.array(labels), np.full(len(labels), 0.9, np.float32), cost, "int8")


@pytest.fixture
def quadrants() -> Pictures:
    """Each quadrant once, and one with a wrong label."""
    images = np.stack([quadrant(place) for place in (0, 1, 2, 3, 0)])
    return Pictures(images, np.array([0, 1, 2, 3, 1]))


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """The quadrants model in a file."""
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_artefact())
    return path


def test_right_predictions_are_counted_for_every_runtime() -> None:
    """Accuracy of each runtime; the table is of the first one, true labels in rows."""
    found = count({"a": predictions([0, 1, 1]), "b": predictions([0, 1, 2])}, np.array([0, 1, 2]), 3)
    assert found.accuracy == {"a": pytest.approx(2 / 3), "b": 1.0}
    assert found.worst == pytest.approx(2 / 3)
    assert found.confusion == ((1, 0, 0), (0, 1, 0), (0, 1, 0))


def test_every_runtime_evaluates_a_file(artefact: Path, quadrants: Pictures) -> None:
    """Proved first; then four of five pictures are right on each installed runtime."""
    found = verify_file(artefact, LABELS, quadrants)
    assert found.accuracy == dict.fromkeys(versions(), 0.8)
    assert found.confusion[1] == (1, 1, 0, 0)


def test_the_types_and_the_cost_are_measured(artefact: Path, quadrants: Pictures) -> None:
    """An int8 model has int8 tensors; a picture takes time."""
    for each in evaluate(artefact.read_bytes(), quadrants.images).values():
        assert each.tensors == "int8"
        assert each.cost.p50_ms > 0
        assert each.confidence.shape == (5,)


def test_other_labels_are_refused(artefact: Path, quadrants: Pictures) -> None:
    """The error has both lists of labels and the cure."""
    with pytest.raises(NotVerified, match=r"north-west.*a, b.*use another --dataset"):
        verify_file(artefact, ("a", "b"), quadrants)


def test_a_model_that_a_device_would_refuse_is_not_evaluated(tmp_path: Path, quadrants: Pictures) -> None:
    """The device's proof comes first: one probe has the wrong label."""
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_artefact(expected=(*LABELS[:3], LABELS[0])))
    with pytest.raises(NotVerified, match=r"a device would refuse it: 1 of 4 probes"):
        verify_file(path, LABELS, quadrants)


@pytest.mark.parametrize(("content", "message"), [(b"", "TFL3"), (None, "No such file")])
def test_a_file_that_is_no_artefact_is_one_clear_error(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    """The error names the file and the fault."""
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotVerified, match=rf"model\.tflite: .*{message}"):
        read_file(path)


def test_a_runtime_that_fails_is_named(quadrants: Pictures) -> None:
    """One line with the runtime and its error."""
    with pytest.raises(NotEvaluated, match=r"^litert: not a TFLite flatbuffer"):
        evaluate(b"nothing", quadrants.images)


def test_without_a_runtime_the_cure_is_named(artefact: Path, quadrants: Pictures) -> None:
    """All installed runtimes are skipped."""
    with pytest.raises(NotEvaluated, match="install a newer ai-edge-litert"):
        evaluate(artefact.read_bytes(), quadrants.images, skip=versions())


def test_a_runtime_that_is_too_old_is_named() -> None:
    """Only the runtimes that the manifest names are compared."""
    assert set(too_old({"litert": "99.0"})) == {"litert"} & set(versions())
    assert too_old({"litert": "1.0", "unknown": "99"}) == {}
