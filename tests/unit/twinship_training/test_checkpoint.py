"""CheckpointFolder: the same bits come back, or one line says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinship_training.checkpoint import OWNER, Checkpoint, CheckpointError, CheckpointFolder

CHECKPOINT = Checkpoint(
    loss=(0.1 + 0.2, 1e-30),
    validation=(1 / 3, 1.0),
    best=2,
    best_weights=[np.array([np.float32(0.1), -0.0, np.inf], np.float32)],
    state=[np.array(7, np.int64), np.zeros((0, 3), np.float32), np.eye(2, dtype=np.float32)],
    average=[],
)


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointFolder:
    """The checkpoint folder of a training that writes to a folder "model"."""
    return CheckpointFolder(tmp_path / "model.checkpoint", "settings", "data")


def test_the_same_bits_come_back(checkpoints: CheckpointFolder) -> None:
    """History, types, shapes and every bit of the arrays, for each network."""
    checkpoints.write("micro", replace(CHECKPOINT, best=1))
    checkpoints.write("micro", CHECKPOINT)
    checkpoints.write("svm", replace(CHECKPOINT, loss=(), validation=()))
    found = checkpoints.read()
    assert set(found) == {"micro", "svm"}
    assert (found["micro"].loss, found["micro"].validation) == ((0.1 + 0.2, 1e-30), (1 / 3, 1.0))
    assert found["micro"].best == 2
    for name in ("best_weights", "state", "average"):
        before, after = getattr(CHECKPOINT, name), getattr(found["micro"], name)
        assert [(one.dtype, one.shape, one.tobytes()) for one in before] == [
            (one.dtype, one.shape, one.tobytes()) for one in after
        ]


def test_a_file_is_replaced_completely_or_not_at_all(checkpoints: CheckpointFolder) -> None:
    """If a checkpoint cannot be written, the one before stays."""
    checkpoints.write("micro", CHECKPOINT)
    (checkpoints.folder / "micro.part").mkdir()
    with pytest.raises(CheckpointError, match=r"model\.checkpoint: cannot write there"):
        checkpoints.write("micro", replace(CHECKPOINT, best=1))
    assert checkpoints.read()["micro"].best == 2


def test_nothing_to_resume(checkpoints: CheckpointFolder) -> None:
    """The error names the folder and the cure."""
    with pytest.raises(CheckpointError, match=r"model\.checkpoint: nothing to resume.*leave --resume away"):
        checkpoints.read()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(checkpoints: CheckpointFolder, share: float) -> None:
    """A file without its end is damaged, whatever its length."""
    checkpoints.write("micro", CHECKPOINT)
    path = checkpoints.folder / "micro.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"micro\.npz is damaged; leave --resume away"):
        checkpoints.read()


@pytest.mark.parametrize("owner", [None, "nonsense", ["settings"], ["settings", "data"]])
def test_another_layout_is_refused(checkpoints: CheckpointFolder, owner: Any) -> None:
    """A foreign .npz is reported as damaged, without a traceback."""
    checkpoints.folder.mkdir()
    content: dict[str, Any] = {"weights": np.zeros(3)} if owner is None else {OWNER: np.array(owner)}
    np.savez(checkpoints.folder / "micro.npz", **content)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.read()


def test_objects_are_not_loaded(checkpoints: CheckpointFolder) -> None:
    """A checkpoint holds numbers only; nothing is unpickled."""
    checkpoints.write("micro", CHECKPOINT)
    path = checkpoints.folder / "micro.npz"
    with np.load(path) as archive:
        content = dict(archive)
    np.savez(path, **(content | {"best_weights/0": np.array([{}], dtype=object)}))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.read()


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (CheckpointFolder(Path(), "others", "data"), "other settings, code or versions"),
        (CheckpointFolder(Path(), "settings", "others"), "other data"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    checkpoints: CheckpointFolder, reader: CheckpointFolder, why: str
) -> None:
    """Weights of another recipe or of other pictures must not be continued."""
    checkpoints.write("micro", CHECKPOINT)
    with pytest.raises(CheckpointError, match=f"{why}; leave --resume away"):
        replace(reader, folder=checkpoints.folder).read()


def test_writing_removes_checkpoints_of_other_trainings(checkpoints: CheckpointFolder) -> None:
    """After the first own checkpoint no foreign one can block --resume."""
    replace(checkpoints, recipe_key="others").write("seed", CHECKPOINT)
    (checkpoints.folder / "svm.npz").write_bytes(b"half")
    checkpoints.write("micro", CHECKPOINT)
    assert set(checkpoints.read()) == {"micro"}


def test_a_folder_that_cannot_be_written_is_an_error(checkpoints: CheckpointFolder) -> None:
    """The error names a file that has the folder's name."""
    checkpoints.folder.write_text("")
    with pytest.raises(CheckpointError, match=r"model\.checkpoint: cannot write there"):
        checkpoints.write("micro", CHECKPOINT)


def test_removing_checkpoints(checkpoints: CheckpointFolder) -> None:
    """The folder is gone; removing it again is no error."""
    checkpoints.write("micro", CHECKPOINT)
    checkpoints.remove()
    checkpoints.remove()
    assert not checkpoints.folder.exists()
