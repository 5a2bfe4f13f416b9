"""The order of the stored models, attempts and verdicts; and files that are written whole or not at all."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from inference.model_section import ModelRef
from inference.models.errors import CODES, ModelUnavailable, Reason
from inference.models.store import MAX_QUARANTINED, MAX_STORED, Memory, ModelStore, StoredModel

BAD = Reason("too-slow", "it was")


def model(name: str, *, proven: bool = True) -> StoredModel:
    return StoredModel(ModelRef("digits", name, 1, f"sha-{name}"), f"section-{name}", proven)


def after(*names: str) -> Memory:
    """These models, one after the other, each through probation."""
    memory = Memory()
    for name in names:
        memory = (
            memory.attempting(model(name)).promoted(model(name, proven=False)).marked_proven(f"sha-{name}")
        )
    return memory


def names(entries: tuple[StoredModel, ...]) -> list[str]:
    return [entry.ref.version for entry in entries]


# -- the rules


def test_the_last_three_models_stay_stored() -> None:
    """The fourth model replaces the first."""
    memory = after("a", "b", "c", "d")
    assert names(memory.stored) == ["d", "c", "b"]
    assert names(memory.rollback_candidates) == ["c", "b"]


def test_an_older_model_that_the_twin_names_again_moves_to_the_front() -> None:
    """An older model that the twin names again is promoted like any other."""
    assert names(after("a", "b", "c", "a").stored) == ["a", "c", "b"]


def test_previous_is_the_last_model_that_passed_probation() -> None:
    """Models that were replaced on probation are no rollback candidates, and never replace one."""
    memory = after("good")
    for name in ("x", "y", "z"):
        memory = memory.promoted(model(name, proven=False))
    assert names(memory.rollback_candidates) == ["good"]
    assert len(memory.stored) == MAX_STORED


def test_an_unproven_model_that_failed_is_forgotten() -> None:
    """It does not stay on disk; the previous model serves again."""
    memory = after("a", "b").promoted(model("c", proven=False))
    memory = memory.withdrawn("sha-c").quarantined("section-c", BAD).resumed("sha-b")
    assert names(memory.stored) == ["b", "a"]


def test_a_quarantined_model_is_no_rollback_candidate() -> None:
    """Two rollbacks go back two models, not back and forth."""
    memory = after("a", "b", "c").quarantined("section-c", BAD).withdrawn("sha-c").resumed("sha-b")
    assert memory.active == model("b")
    assert names(memory.rollback_candidates) == ["a"]
    assert "c" in names(memory.stored)


def test_a_released_section_is_a_rollback_candidate_again() -> None:
    """A release undoes a verdict."""
    memory = after("a", "b").quarantined("section-a", BAD)
    assert names(memory.rollback_candidates) == []
    assert names(memory.released("section-a").rollback_candidates) == ["a"]


def test_the_quarantine_is_bounded() -> None:
    """The oldest verdicts make room."""
    memory = Memory()
    for number in range(MAX_QUARANTINED + 5):
        memory = memory.quarantined(f"section-{number}", BAD)
    assert len(memory.quarantine) == MAX_QUARANTINED
    assert "section-0" not in memory.quarantine


def test_two_starts_that_find_an_open_attempt_are_a_crash() -> None:
    """One may be a power cut; two are the model's fault."""
    memory = after("good").attempting(model("new"))
    memory, crashed = memory.started()
    assert not crashed
    memory, crashed = memory.attempting(model("new")).started()
    assert [ref.version for ref, _ in crashed] == ["new"]
    assert memory.quarantine["section-new"].code == "crashed"
    assert memory.active == model("good")
    assert not memory.attempts


def test_a_start_counts_an_attempt_once() -> None:
    """It counts only if the last process had the model loaded."""
    memory, _ = Memory().attempting(model("new")).started()
    for _ in range(5):
        memory, crashed = memory.started()
        assert not crashed


def test_a_verdict_ends_an_attempt() -> None:
    """A proven model is not blamed for later crashes."""
    memory, _ = after("a").started()
    assert not memory.attempts


def test_an_orderly_stop_is_no_crash() -> None:
    """Stopping the module on probation blames no model."""
    memory = Memory()
    for _ in range(5):
        memory, crashed = memory.attempting(model("new")).stopped().started()
        assert not crashed


def test_a_stop_does_not_erase_a_crash() -> None:
    """A crash, an orderly stop and a crash are two crashes."""
    memory, _ = Memory().attempting(model("new")).started()
    memory, _ = memory.attempting(model("new")).stopped().started()
    memory, crashed = memory.attempting(model("new")).started()
    assert crashed


def test_a_model_that_may_have_crashed_is_tried_last() -> None:
    """After one crash the previous model is restored first."""
    memory = after("good").attempting(model("new")).promoted(model("new", proven=False))
    assert names(memory.restorable) == ["new", "good"]
    memory, _ = memory.started()
    assert names(memory.restorable) == ["good", "new"]
    assert names(memory.resumed("sha-good").attempting(model("new")).stored) == ["good", "new"]


def test_another_section_for_the_same_model_takes_over_its_attempt() -> None:
    """The verdict goes to the section that names the model now."""
    memory = Memory().attempting(model("new")).promoted(model("new", proven=False))
    ref = memory.attempts["section-new"].ref
    memory = memory.requested_by("section-again", ref)
    assert list(memory.attempts) == ["section-again"]
    assert memory.active == StoredModel(ref, "section-again", False)


# -- the disk


def test_a_saved_memory_can_be_opened(tmp_path: Path) -> None:
    """The whole memory comes back."""
    memory = after("a", "b").attempting(model("c")).quarantined("section-x", BAD)
    ModelStore(tmp_path).save(memory)
    assert ModelStore(tmp_path).open() == memory


def test_an_empty_folder_is_an_empty_memory(tmp_path: Path) -> None:
    """The first start finds nothing and makes the folders."""
    store = ModelStore(tmp_path / "not" / "there")
    assert store.open() == Memory()
    store.save(Memory())


def test_half_files_and_unknown_artefacts_are_removed(tmp_path: Path) -> None:
    """A start removes what a power cut left, and artefacts that the memory does not name."""
    store = ModelStore(tmp_path)
    store.save(after("a"))
    for sha256 in ("sha-a", "sha-stranger"):
        store.put(sha256, b"x")
    (tmp_path / "tmp1.half").write_bytes(b"{")
    (tmp_path / "models" / "tmp2.half").write_bytes(b"{")
    store.open()
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["models.json", "models/sha-a.tflite"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema":1,"active":7}', b"\xff", b'{"schema":"x"}']
)
def test_an_unreadable_state_is_set_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The module starts with an empty state, logs it, and keeps the old file."""
    (tmp_path / "models.json").write_bytes(content)
    with caplog.at_level(logging.ERROR):
        assert ModelStore(tmp_path).open() == Memory()
    assert "starting with an empty one" in caplog.text
    assert (tmp_path / "models.unreadable.json").read_bytes() == content


def test_the_state_of_a_newer_version_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An older image does not destroy what a newer one wrote, neither its state nor its models."""
    theirs, nobodys = "a" * 64, "b" * 64
    (tmp_path / "models.json").write_text(json.dumps({"schema": 2, "running": [{"digest": theirs}]}))
    store = ModelStore(tmp_path)
    for sha256 in (theirs, nobodys):
        store.put(sha256, b"x")
    with caplog.at_level(logging.ERROR):
        assert store.open() == Memory()
    assert store.newer == "models.json has schema 2, this version knows 1"
    assert store.newer in caplog.text
    store.save(after("c"))
    store.sweep(after("c"))
    assert (tmp_path / "models.schema-2.json").exists()
    assert [path.stem for path in (tmp_path / "models").iterdir()] == [theirs]


def refuse(code: int) -> Callable[[int], NoReturn]:
    def fsync(_descriptor: int) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fsync


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EROFS, "disk-read-only"),
        (errno.EACCES, "disk-read-only"),
        (errno.EIO, "disk-error"),
    ],
)
def test_a_disk_error_has_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    """The old state stays, and no half file stays."""
    store = ModelStore(tmp_path)
    store.open()
    store.save(after("a"))
    monkeypatch.setattr(os, "fsync", refuse(number))
    with pytest.raises(ModelUnavailable) as raised:
        store.save(after("a", "b"))
    assert raised.value.code == code
    assert code in CODES
    assert ("cure: let user" in str(raised.value)) == (code == "disk-read-only")
    monkeypatch.undo()
    assert json.loads((tmp_path / "models.json").read_text())["active"]["ref"]["version"] == "a"
    assert not list(tmp_path.rglob("*.half"))


def test_a_folder_that_cannot_be_made_is_not_fatal(tmp_path: Path) -> None:
    """If the folder is a file, reading finds nothing and writing raises ModelUnavailable."""
    (tmp_path / "file").write_bytes(b"")
    store = ModelStore(tmp_path / "file")
    assert store.open() == Memory()
    assert store.get("sha") is None
    with pytest.raises(ModelUnavailable):
        store.put("sha", b"x")


def test_a_reader_never_sees_half_a_state(tmp_path: Path) -> None:
    """A save replaces the file and does not write into it."""
    store = ModelStore(tmp_path)
    store.save(after("a"))
    with (tmp_path / "models.json").open() as reader:
        store.save(after("b"))
        assert json.load(reader)["active"]["ref"]["version"] == "a"


WRITER = """
import sys
from pathlib import Path
from inference.models.errors import Reason
from inference.models.store import Memory, ModelStore
store, memory = ModelStore(Path(sys.argv[1])), Memory()
for number in range(10**6):
    memory = memory.quarantined(f"section-{number % 50}", Reason("too-slow", "x" * (number % 997)))
    store.save(memory)
    sys.stdout.write("saved\\n"); sys.stdout.flush()
"""


@pytest.mark.parametrize("saves", [1, 4, 30])
def test_a_killed_writer_leaves_a_whole_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, saves: int
) -> None:
    """Whenever the process is killed, the next one reads a state that was saved."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(saves):
            assert child.stdout.readline() == "saved\n"
        child.send_signal(signal.SIGKILL)
    assert len(ModelStore(tmp_path).open().quarantine) >= saves
    assert not list(tmp_path.rglob("*.half"))
    assert "set aside" not in caplog.text
