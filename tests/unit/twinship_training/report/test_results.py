"""Settings, result cache, card and files of a training."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import inference
from inference.metrics_model import (
    Candidate,
    Cost,
    InlineSize,
    Metrics,
    Variant,
    VariantResult,
    read_results,
)
from tests.unit.twinship_training.pictures import dataset, pictures
from tests.unit.twinship_training.report.figures import SHA, metrics
from twinship_training.data.split import Dataset
from twinship_training.report.card import card
from twinship_training.report.results import ExportError, install, staging, write
from twinship_training.result_cache import DEVICE_CODE, cached, fell_back_to_digits, recipe_key, same_data
from twinship_training.settings import SettingsError, TrainSettings, model_name, size_bytes


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "huge"}, "'huge' is unknown: use seed or micro or .* or mobilenet or auto"),
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
def test_bad_settings_are_refused_before_the_training(changed: dict[str, Any], message: str) -> None:
    """A setting that would fail after minutes of training fails at once."""
    with pytest.raises(SettingsError, match=message):
        TrainSettings(**changed)


def test_the_command_repeats_the_training() -> None:
    """The command has every setting that matters, quoted for a shell."""
    settings = TrainSettings(architecture="micro", epochs=3, seed=7, out=Path("my models/a"))
    assert settings.command == (
        "twinship train --arch micro --dataset auto --profile full --epochs 3 --seed 7 "
        "--name digits --version 1.0.0 --out 'my models/a'"
    )


def test_the_command_has_all_limits() -> None:
    """Limits, optimisation and variants are in it, a size in bytes; options with their default are not."""
    settings = TrainSettings(
        architecture="auto", max_size_bytes=22_000, max_latency_ms=1.5, optimisation="dynamic", variants=True
    )
    words = settings.command.split()
    for option, value in (("--max-size", "22000"), ("--max-latency-ms", "1.5"), ("--optimise", "dynamic")):
        assert words[words.index(option) + 1] == value
    assert "--variants" in words
    assert "--max-side" not in words


def test_epochs_replace_the_recipes() -> None:
    """--epochs changes only the epochs."""
    default = TrainSettings(architecture="micro").recipe("micro", 55_000)
    assert TrainSettings(architecture="micro", epochs=2).recipe("micro", 55_000) == replace(default, epochs=2)


def test_few_pictures_are_repeated_in_an_epoch() -> None:
    """An epoch of the full profile has thousands of pictures, so that a small folder can be learnt."""
    settings = TrainSettings(architecture="small")
    assert settings.recipe("small", 90).pictures == 6_000
    assert settings.recipe("small", 55_000).pictures is None


def test_a_target_can_be_set(tmp_path: Path) -> None:
    """min_accuracy replaces the target's accuracy, not its drop; with auto it is a limit for candidates."""
    data = dataset(tmp_path)
    default = TrainSettings().target("seed", data)
    assert TrainSettings(min_accuracy=0.5).target("seed", data) == replace(default, accuracy=0.5)
    auto = TrainSettings(architecture="auto", min_accuracy=0.5)
    assert auto.target("seed", data) == default
    assert auto.limits.accuracy == 0.5
    assert TrainSettings(min_accuracy=0.5).limits.accuracy is None


@pytest.mark.parametrize(
    ("text", "wanted"), [("22KB", 22_000), ("22 KiB", 22_528), ("1.5MB", 1_500_000), ("512", 512), ("7B", 7)]
)
def test_a_size_has_a_unit(text: str, wanted: int) -> None:
    """KB is 1,000 bytes, KiB 1,024; a number without unit is bytes."""
    assert size_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "KB", "22kb", "-1KB", "1e3", "22 GB"])
def test_an_ambiguous_size_is_refused(text: str) -> None:
    """The error has an example."""
    with pytest.raises(SettingsError, match="as 22KB"):
        size_bytes(text)


@pytest.mark.parametrize(
    ("dataset_", "name"),
    [("auto", "digits"), ("fashion_mnist", "fashion"), ("folder:/x/My cats/", "My-cats"), ("npz:a.npz", "a")],
)
def test_a_model_is_named_after_its_data(dataset_: str, name: str) -> None:
    """The default name comes from the data set or the folder, in characters that a name may have."""
    assert model_name(dataset_) == name
    TrainSettings(name=model_name(dataset_))


@pytest.mark.parametrize("changed", [{"seed": 2}, {"epochs": 3}, {"version": "2"}, {"min_accuracy": 0.5}])
def test_another_setting_is_another_training(changed: dict[str, Any]) -> None:
    """The key has every setting that decides the result, but not the output folder."""
    default = TrainSettings()
    assert recipe_key(replace(default, **changed)) != recipe_key(default)
    assert recipe_key(replace(default, out=Path("elsewhere"), force=True)) == recipe_key(default)


def test_the_device_code_in_the_key_exists() -> None:
    """Each pattern of the key finds files, among them all that predict and evaluate."""
    device = Path(inference.__path__[0])
    found = {pattern: {path.name for path in device.glob(pattern)} for pattern in DEVICE_CODE}
    assert all(found.values())
    assert {"artefact.py", "engine.py", "evaluate.py", "metrics_model.py", "runtimes.py"} <= found["*.py"]
    assert {path.name for path in (device / "dataset").rglob("*.py")} == found["dataset/*.py"]


def test_only_a_result_of_the_same_data_is_reused(tmp_path: Path) -> None:
    """The same settings with other pictures are another training."""
    data: Dataset = dataset(tmp_path)
    info = metrics().dataset
    same = metrics(dataset=info.model_copy(update={"fingerprint": data.fingerprint}))
    assert same_data(same, data)
    assert not same_data(metrics(), data)
    assert not same_data(None, data)


def test_a_failed_download_is_not_tried_again() -> None:
    """Only for the same training, and not with --dataset mnist."""
    offline = metrics(dataset=metrics().dataset.model_copy(update={"name": "digits"}))
    assert fell_back_to_digits(TrainSettings(), offline)
    assert not fell_back_to_digits(TrainSettings(dataset="mnist"), offline)
    assert not fell_back_to_digits(TrainSettings(), metrics())
    assert not fell_back_to_digits(TrainSettings(), None)


def staged(folder: Path, model: bytes = b"model") -> Metrics:
    """Write results into a staging folder."""
    written = metrics(artefact_sha256=sha256(model).hexdigest())
    (folder / "model.tflite").write_bytes(model)
    (folder / "plots").mkdir()
    write(folder, "# card\n", pictures([3, 1, 4]), written)
    return written


def test_results_are_found_again(tmp_path: Path) -> None:
    """Results read back unchanged, and are reused for the same key only, and not with force."""
    out = tmp_path / "model"
    with staging(out) as folder:
        written = staged(folder)
        install(folder, out)
    assert read_results(out) == written
    settings = TrainSettings(out=out)
    assert cached(settings, "key") == written
    assert cached(settings, "another key") is None
    assert cached(replace(settings, force=True), "key") is None
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("damage", ["model.tflite", "card.md", "metrics.json", "frames", "plots"])
def test_an_incomplete_result_is_not_reused(tmp_path: Path, damage: str) -> None:
    """If any file is missing, the training runs again."""
    out = tmp_path / "model"
    with staging(out) as folder:
        staged(folder)
        install(folder, out)
    (out / damage).rename(tmp_path / "gone")
    assert read_results(out) is None


def test_a_changed_model_is_not_reused(tmp_path: Path) -> None:
    """Metrics hold only for the model with their digest."""
    out = tmp_path / "model"
    with staging(out) as folder:
        staged(folder)
        install(folder, out)
    (out / "model.tflite").write_bytes(b"other")
    assert read_results(out) is None


def test_new_results_replace_old_ones_and_nothing_else(tmp_path: Path) -> None:
    """A second training replaces the results; other files in the folder stay."""
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
    """After any exception the staging folder is removed and `out` does not exist."""
    with suppress(KeyboardInterrupt), staging(tmp_path / "model") as folder:
        staged(folder)
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_foreign_frames_are_not_replaced(tmp_path: Path) -> None:
    """A folder `frames` without truth.csv may hold a user's only pictures."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "holiday.jpg").write_bytes(b"")
    with pytest.raises(ExportError, match="not ours to replace"), staging(tmp_path):
        pass
    assert (tmp_path / "frames" / "holiday.jpg").exists()


def test_foreign_plots_are_not_replaced(tmp_path: Path) -> None:
    """A folder `plots` with other files may be a user's work."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "thesis.pdf").write_bytes(b"")
    with pytest.raises(ExportError, match="not ours to replace"), staging(tmp_path):
        pass


def test_an_out_that_is_a_file_is_refused_before_the_training(tmp_path: Path) -> None:
    """`--out` names a file, or a path below a file."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(ExportError, match="use another --out"), staging(out):
            pass


def test_the_card_has_all_that_a_user_wants_to_know() -> None:
    """Name, data and their origin, accuracy on each runtime, mistakes, size, speed, and the command."""
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
        "in 10 bins of equal width",
        "| int8 | 10.00 points |",
        "epoch 2 of 2 kept",
        "![Reliability](plots/reliability.png)",
        SHA,
    ):
        assert words in text


def test_the_card_says_that_a_model_does_not_fit_into_a_twin() -> None:
    """And that a model made no mistakes."""
    table = [[int(truth == answer) for answer in range(10)] for truth in range(10)]
    text = card(metrics(inline=InlineSize(characters=280_080, limit=28_000, fits=False), confusion=table))
    assert "does not fit" in text
    assert "No mistakes." in text


def test_a_card_shows_every_candidate_and_variant() -> None:
    """All candidates with their failed limits; every optimisation on every runtime, or why not."""
    candidate = Candidate(
        architecture="svm", parameters=7_850, tflite_bytes=10_648, accuracy=0.92, p50_ms=0.02
    )
    result = VariantResult(accuracy=0.99, cost=Cost(p50_ms=0.05, memory_bytes=1_500_000))
    variant = Variant(
        optimisation="dynamic",
        tflite_bytes=232_376,
        minimum_runtime={"tflite_runtime": "2.17.0"},
        runtimes={"litert": result},
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
