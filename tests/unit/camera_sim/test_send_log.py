"""The send log on a disk that is full for a while, and its mode."""

import json
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from camera_sim.send_log import SendLog, Sent


def sent(*seqs: int) -> list[Sent]:
    """Frames that were sent."""
    return [Sent("camera", "00000000000000aa", seq, "grün", 1, 10) for seq in seqs]


def seqs(path: Path) -> list[int]:
    """The frames of the file's readable lines."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(json.loads(line)["seq"])
        except ValueError:
            continue
    return found


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond this size: writes end short, then fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_spoils_only_the_line_that_it_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next line begins after a line break; the failure is one log line."""
    path = tmp_path / "sent.jsonl"
    log = SendLog(path)
    log.append(sent(0), 2)
    with largest_file(path.stat().st_size + 30):
        log.append(sent(1), 2)
        log.append(sent(2), 2)
    log.append(sent(3), 2)
    log.append(sent(4, 5), 2)
    assert seqs(path) == [0, 3, 4, 5]
    assert len(path.read_bytes().splitlines()) == 5
    assert len(caplog.records) == 1


def test_a_new_process_ends_the_line_that_the_last_one_left(tmp_path: Path) -> None:
    """A complete last line stays as it is."""
    path = tmp_path / "sent.jsonl"
    SendLog(path).append(sent(0, 1), 2)
    path.write_bytes(path.read_bytes()[:-20])
    SendLog(path).append(sent(2), 2)
    SendLog(path).append(sent(3), 2)
    assert seqs(path) == [0, 2, 3]
    assert b"\n\n" not in path.read_bytes()


def test_the_send_log_is_private(tmp_path: Path) -> None:
    """Mode 0600, also for a file that an earlier version made."""
    for name in ("new", "old"):
        path = tmp_path / name
        if name == "old":
            path.touch(mode=0o644)
        SendLog(path).append(sent(0), 2)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
