"""Child processes of the bench: their lines, their memory, and waiting for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from twinship.bench import BenchFailed
from twinship.bench.rig.child import child
from twinship.bench.rig.memory import child_pid, resident_mb
from twinship.bench.rig.waiting import objects, until, whole_lines


def test_a_child_answers_lines_and_is_found_by_its_module(tmp_path: Path) -> None:
    """`python -m json.tool` reads stdin; its process has resident memory while it waits."""
    log = tmp_path / "log"
    options = ("--json-lines", "--compact")
    environment = {"PYTHONUNBUFFERED": "1"}
    with child("json.tool", *options, log=log, environment=environment) as process:
        # a process that has just begun its program has little memory yet
        until(lambda: resident_mb(child_pid("json.tool")) > 1, 10, "its memory")
        process.send("[1, 2]")
        assert process.line() == "[1,2]\n"
    with pytest.raises(BenchFailed, match=r"no process runs json\.tool"):
        child_pid("json.tool")


def test_a_child_that_ended_fails_with_the_last_line_of_its_log(tmp_path: Path) -> None:
    """The error names the module."""
    log = tmp_path / "log"
    with (
        child("json.tool", "--unknown", log=log) as process,
        pytest.raises(BenchFailed, match=r"json\.tool ended: .*--unknown"),
    ):
        process.line()


def test_a_process_that_has_ended_has_no_memory() -> None:
    """Its pid names no process any more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert resident_mb(ended.pid) == 0
    assert resident_mb(os.getpid()) > 1


def test_waiting_ends_with_the_time_out_or_the_process() -> None:
    """Both errors name what was awaited."""
    until(lambda: True, 0.0, "nothing")
    with pytest.raises(BenchFailed, match="in vain for the answer"):
        until(lambda: False, 0.0, "the answer", every_s=0.001)
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(BenchFailed, match="ended with code 3 before the answer"):
        until(lambda: False, 60.0, "the answer", process=ended)


def test_an_incomplete_last_line_is_left_out(tmp_path: Path) -> None:
    """A file that does not exist has no lines."""
    path = tmp_path / "log"
    assert whole_lines(path) == []
    path.write_text("a\nb\nc")
    assert whole_lines(path) == ["a\n", "b\n"]


def test_a_line_that_a_full_disk_cut_is_left_out(tmp_path: Path) -> None:
    """Also when it was cut inside a character."""
    path = tmp_path / "log"
    path.write_bytes(b'{"a": 1}\n{"a": "\xc3\n{"a": 2}\n3\n')
    assert list(objects(whole_lines(path))) == [{"a": 1}, {"a": 2}]
