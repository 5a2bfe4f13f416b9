"""Which data the demo's models come from, and what they are held to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twinship.demo import models


@pytest.mark.parametrize(("name", "held_to"), [("mnist", True), ("folder", False), ("fashion_mnist", False)])
def test_only_known_data_has_a_least_accuracy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, held_to: bool
) -> None:
    """Of anybody's pictures nobody knows how well they can be told apart."""

    def train(settings: Any, _progress: Any) -> Any:
        facts = SimpleNamespace(name=name, source="here", why="it was asked for")
        metrics = SimpleNamespace(dataset=facts)
        return SimpleNamespace(artefact=settings.out / "model.tflite", metrics=metrics, frames=settings.out)

    monkeypatch.setattr(models, "train", train)
    data = models.ensure(tmp_path, name, None, lambda text, share: None)
    assert (data.minimum_accuracy is not None) is held_to
