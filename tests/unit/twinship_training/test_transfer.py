"""Transfer learning on 150 photographs of each of ten classes, beside training from nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inference.artefact import read
from inference.metrics_model import Metrics
from tests.models import REAL_DATA
from twinship_training.train import TrainSettings, train

PICTURES, WEIGHTS = REAL_DATA / "cifar10_part", REAL_DATA / "imagenet" / "mobilenet_v2_1.0_224.weights.h5"
MISSING = [str(each) for each in (PICTURES, WEIGHTS) if not each.exists()]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Metrics]:
    """Trains a network once; two minutes on two cores."""
    folder, found = tmp_path_factory.mktemp("transfer"), dict[str, Metrics]()

    def metrics(name: str) -> Metrics:
        if name not in found:
            weights = WEIGHTS if name == "mobilenet" else None
            settings = TrainSettings(name, f"folder:{PICTURES}", out=folder / name, weights=weights)
            found[name] = train(settings, lambda text, share: None).metrics
            manifest = read((folder / name / "model.tflite").read_bytes()).manifest
            assert manifest.input.offset == (-1.0 if weights else 0.0)
        return found[name]

    return metrics


def test_transfer_learning_is_better_than_learning_from_nothing(learnt: Callable[[str], Metrics]) -> None:
    """As int8 on the worst runtime, `mobilenet` has at least 12 points more of the test pictures right."""
    shares = {name: min(learnt(name).accuracy.shipped.values()) for name in ("mobilenet", "small")}
    assert shares["mobilenet"] >= shares["small"] + 0.12, shares


@pytest.mark.parametrize("name", ["mobilenet", "small"])
def test_confidences_agree_with_the_accuracy(learnt: Callable[[str], Metrics], name: str) -> None:
    """The artefact's error is one that a perfectly calibrated model shows; a large error falls to a third."""
    found = learnt(name).calibration
    assert found is not None
    assert found.perfect_p95 is not None
    assert found.expected_error <= found.perfect_p95
    assert found.float_error_before is not None
    assert found.float_error_after is not None
    if found.float_error_before >= 0.15:
        assert found.float_error_after <= found.float_error_before / 3
