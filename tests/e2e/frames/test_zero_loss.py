"""Model swaps in a row at 100 frames a second lose no frame. The bench measures their duration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.models.swap import SwapSettings, measured

pytestmark = pytest.mark.e2e


def measure(folder: Path, models: Path, settings: SwapSettings) -> dict[str, Any]:
    """Run the bench's measurement of swaps."""
    artefacts = (models / "1.0.0" / "model.tflite", models / "1.1.0" / "model.tflite")
    return measured(Bench(folder, artefacts, models / "1.0.0" / "frames", lambda text, share: None), settings)


@pytest.mark.long
def test_swaps_in_a_row_lose_nothing(tmp_path: Path, models: Path) -> None:
    """No frame is lost, dropped or answered twice, and only the active model answers."""
    settings = SwapSettings(swaps=100, rollbacks=30, steady_frames=200)
    result = measure(tmp_path, models, settings)
    assert result["swaps"] == settings.swaps
    assert result["rollback_ms"]["n"] == settings.rollbacks
    assert result["frames"] > settings.swaps
    assert [result[name] for name in ("lost", "dropped", "doubled", "out_of_turn")] == [0, 0, 0, 0]
