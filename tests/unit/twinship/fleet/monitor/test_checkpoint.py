"""The position of a reader in a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twinship.fleet.monitor.checkpoint import BadCheckpoint, Checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet, in a folder that does not exist yet."""
    return tmp_path / "new" / "position.json"


def test_offsets_are_kept(path: Path) -> None:
    """The file is private and replaced as a whole; nothing else stays in the folder."""
    kept = Checkpoint(path, "hub/events", "$Default")
    assert kept.load() == {}
    kept.save({"0": "1024"})
    kept.save({"0": "2048", "1": "abc"})
    assert kept.load() == {"0": "2048", "1": "abc"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_another_reader_is_refused(path: Path) -> None:
    """Its offsets are other places: of another endpoint, or of another consumer group."""
    Checkpoint(path, "hub/events", "$Default").save({"0": "1024"})
    with pytest.raises(BadCheckpoint, match=r"hub/events, not of \$Default at other/events"):
        Checkpoint(path, "other/events", "$Default").load()
    with pytest.raises(BadCheckpoint, match="not of second"):
        Checkpoint(path, "hub/events", "second").load()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"schema": 1, "endpoint": 2}', "[" * 50_000, "\0"])
def test_a_file_that_is_no_checkpoint_is_refused(path: Path, text: str) -> None:
    """In one line with the cure."""
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(BadCheckpoint, match="is no checkpoint; cure: name another file"):
        Checkpoint(path, "hub/events", "$Default").load()


def test_a_failed_save_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no temporary file."""
    kept = Checkpoint(path, "hub/events", "$Default")
    kept.save({"0": "1"})

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(BadCheckpoint, match="No space left"):
        kept.save({"0": "2"})
    assert kept.load() == {"0": "1"}
    assert list(path.parent.iterdir()) == [path]
