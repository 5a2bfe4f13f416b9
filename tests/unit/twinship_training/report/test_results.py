"""Settings, card and files: what is refused early, what a person reads, and what is put where."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.twinship_training.pictures import dataset, pictures
from twinship_training.choose import Candidate
from twinship_training.data import Dataset
from twinship_training.data.report import ClassCount, Duplicates, Report
from twinship_training.report.calibration import calibration
from twinship_training.report.card import card
from twinship_training.report.results import (
    Accuracy,
    Cost,
    DatasetFacts,
    ExportError,
    History,
    Inline,
    Metrics,
    Proof,
    Sizes,
    Variant,
    VariantOn,
    install,
    previous,
    staging,
    write,
)
from twinship_training.result_cache import kept, recipe_key, same_data, was_digits
from twinship_training.settings import SettingsError, TrainSettings, model_name, size_bytes

SHA = "6d6f8d3e2fd63ea8a4bd1c3bd1c9a3d3a4ad7f0a8f0c1e8ef1b3d3a9f1f9c2d1"


def metrics(**changed: Any) -> Metrics:
    """A model of three mistakes."""
    table = [[100 if truth == answer else 0 for answer in range(10)] for truth in range(10)]
    table[4][9], table[7][2] = 2, 1
    facts: dict[str, Any] = {
        "command": "twinship train --arch micro",
        "name": "digits",
        "version": "1.2.0",
        "architecture": "micro",
        "optimisation": "int8",
        "profile": "full",
        "seed": 1,
        "history": History(loss=(0.3, 0.1), validation=(0.98, 0.99), kept=2),
        "dataset": DatasetFacts(
            name="mnist",
            source="the file m.npz",
            why="w",
            fingerprint="f",
            train=55_000,
            validation=5,
            test=9,
            report=Report(
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
        "inline": Inline(characters=24_776, limit=28_000, fits=True),
        "cost": {"litert": Cost(p50_ms=0.0612, memory_bytes=1_300_000)},
        "calibration": calibration(np.array([0.9], np.float32), np.array([True])),
        "candidates": (),
        "variants": (),
        "proof": {"litert": Proof(p50_ms=0.06, p95_ms=0.07)},
        "weights_sha256": SHA,
        "artefact_sha256": "0" * 64,
        "seconds": {"fit": 200.0, "total": 240.0},
        "versions": {"keras": "3.15.1"},
        "created": "2026-01-01T00:00:00+00:00",
        "recipe_key": "key",
        "confusion": table,
    }
    return Metrics(schema="twinship.metrics.v1", **(facts | changed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architecture": "huge"}, "'huge' is unknown: use seed or micro or small or svm or auto"),
        ({"profile": "slow"}, "'slow' is unknown: use full or quick"),
        ({"name": "my model"}, "name 'my model'"),
        ({"version": "1.0\n"}, "version '1.0"),
        ({"version": ""}, "version ''"),
        ({"epochs": 0}, "epochs 0: at least 1"),
        ({"seed": -1}, "seed -1"),
        ({"latency_budget_ms": 0.0}, "more than 0"),
        ({"latency_budget_ms": float("nan")}, "more than 0"),
        ({"max_latency_ms": float("nan")}, "more than 0"),
        ({"optimisation": "int4"}, "'int4' is unknown: use int8 or float16"),
        ({"max_side": 27}, "side 27: 28 to 96"),
        ({"max_side": 97}, "side 97: 28 to 96"),
    ],
)
def test_bad_settings_are_refused_before_the_work(changed: dict[str, Any], said: str) -> None:
    """What could only fail after minutes of training fails at once."""
    with pytest.raises(SettingsError, match=said):
        TrainSettings(**changed)


def test_the_command_repeats_the_training() -> None:
    """Every setting that matters stands in the command, quoted for a shell."""
    asked = TrainSettings(architecture="micro", epochs=3, seed=7, out=Path("my models/a"))
    assert asked.command == (
        "twinship train --arch micro --dataset auto --profile full --epochs 3 --seed 7 "
        "--name digits --version 1.0.0 --out 'my models/a'"
    )


def test_a_command_of_many_words_repeats_the_training() -> None:
    """Limits, optimisation, variants and side stand in it, and size in bytes is read back as it was."""
    asked = TrainSettings(
        architecture="auto", max_size_bytes=22_000, max_latency_ms=1.5, optimisation="dynamic", variants=True
    )
    words = asked.command.split()
    for option, value in (("--max-size", "22000"), ("--max-latency-ms", "1.5"), ("--optimise", "dynamic")):
        assert words[words.index(option) + 1] == value
    assert "--variants" in words
    assert "--max-side" not in words


def test_epochs_replace_the_recipes() -> None:
    """--epochs changes nothing but the epochs."""
    usual = TrainSettings(architecture="micro").recipe("micro", 55_000)
    assert TrainSettings(architecture="micro", epochs=2).recipe("micro", 55_000) == replace(usual, epochs=2)


def test_few_pictures_are_shown_oftener() -> None:
    """An epoch of the full profile shows thousands, so that a small folder is learnt at all."""
    asked = TrainSettings(architecture="small")
    assert asked.recipe("small", 90).pictures == 6_000
    assert asked.recipe("small", 55_000).pictures is None


def test_a_target_can_be_set(tmp_path: Path) -> None:
    """An accuracy of one's own replaces the target and leaves the drop; with auto it judges candidates."""
    data = dataset(tmp_path)
    usual = TrainSettings().target("seed", data)
    assert TrainSettings(min_accuracy=0.5).target("seed", data) == replace(usual, accuracy=0.5)
    auto = TrainSettings(architecture="auto", min_accuracy=0.5)
    assert auto.target("seed", data) == usual
    assert auto.limits.accuracy == 0.5
    assert TrainSettings(min_accuracy=0.5).limits.accuracy is None


@pytest.mark.parametrize(
    ("text", "wanted"), [("22KB", 22_000), ("22 KiB", 22_528), ("1.5MB", 1_500_000), ("512", 512), ("7B", 7)]
)
def test_a_size_has_a_unit(text: str, wanted: int) -> None:
    """KB is 1,000 bytes, KiB 1,024; a bare number is bytes."""
    assert size_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "KB", "22kb", "-1KB", "1e3", "22 GB"])
def test_an_odd_size_is_refused(text: str) -> None:
    """What could be meant in two ways is an error with an example."""
    with pytest.raises(SettingsError, match="as 22KB"):
        size_bytes(text)


@pytest.mark.parametrize(
    ("dataset_", "name"),
    [("auto", "digits"), ("fashion_mnist", "fashion"), ("folder:/x/My cats/", "My-cats"), ("npz:a.npz", "a")],
)
def test_a_model_is_called_after_its_data(dataset_: str, name: str) -> None:
    """Where nobody gave a name, the folder's, in letters that a name may have."""
    assert model_name(dataset_) == name
    TrainSettings(name=model_name(dataset_))


@pytest.mark.parametrize("changed", [{"seed": 2}, {"epochs": 3}, {"version": "2"}, {"min_accuracy": 0.5}])
def test_another_setting_is_another_training(changed: dict[str, Any]) -> None:
    """Whatever decides what comes out is in the key; where it is put is not."""
    usual = TrainSettings()
    assert recipe_key(replace(usual, **changed)) != recipe_key(usual)
    assert recipe_key(replace(usual, out=Path("elsewhere"), force=True)) == recipe_key(usual)


def test_only_the_same_data_is_kept(tmp_path: Path) -> None:
    """The same settings on other pictures are another training."""
    data: Dataset = dataset(tmp_path)
    here = metrics().dataset
    same = metrics(dataset=here.model_copy(update={"fingerprint": data.fingerprint}))
    assert same_data(same, data)
    assert not same_data(metrics(), data)
    assert not same_data(None, data)


def test_a_download_that_failed_is_not_waited_for_again() -> None:
    """Only for this very training, and only when nobody insists on MNIST."""
    offline = metrics(dataset=metrics().dataset.model_copy(update={"name": "digits"}))
    assert was_digits(TrainSettings(), offline)
    assert not was_digits(TrainSettings(dataset="mnist"), offline)
    assert not was_digits(TrainSettings(), metrics())
    assert not was_digits(TrainSettings(), None)


def staged(folder: Path, model: bytes = b"model") -> Metrics:
    """Results in a staging folder."""
    made = metrics(artefact_sha256=sha256(model).hexdigest())
    (folder / "model.tflite").write_bytes(model)
    (folder / "plots").mkdir()
    write(folder, "# card\n", pictures([3, 1, 4]), made)
    return made


def test_results_are_found_again(tmp_path: Path) -> None:
    """What was put there reads back as it was, and is kept for the same key only, and not by force."""
    out = tmp_path / "model"
    with staging(out) as folder:
        made = staged(folder)
        install(folder, out)
    assert previous(out) == made
    asked = TrainSettings(out=out)
    assert kept(asked, "key") == made
    assert kept(asked, "another key") is None
    assert kept(replace(asked, force=True), "key") is None
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("damage", ["model.tflite", "card.md", "metrics.json", "frames", "plots"])
def test_half_a_result_is_no_result(tmp_path: Path, damage: str) -> None:
    """With any part of it gone, a result is made anew."""
    out = tmp_path / "model"
    with staging(out) as folder:
        staged(folder)
        install(folder, out)
    (out / damage).rename(tmp_path / "gone")
    assert previous(out) is None


def test_a_changed_model_is_not_kept(tmp_path: Path) -> None:
    """Metrics speak of the model that they were measured on, by digest."""
    out = tmp_path / "model"
    with staging(out) as folder:
        staged(folder)
        install(folder, out)
    (out / "model.tflite").write_bytes(b"other")
    assert previous(out) is None


def test_new_results_replace_old_ones_and_nothing_else(tmp_path: Path) -> None:
    """A second training replaces all of ours; a stranger's file beside it stays."""
    out = tmp_path / "model"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    for model in (b"first", b"second"):
        with staging(out) as folder:
            staged(folder, model)
            install(folder, out)
    assert (out / "model.tflite").read_bytes() == b"second"
    assert (out / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(out)) == [
        "card.md",
        "frames",
        "metrics.json",
        "model.tflite",
        "notes.txt",
        "plots",
    ]


def test_a_failure_leaves_no_staging(tmp_path: Path) -> None:
    """Whatever is raised inside, the folder beside is gone and `out` was not made."""
    with suppress(KeyboardInterrupt), staging(tmp_path / "model") as folder:
        staged(folder)
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_strangers_frames_are_not_replaced(tmp_path: Path) -> None:
    """A folder `frames` without our truth.csv may hold somebody's only pictures."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "holiday.jpg").write_bytes(b"")
    with pytest.raises(ExportError, match="not ours to replace"), staging(tmp_path):
        pass
    assert (tmp_path / "frames" / "holiday.jpg").exists()


def test_a_strangers_plots_are_not_replaced(tmp_path: Path) -> None:
    """A folder `plots` that holds more than ours may be somebody's work."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "thesis.pdf").write_bytes(b"")
    with pytest.raises(ExportError, match="not ours to replace"), staging(tmp_path):
        pass


def test_a_file_in_the_way_is_said_before_the_work(tmp_path: Path) -> None:
    """`--out` that names a file, or lies under one, fails before the training."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(ExportError, match="use another --out"), staging(out):
            pass


def test_the_card_answers_a_persons_questions() -> None:
    """What it is, from which data and why, how good on each runtime, what it mixes up, how it was made."""
    text = card(metrics())
    for words in (
        "# digits 1.2.0",
        "the file m.npz (w)",
        "| float32, before conversion | 99.50% |",
        "| int8 on litert | 99.40% |",
        "| int8 on tflite_runtime | 99.41% |",
        "| lost by int8 | 0.10 points (at most 0.30) |",
        "24,776 characters inline, so it fits into a module twin (28,000)",
        "3 mistakes; the commonest: 4 taken for 9 (2×), 7 taken for 2 (1×).",
        "| **4** | · | · | · | · | 100 | · | · | · | · | 2 |",
        "    twinship train --arch micro\n",
        "2 dropped from training",
        "  - a/b.png: 0 bytes",
        "| litert | 0.061 ms | 1.3 MB |",
        "| expected calibration error | 10.00 points |",
        "epoch 2 of 2 kept",
        "![Reliability](plots/reliability.png)",
        SHA,
    ):
        assert words in text


def test_a_card_says_when_a_model_does_not_fit() -> None:
    """The reader learns it here and not from a refused publish; a flawless model is said to be one."""
    table = [[int(truth == answer) for answer in range(10)] for truth in range(10)]
    text = card(metrics(inline=Inline(characters=280_080, limit=28_000, fits=False), confusion=table))
    assert "does not fit" in text
    assert "No mistakes." in text


def test_a_card_shows_every_candidate_and_variant() -> None:
    """All that were tried, and why they were not taken; every optimisation on every runtime, or why not."""
    candidate = Candidate(
        architecture="svm", parameters=7_850, tflite_bytes=10_648, accuracy=0.92, p50_ms=0.02
    )
    on = VariantOn(accuracy=0.99, cost=Cost(p50_ms=0.05, memory_bytes=1_500_000))
    variant = Variant(
        optimisation="dynamic",
        tflite_bytes=232_376,
        minimum_runtime={"tflite_runtime": "2.17.0"},
        runtimes={"litert": on},
        refused={"tflite_runtime": "needs tflite_runtime 2.17.0"},
    )
    failed = candidate.model_copy(update={"architecture": "seed", "failed": ("too slow",)})
    text = card(metrics(candidates=(candidate, failed), variants=(variant,)))
    for words in (
        "| svm | 7,850 | 10,648 | 92.00% | 0.020 ms | passes |",
        "| seed | 7,850 | 10,648 | 92.00% | 0.020 ms | too slow |",
        "| dynamic | 232,376 | litert | 99.00% | 0.050 ms | 1.5 MB |",
        "| dynamic | 232,376 | tflite_runtime | needs tflite_runtime 2.17.0 | | |",
    ):
        assert words in text
