"""stdout and stderr of the program: closed, full, in another encoding, or with a reader that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ADVISE = f"{sys.executable} -m twinship advise --fps 1 --max-latency-ms 1000 --bandwidth 2Mbit"


def shell(folder: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell, which can close a file before the program starts."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_table_goes_to_a_terminal_of_any_encoding(tmp_path: Path) -> None:
    """`PYTHONIOENCODING=ascii` shows what ASCII lacks as escape sequences."""
    plain = shell(tmp_path, ADVISE)
    ascii_only = shell(tmp_path, ADVISE, PYTHONIOENCODING="ascii")
    assert plain.returncode == ascii_only.returncode == 0, ascii_only.stderr
    assert not plain.stdout.isascii()
    assert ascii_only.stdout.isascii()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (f"{ADVISE} >&-", "stdout is closed"),
        (f"{ADVISE} >/dev/full", "No space left on device"),
        (f"{ADVISE} --json >/dev/full", "No space left on device"),
    ],
    ids=["closed", "full", "full-json"],
)
def test_an_output_that_cannot_be_written_is_an_error(tmp_path: Path, line: str, named: str) -> None:
    """One line on stderr, and an exit code that is not 0."""
    done = shell(tmp_path, line)
    assert done.returncode == 1
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_reader_that_ends_is_no_noise(tmp_path: Path) -> None:
    """As with `head`: the exit code is not 0, and nothing is written about it."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ADVISE.split(), cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""


def test_errors_do_not_go_to_stdout_if_stderr_is_closed(tmp_path: Path) -> None:
    """A script that reads JSON never reads an error in it."""
    done = shell(tmp_path, f"{sys.executable} -m twinship predict nothing.tflite a.png 2>&-")
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", "")
