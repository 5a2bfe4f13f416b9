"""The models of the demo: their data and the accuracy to expect."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twinship.demo import DemoFailed, models


@pytest.mark.parametrize(
    ("name", "has_minimum"), [("mnist", True), ("folder", False), ("fashion_mnist", False)]
)
def test_only_known_data_has_a_minimum_accuracy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, has_minimum: bool
) -> None:
    """For other pictures, the accuracy to expect is unknown."""

    def train(settings: Any, _progress: Any) -> Any:
        facts = SimpleNamespace(name=name, source="here", why="it was asked for")
        metrics = SimpleNamespace(dataset=facts)
        return SimpleNamespace(artefact=settings.out / "model.tflite", metrics=metrics, frames=settings.out)

    monkeypatch.setattr("twinship_training.train.train", train)
    data = models.ensure(tmp_path, name, None, lambda text, share: None)
    assert (data.minimum_accuracy is not None) is has_minimum


def test_without_the_training_distribution_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`demo` and the bench train through `ensure`: it names the missing distribution before any work."""
    monkeypatch.setitem(sys.modules, "twinship_training", None)
    with pytest.raises(DemoFailed, match=r"^training needs the package twinship-training[^\n]*cure: [^\n]*$"):
        models.ensure(tmp_path, "digits", None, lambda text, share: None)
