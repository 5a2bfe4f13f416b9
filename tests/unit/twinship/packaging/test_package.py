"""`twinship package`: foreign models become artefacts, and what is not known is asked for by name."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference import evaluate
from inference.artefact import read
from inference.predict import FilePrediction, predict_files
from tests.models import REAL_DATA
from tests.unit.twinship.packaging import graphs
from twinship.packaging import NotPackaged, model_file
from twinship.packaging.choose import Options, choose
from twinship.packaging.flatbuffer import BadFlatbuffer, root
from twinship.packaging.package import Packaged, Request, default_name, package

CORAL = REAL_DATA / "coral"
LABELS = "left\nright\n"
FLOAT = Options(labels=LABELS, mean=(0,), std=(255,))


def packed(folder: Path, model: bytes, options: Options = FLOAT, *, probes: bool = False) -> Packaged:
    (folder / "m.tflite").write_bytes(model)
    if probes:
        (folder / "p").mkdir()
        Image.fromarray(graphs.picture(255, 200)).save(folder / "p" / "both.png")
    return package(
        Request(folder / "m.tflite", folder / "out", "m", "1", options, folder / "p" if probes else None)
    )


def refused(model: bytes, options: Options = FLOAT) -> str:
    with pytest.raises(NotPackaged) as error:
        choose(model_file.read(model), options)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("ending", "head"),
    [(graphs.SOFTMAX, "softmax"), (graphs.LOGISTIC, "sigmoid"), (graphs.FULLY_CONNECTED, "logits")],
)
def test_a_classifier_is_packed_with_the_head_that_its_graph_shows(
    tmp_path: Path, ending: int, head: str
) -> None:
    """Every runtime proves the artefact; it answers as the model does."""
    made = packed(tmp_path, graphs.classifier(ending))
    assert (made.manifest.task, made.manifest.head.kind, made.labels) == ("classification", head, 2)
    Image.fromarray(graphs.picture(10, 250)).save(tmp_path / "right.png")
    (answer,) = predict_files(read(made.out.read_bytes()), [tmp_path / "right.png"])
    assert isinstance(answer, FilePrediction)
    assert answer.top[0].label == "right"


def test_the_slowest_runtime_decides_the_latency_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device may have any runtime; on an older one the same model can take ten times as long."""
    real = evaluate.evaluate

    def slow(*arguments: Any, **named: Any) -> dict[str, Any]:
        (found,) = list(real(*arguments, **named).values())[:1]
        times = {"quick": 3.0, "slow": 40.0}
        return {
            name: replace(found, cost=found.cost.model_copy(update={"p50_ms": ms}))
            for name, ms in times.items()
        }

    monkeypatch.setattr(evaluate, "evaluate", slow)
    assert packed(tmp_path, graphs.classifier()).manifest.latencyBudgetMs == 400


@pytest.mark.parametrize("shuffled", [False, True])
def test_an_ssd_detector_is_packed(tmp_path: Path, shuffled: bool) -> None:
    """The order of its outputs comes from the operator; the probe holds what the model finds."""
    made = packed(tmp_path, graphs.ssd(shuffled=shuffled), probes=True)
    artefact = read(made.out.read_bytes())
    assert [each.label for each in artefact.probes.detections[0]] == ["left", "right"]
    (answer,) = predict_files(artefact, [tmp_path / "p" / "both.png"])
    assert isinstance(answer, FilePrediction)
    assert [(each.label, each.box) for each in answer.detections] == [
        ("left", (0.0, 0.0, 0.5, 1.0)),
        ("right", (0.5, 0.0, 0.5, 1.0)),
    ]


def test_labels_in_a_zip_archive_behind_the_model_are_read() -> None:
    """The artefact's own trailer replaces it."""
    model = graphs.classifier()
    found = model_file.read(graphs.with_zip(model, {"labels.txt": LABELS}))
    assert (found.flatbuffer, found.labels) == (model, LABELS)
    assert choose(found, Options(mean=(0,), std=(255,))).labels == ("left", "right")


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        (graphs.classifier(), Options(mean=(0,), std=(255,)), "the labels are unknown: .* --labels FILE"),
        (graphs.classifier(), Options(labels=LABELS), "--mean 127.5 --std 127.5, because"),
        (graphs.classifier(), Options(labels=LABELS, mean=(0,)), "--mean and --std belong together"),
        (graphs.classifier(), FLOAT.model_copy(update={"labels": "a\nb\nc"}), "3 labels, .* has 2 classes"),
        (graphs.classifier(), FLOAT.model_copy(update={"labels": "a"}), "background first"),
        (graphs.classifier(), FLOAT.model_copy(update={"labels": "a\n\nb"}), "line 2 is empty"),
        (graphs.classifier(), FLOAT.model_copy(update={"labels": "a\na"}), "occur twice, as 'a'"),
        (graphs.classifier(inputs=2), FLOAT, "several pictures: tensor0"),
        (graphs.classifier(inputs=0), FLOAT, "input is no picture"),
        (graphs.classifier(channels_first=True), FLOAT, "channels come first"),
        (graphs.reshaped(1, 2, 2, 2), FLOAT, "suit no head"),
        (graphs.reshaped(1, 2, 5), FLOAT, "classes; cure"),
        (graphs.reshaped(1, 2), FLOAT.model_copy(update={"head": "ssd"}), "do not suit the head ssd"),
        (graphs.ssd(), FLOAT.model_copy(update={"labels": "a"}), "1 labels, and the model has 2 classes"),
    ],
)
def test_what_is_missing_or_not_supported_is_named(model: bytes, options: Options, named: str) -> None:
    """One line with the reason and the cure."""
    assert re.search(named, refused(model, options))


@pytest.mark.skipif(not CORAL.is_dir(), reason=f"no models of Coral in {CORAL}")
def test_weights_of_tensorflow_1_are_named() -> None:
    """A uint8 input alone is no sign of them."""
    labels = "".join(f"{number}th\n" for number in range(1_001))
    for name, old in (
        ("mobilenet_v1_0.25_128_quant.tflite", True),
        ("tf2_mobilenet_v2_1.0_224_ptq.tflite", False),
    ):
        chosen = choose(model_file.read((CORAL / name).read_bytes()), Options(labels=labels))
        assert any("uint8, as TensorFlow 1" in line for line in chosen.because) is old


def test_a_label_that_occurs_twice_gets_its_position() -> None:
    """ImageNet has two cranes; the other labels stay as they are."""
    model = model_file.read(graphs.reshaped(1, 5))
    options = Options(labels="crane\na\nb\nc\ncrane", mean=(0,), std=(255,), head="softmax")
    chosen = choose(model, options)
    assert chosen.labels == ("crane (0)", "a", "b", "c", "crane (4)")
    assert any("'crane' occurs twice" in line for line in chosen.because)


def test_numbers_before_the_labels_are_left_out() -> None:
    """Label files of some tools count their lines."""
    options = FLOAT.model_copy(update={"labels": "0  left\n1  right"})
    assert choose(model_file.read(graphs.classifier()), options).labels == ("left", "right")


def test_a_file_that_is_no_model_or_an_artefact_already_is_refused(tmp_path: Path) -> None:
    """Each with its reason; nothing is written."""
    made = packed(tmp_path, graphs.classifier())
    for data, named in ((b"PK\5\6" * 9, "no TFL3"), (made.out.read_bytes(), "an artefact already")):
        with pytest.raises(NotPackaged, match=named):
            model_file.read(data)


def test_a_damaged_file_raises_only_its_own_error() -> None:
    """Each byte of a model is changed in turn, and the file is cut at each place."""
    model = graphs.with_zip(graphs.ssd(), {"labels.txt": LABELS})
    random = np.random.default_rng(5)
    for place in range(0, len(model), 3):
        broken = bytearray(model)
        broken[place] ^= int(random.integers(1, 256))
        for data in (bytes(broken), model[:place]):
            with contextlib.suppress(NotPackaged):
                choose(model_file.read(data), FLOAT)


def test_an_offset_behind_the_file_is_refused() -> None:
    """Neither a negative nor a large offset reads other bytes."""
    for data in (b"\xff\xff\xff\x7f" + bytes(12), b"\x04\0\0\0" + b"\xff\xff\xff\x7f" + bytes(8)):
        with pytest.raises(BadFlatbuffer, match="leaves the file"):
            root(data)


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_pictures_of_the_camera_become_the_reference_for_drift(tmp_path: Path, kind: str) -> None:
    """Half of them are bright at the left, half at the right; without them there is no reference."""
    model = graphs.classifier(graphs.SOFTMAX) if kind == "classifier" else graphs.ssd()
    assert packed(tmp_path, model, FLOAT).manifest.reference is None
    camera_pictures(tmp_path / "camera", 100)
    made = package(
        Request(tmp_path / "m.tflite", tmp_path / "out", "m", "1", FLOAT, drift=tmp_path / "camera")
    )
    reference = read(made.out.read_bytes()).manifest.reference
    assert reference == made.manifest.reference
    assert reference is not None
    assert (reference.frames, len(reference.classes)) == (100, 2 if kind == "classifier" else 3)
    assert set(reference.measures) >= {"confidence", "brightness", "sharpness"}
    if kind == "classifier":
        assert reference.classes == (0.5, 0.5)


def test_too_few_pictures_for_drift_are_named(tmp_path: Path) -> None:
    """99 of the 100 files can be read. Nothing is written."""
    camera_pictures(tmp_path / "camera", 99)
    (tmp_path / "camera" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "m.tflite").write_bytes(graphs.classifier(graphs.SOFTMAX))
    request = Request(tmp_path / "m.tflite", tmp_path / "out", "m", "1", FLOAT, drift=tmp_path / "camera")
    with pytest.raises(NotPackaged, match=r"camera: 99 readable pictures; cure: at least 100"):
        package(request)
    assert not (tmp_path / "out").exists()


def camera_pictures(folder: Path, count: int) -> None:
    """Pictures with one bright side."""
    folder.mkdir()
    for number in range(count):
        bright = 150 + number
        sides = (bright, 10) if number % 2 else (10, bright)
        Image.fromarray(graphs.picture(*sides)).save(folder / f"{number:03}.png")


def test_nothing_is_written_if_the_proof_fails(tmp_path: Path) -> None:
    """An earlier artefact of the same name stays."""
    (tmp_path / "out").write_bytes(b"before")
    with pytest.raises(NotPackaged):
        packed(tmp_path, graphs.classifier(), FLOAT.model_copy(update={"labels": "a"}))
    assert (tmp_path / "out").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tflite", "out"]


def test_a_name_comes_from_the_file() -> None:
    """Characters that a twin cannot carry become hyphens."""
    assert default_name(Path("x/My model (2).tflite")) == "My-model-2"
