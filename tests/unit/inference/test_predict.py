"""Offline prediction of picture files."""

from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from inference.engine import Engine, EngineError
from inference.frames.preprocess import decode, prepare
from inference.predict import FilePrediction, FileUnreadable, predict_files
from tests.models import RUNTIMES
from tests.unit.inference.fixtures import tiny_model
from tests.unit.inference.fixtures.tiny_model import LABELS, SPEC, band

ARTEFACT = tiny_model.artefact()


def picture(folder: Path, place: int, name: str) -> Path:
    path = folder / name
    Image.fromarray(band(place)[:, :, 0]).resize((40, 60)).save(path)
    return path


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_picture_is_predicted_in_order(tmp_path: Path, runtime: str) -> None:
    """PNG and JPEG of any size, on both runtimes."""
    paths = [picture(tmp_path, place, f"{place}.{'png' if place else 'jpg'}") for place in (2, 0, 1)]
    answers = list(predict_files(ARTEFACT, paths, top_k=2, runtime=runtime))
    assert [each.path for each in answers] == paths
    tops = [each.top for each in answers if isinstance(each, FilePrediction)]
    assert [(top[0].label, len(top)) for top in tops] == [(LABELS[2], 2), (LABELS[0], 2), (LABELS[1], 2)]


def test_an_unreadable_picture_does_not_stop_the_others(tmp_path: Path) -> None:
    """A text file, a missing file, a folder without pictures and a truncated picture each have a reason."""
    good = picture(tmp_path, 1, "good.png")
    text, missing, cut = tmp_path / "notes.png", tmp_path / "missing.png", tmp_path / "cut.png"
    text.write_text("no picture")
    cut.write_bytes(good.read_bytes()[:60])
    empty = tmp_path / "folder.png"
    empty.mkdir()
    *unreadable, answer = predict_files(ARTEFACT, [text, missing, empty, cut, good])
    assert [each.path for each in unreadable] == [text, missing, empty, cut]
    reasons = [each.reason for each in unreadable if isinstance(each, FileUnreadable)]
    assert reasons[:3] == [
        "content_type: neither PNG nor JPEG nor BMP",
        "No such file or directory",
        "there is no PNG, JPEG or BMP file in it",
    ]
    assert reasons[3].startswith("image: ")
    assert isinstance(answer, FilePrediction)
    assert answer.top[0].label == LABELS[1]


def test_a_folder_stands_for_its_pictures(tmp_path: Path) -> None:
    """Those in it by name, whatever the case of the ending; no other file, and no folder below it."""
    paths = [picture(tmp_path, place, name) for place, name in enumerate(("a.PNG", "b.jpeg", "c.bmp"))]
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "d.png").mkdir()
    picture(tmp_path / "d.png", 0, "deeper.png")
    answers = list(predict_files(ARTEFACT, [tmp_path, paths[0]]))
    assert [each.path for each in answers] == [*paths, paths[0]]
    assert [each.top[0].label for each in answers if isinstance(each, FilePrediction)] == [
        *LABELS[:3],
        LABELS[0],
    ]


def test_a_file_and_the_same_frame_have_equal_scores(tmp_path: Path) -> None:
    """Offline prediction and the device use the same pre-processing."""
    path = picture(tmp_path, 1, "frame.png")
    (answer,) = predict_files(ARTEFACT, [path])
    scores = Engine(ARTEFACT).infer(prepare(decode(path.read_bytes(), "image/png", 40, 60, 1), SPEC))
    assert isinstance(answer, FilePrediction)
    assert answer.top[0].confidence == pytest.approx(scores.max(), abs=1e-6)


def test_a_model_that_does_not_load_raises_at_once(tmp_path: Path) -> None:
    """The error comes before the first picture is read."""
    with pytest.raises(EngineError):
        next(predict_files(tiny_model.artefact(), [tmp_path], runtime="onnx"))


def test_a_prediction_in_json_has_names(tmp_path: Path) -> None:
    """`predict --json` has the field names of prediction messages."""
    (answer,) = predict_files(ARTEFACT, [picture(tmp_path, 1, "a.png")], top_k=1)
    assert asdict(answer)["top"][0].keys() == {"label", "confidence"}
