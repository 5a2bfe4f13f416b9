"""What an interrupted training goes on from: the same bits come back, or one line says why not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twinship_training.checkpoint import HEADER, CheckpointError, Checkpoints, Epoch, Reached

REACHED = Reached(
    history=(Epoch(0.1 + 0.2, 1 / 3), Epoch(1e-30, 1.0)),
    best=2,
    kept=[np.array([np.float32(0.1), -0.0, np.inf], np.float32)],
    state=[np.array(7, np.int64), np.zeros((0, 3), np.float32), np.eye(2, dtype=np.float32)],
    average=[],
)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """Of a training that writes to a folder "model"."""
    return Checkpoints(tmp_path / "model.checkpoint", "settings", "data")


def test_the_same_bits_come_back(checkpoints: Checkpoints) -> None:
    """History, kinds, shapes and every bit of the numbers, network by network."""
    checkpoints.write("micro", replace(REACHED, best=1))
    checkpoints.write("micro", REACHED)
    checkpoints.write("svm", replace(REACHED, history=()))
    found = checkpoints.read()
    assert set(found) == {"micro", "svm"}
    assert (found["micro"].history, found["micro"].best) == (REACHED.history, 2)
    for name in ("kept", "state", "average"):
        before, after = getattr(REACHED, name), getattr(found["micro"], name)
        assert [(one.dtype, one.shape, one.tobytes()) for one in before] == [
            (one.dtype, one.shape, one.tobytes()) for one in after
        ]


def test_a_file_is_whole_or_as_it_was(checkpoints: Checkpoints) -> None:
    """What cannot be written to its end replaces nothing."""
    checkpoints.write("micro", REACHED)
    (checkpoints.folder / "micro.part").mkdir()
    with pytest.raises(CheckpointError, match=r"model\.checkpoint: cannot write there"):
        checkpoints.write("micro", replace(REACHED, best=1))
    assert checkpoints.read()["micro"].best == 2


def test_nothing_to_resume(checkpoints: Checkpoints) -> None:
    """The folder is named, and what to do."""
    with pytest.raises(CheckpointError, match=r"model\.checkpoint: nothing to resume.*leave --resume away"):
        checkpoints.read()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_half_a_file_is_refused(checkpoints: Checkpoints, share: float) -> None:
    """A file that was cut off is damaged, however much of it is left."""
    checkpoints.write("micro", REACHED)
    path = checkpoints.folder / "micro.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"micro\.npz is damaged; leave --resume away"):
        checkpoints.read()


@pytest.mark.parametrize("header", ["[]", "{}", '{"counts": {"kept": 9}}', "nonsense"])
def test_another_layout_is_refused(checkpoints: Checkpoints, header: str) -> None:
    """An archive of numpy's that is none of ours is damaged, and no traceback."""
    checkpoints.folder.mkdir()
    np.savez(checkpoints.folder / "micro.npz", **{HEADER: np.array(header)})
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.read()


def test_objects_are_not_loaded(checkpoints: Checkpoints) -> None:
    """A checkpoint is numbers: nothing in it is unpickled."""
    header = {"recipeKey": "settings", "fingerprint": "data", "history": [], "best": 1, "counts": {"kept": 1}}
    checkpoints.folder.mkdir()
    np.savez(
        checkpoints.folder / "micro.npz",
        **{HEADER: np.array(json.dumps(header)), "kept0": np.array([{}], dtype=object)},
    )
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.read()


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (Checkpoints(Path(), "others", "data"), "other settings, code or versions"),
        (Checkpoints(Path(), "settings", "others"), "other data"),
    ],
)
def test_another_trainings_is_refused(checkpoints: Checkpoints, reader: Checkpoints, why: str) -> None:
    """Weights of another recipe or of other pictures would be neither the one model nor the other."""
    checkpoints.write("micro", REACHED)
    with pytest.raises(CheckpointError, match=f"{why}; leave --resume away"):
        replace(reader, folder=checkpoints.folder).read()


def test_beginning_anew_replaces_what_another_training_left(checkpoints: Checkpoints) -> None:
    """Not before there is something of its own; then nothing foreign stands in the way of --resume."""
    replace(checkpoints, recipe_key="others").write("seed", REACHED)
    (checkpoints.folder / "svm.npz").write_bytes(b"half")
    checkpoints.write("micro", REACHED)
    assert set(checkpoints.read()) == {"micro"}


def test_no_place_to_keep_it(checkpoints: Checkpoints) -> None:
    """A file where the folder should be is named."""
    checkpoints.folder.write_text("")
    with pytest.raises(CheckpointError, match=r"model\.checkpoint: cannot write there"):
        checkpoints.write("micro", REACHED)


def test_a_finished_training_leaves_none(checkpoints: Checkpoints) -> None:
    """Once removed there is nothing to resume; to remove nothing is no error."""
    checkpoints.write("micro", REACHED)
    checkpoints.remove()
    checkpoints.remove()
    assert not checkpoints.folder.exists()
