"""Swaps in a row at 100 frames a second on running modules: no frame pays. What they cost is bench's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.models.swap import SwapSettings, measured

pytestmark = pytest.mark.e2e


def swapped(folder: Path, models: Path, settings: SwapSettings) -> dict[str, Any]:
    """The measurement's figures."""
    artefacts = (models / "1.0.0" / "model.tflite", models / "1.1.0" / "model.tflite")
    return measured(Bench(folder, artefacts, models / "1.0.0" / "frames", lambda text, share: None), settings)


@pytest.mark.parametrize(
    "settings",
    [
        SwapSettings(swaps=20, rollbacks=2, steady_frames=50),
        pytest.param(SwapSettings(swaps=100, rollbacks=30, steady_frames=200), marks=pytest.mark.long),
    ],
    ids=["20", "100"],
)
def test_swaps_in_a_row_lose_nothing(tmp_path: Path, models: Path, settings: SwapSettings) -> None:
    """Nothing lost, dropped or answered twice, and no answer by a model that was not on duty."""
    found = swapped(tmp_path, models, settings)
    assert found["swaps"] == settings.swaps
    assert found["rollback_ms"]["n"] == settings.rollbacks
    assert found["frames"] > settings.swaps
    assert [found[name] for name in ("lost", "dropped", "doubled", "out_of_turn")] == [0, 0, 0, 0]
