"""Thresholds of a converted model and the choice of probes: rules about predictions, without a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.dataset.pictures import Pictures
from inference.evaluate import NotVerified, Predictions
from inference.metrics_model import Cost
from tests.unit.twinship_training.pictures import dataset, pictures
from twinship_training.data.split import Dataset
from twinship_training.evaluate import chance, changes, check_target, check_tensors, choose_probes
from twinship_training.networks.architectures import ARCHITECTURES, PROFILES, Target, target

WANTED = Target(accuracy=0.99, drop=0.003)
LABELS = ("zero", "one", "two")


def predictions(labels: list[int], confidence: list[float] | None = None) -> Predictions:
    """The predictions of one runtime."""
    confidence = [0.9] * len(labels) if confidence is None else confidence
    cost = Cost(p50_ms=0.1, memory_bytes=1_000)
    return Predictions(np.array(labels), np.array(confidence, np.float32), cost, "int8")


def choose(shown: Pictures, **runtimes: Predictions) -> list[tuple[int, str]]:
    """The indices of the chosen probes, and their expected labels."""
    probes = choose_probes(runtimes, shown, LABELS)
    indices = np.frombuffer(probes.images, np.uint8)[:: 28 * 28]
    return list(zip(indices.tolist(), probes.expected, strict=True))


def test_limits_are_inclusive() -> None:
    """Exactly the target and exactly the allowed drop pass."""
    check_target(WANTED, 0.99, {"a": 0.99 - 0.003, "b": 0.995}, what="micro")


def test_too_little_accuracy_raises() -> None:
    """The error has the reached and the wanted accuracy, and the cure."""
    with pytest.raises(NotVerified, match=r"micro reached 98.99%, 99.00% is wanted: .*--epochs"):
        check_target(WANTED, 0.9899, {"a": 0.9899}, what="micro")


def test_one_bad_runtime_raises() -> None:
    """The allowed drop holds for every runtime, not only for the best."""
    with pytest.raises(
        NotVerified,
        match=r"lost 0.40 of [0-9.]+ points by the conversion on b, 0.30 are allowed \(a became b 2×\)",
    ):
        check_target(WANTED, 0.992, {"a": 0.992, "b": 0.988}, what="micro", changed="a became b 2×")


def test_changed_predictions_are_named() -> None:
    """The commonest change first; equal predictions are not named."""
    before, after = np.array([0, 1, 1, 2, 2]), np.array([0, 2, 2, 2, 0])
    assert changes(before, after, LABELS) == "one became two 2×, two became zero 1×"
    assert changes(before, before, LABELS) == ""


def test_tensors_have_the_type_of_the_optimisation() -> None:
    """A float model is never shipped as int8: a microcontroller could not run it."""
    check_tensors({"a": predictions([0])}, "int8")
    with pytest.raises(NotVerified, match="input and output are int8 on a, not float32"):
        check_tensors({"a": predictions([0])}, "float16")


def test_every_training_has_a_target(offline: Dataset, tmp_path: Path) -> None:
    """MNIST and digits have a target for each architecture and profile."""
    wanted = {
        (name, data.name, profile): target(name, data, profile)
        for name in ARCHITECTURES
        for data in (offline, dataset(tmp_path))
        for profile in PROFILES
    }
    assert wanted["seed", "mnist", "full"].accuracy == 0.99
    assert wanted["micro", "mnist", "full"].accuracy >= 0.99
    assert {each.drop for (name, *_), each in wanted.items() if name != "mobilenet"} == {0.002}
    assert min(each.accuracy for each in wanted.values()) >= 0.8


@pytest.mark.parametrize(
    ("pictures", "lost", "won", "refused"),
    [
        (500, 5, 0, False),  # 1.0 point
        (500, 6, 0, True),
        (10_000, 29, 0, False),  # 0.29 points: chance allows 0.11 of so many pictures, 0.89 of 500
        (10_000, 35, 0, True),
        (300, 14, 5, False),  # 3.0 points; 19 changed
        (300, 14, 1, True),
    ],
)
def test_few_pictures_may_lose_more_by_chance(pictures: int, lost: int, won: int, refused: bool) -> None:
    """The limit of 0.2 points holds beyond chance; pictures that the conversion wins count too."""
    before, after = np.ones(pictures, bool), np.ones(pictures, bool)
    before[:won] = False
    after[won : won + lost] = False
    limit = Target(accuracy=0.5, drop=0.002 + chance(before, after))
    if refused:
        with pytest.raises(NotVerified, match="points by the conversion on a"):
            check_target(limit, before.mean(), {"a": after.mean()}, what="micro")
    else:
        check_target(limit, before.mean(), {"a": after.mean()}, what="micro")


def test_pictures_that_stay_right_or_wrong_allow_nothing() -> None:
    """Without a change there is no chance; each change in either direction allows more."""
    before = np.array([True, False] * 50)
    assert chance(before, before) == 0
    one, both = before.copy(), before.copy()
    one[0], both[:2] = False, [False, True]
    assert chance(before, one) == pytest.approx(0.02)
    assert chance(before, both) == pytest.approx(0.02 * 2**0.5)


def test_an_unknown_data_set_has_the_share_of_the_commonest_label_as_target(offline: Dataset) -> None:
    """A model must be at least as good as one that always predicts the same label."""
    own = replace(offline, name="folder", test=pictures([0, 0, 0, 1]))
    assert target("svm", own, "quick").accuracy == 0.75


def test_a_probe_for_each_label() -> None:
    """One picture of each label, in the order of the labels."""
    assert choose(pictures([2, 0, 1]), a=predictions([2, 0, 1])) == [(1, "zero"), (2, "one"), (0, "two")]


def test_a_probe_is_predicted_right_on_every_runtime() -> None:
    """With a picture that one runtime predicts wrong, that device would refuse a good model."""
    found = choose(pictures([0, 0, 1]), a=predictions([0, 0, 1]), b=predictions([1, 0, 1]))
    assert found == [(1, "zero"), (2, "one")]


def test_a_probe_has_a_high_confidence_on_every_runtime() -> None:
    """Pictures with a low confidence on any runtime are left out, however well they compress."""
    count = 12
    confidence = [0.5, 0.5] + [0.99] * 10
    found = choose(pictures([0] * count), a=predictions([0] * count), b=predictions([0] * count, confidence))
    assert found[0][0] >= 2


def test_an_artefact_of_many_labels_has_ten_probes() -> None:
    """An artefact may not have more; they are spread over the labels from the first to the last."""
    labels = tuple(map(str, range(32)))
    everything = list(range(32))
    probes = choose_probes({"a": predictions(everything)}, pictures(everything), labels)
    assert probes.count == 10
    assert (probes.expected[0], probes.expected[-1]) == ("0", "31")


def test_without_a_right_prediction_there_are_no_probes() -> None:
    """A device could not prove such a model."""
    with pytest.raises(NotVerified, match="learnt nothing"):
        choose_probes({"a": predictions([1, 1])}, pictures([0, 2]), LABELS)
