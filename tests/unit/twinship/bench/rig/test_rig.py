"""A rig ships models as the demo does."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from inference.model_section import ModelRef
from twinship.bench.rig import rig as rigs
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.fleet import keys
from twinship.fleet.artefact_store import ArtefactStore


@pytest.mark.parametrize(
    ("random", "zeros", "inline"), [(1_000, 0, True), (10_000, 20_000, True), (40_000, 0, False)]
)
def test_a_model_that_fits_into_a_twin_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: int, zeros: int, inline: bool
) -> None:
    """What its bytes take in the twin decides, not how many they are in its file."""
    stores: list[ArtefactStore] = []

    def published(*_: object, store: ArtefactStore, **__: object) -> SimpleNamespace:
        stores.append(store)
        return SimpleNamespace(ok=True)

    monkeypatch.setattr(rigs, "publish", published)
    service_env = tmp_path / "service.env"
    service_env.write_text(f"MODEL_STORE_FOLDER={tmp_path}\nMODEL_STORE_URL=https://127.0.0.1:1\n")
    rig = Rig(RigSettings(tmp_path, tmp_path))
    rig.connection = cast(Any, None)
    rig.simulator = cast(Any, SimpleNamespace(endpoints=SimpleNamespace(service_env=service_env)))
    keys.new(tmp_path / "keys")
    model = tmp_path / "model.tflite"
    data = np.random.default_rng(0).bytes(random) + bytes(zeros)
    model.write_bytes(data)
    rig.publish(model)
    ref = ModelRef("m", "1", len(data), hashlib.sha256(data).hexdigest())
    assert (stores[0](ref, data) is None) is inline
