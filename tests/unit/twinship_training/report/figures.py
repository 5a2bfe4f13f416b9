"""The metrics of a model, for the tests of card and plots."""

from __future__ import annotations

from typing import Any

import numpy as np

from inference.metrics_model import (
    Accuracy,
    ClassCount,
    Cost,
    DatasetInfo,
    DatasetReport,
    Duplicates,
    History,
    InlineSize,
    Metrics,
    ProofTimes,
    Sizes,
)
from twinship_training.report.calibration import calibration

SHA = "6d6f8d3e2fd63ea8a4bd1c3bd1c9a3d3a4ad7f0a8f0c1e8ef1b3d3a9f1f9c2d1"


def metrics(**changed: Any) -> Metrics:
    """The metrics of a model with three mistakes."""
    table = [[100 if truth == answer else 0 for answer in range(10)] for truth in range(10)]
    table[4][9], table[7][2] = 2, 1
    values: dict[str, Any] = {
        "command": "twinship train --arch micro",
        "name": "digits",
        "version": "1.2.0",
        "architecture": "micro",
        "optimisation": "int8",
        "profile": "full",
        "seed": 1,
        "history": History(loss=(0.3, 0.1), validation=(0.98, 0.99), kept=2),
        "dataset": DatasetInfo(
            name="mnist",
            source="the file m.npz",
            why="w",
            fingerprint="f",
            train=55_000,
            validation=5,
            test=9,
            report=DatasetReport(
                classes=tuple(
                    ClassCount(label=str(each), train=9, validation=1, test=1) for each in range(10)
                ),
                smallest=(28, 28),
                largest=(28, 28),
                shape=(28, 28, 1),
                duplicates=Duplicates(dropped=2, kept=0, contradictory=0),
                unreadable=1,
                unreadable_files=("a/b.png: 0 bytes",),
            ),
        ),
        "accuracy": Accuracy(
            float32=0.995,
            shipped={"litert": 0.994, "tflite_runtime": 0.9941},
            drop=0.001,
            validation=0.99,
            target=0.99,
            max_drop=0.003,
        ),
        "sizes": Sizes(artefact_bytes=31_000, tflite_bytes=22_000, parameters=14_042),
        "inline": InlineSize(characters=24_776, limit=28_000, fits=True),
        "cost": {"litert": Cost(p50_ms=0.0612, memory_bytes=1_300_000)},
        "calibration": calibration(np.array([0.9], np.float32), np.array([True])),
        "candidates": (),
        "variants": (),
        "proof": {"litert": ProofTimes(p50_ms=0.06, p95_ms=0.07)},
        "weights_sha256": SHA,
        "artefact_sha256": "0" * 64,
        "seconds": {"fit": 200.0, "total": 240.0},
        "versions": {"keras": "3.15.1"},
        "created": "2026-01-01T00:00:00+00:00",
        "recipe_key": "key",
        "confusion": table,
    }
    return Metrics(schema="twinship.metrics.v1", **(values | changed))
