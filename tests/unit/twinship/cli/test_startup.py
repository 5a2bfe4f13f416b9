"""The command starts quickly: no heavy package is imported before a command needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "aiohttp",
    "ai_edge_litert",
    "asyncio",
    "azure",
    "camera_sim",
    "cryptography",
    "edgekit",
    "inference",
    "keras",
    "matplotlib",
    "numpy",
    "paho",
    "PIL",
    "requests",
    "rich",
    "sklearn",
    "sqlite3",
    "ssl",
    "tensorflow",
    "tflite_runtime",
    "twinship.bench",
    "twinship.demo",
    "twinship.fleet",
    "twinship.simulator",
    "twinship_training",
    "uamqp",
}
PROGRAM = """
import sys
from twinship.__main__ import main
sys.argv[1:] = {words}
try:
    main()
finally:
    print(*sys.modules)
"""


def loaded(folder: Path, *words: str) -> set[str]:
    """The modules that are loaded when `twinship …` ends, and the packages that they belong to."""
    program = PROGRAM.format(words=list(words))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, check=True, capture_output=True, text=True
    )
    names = done.stdout.splitlines()[-1].split()
    return {".".join(name.split(".")[:depth]) for name in names for depth in (1, 2)}


@pytest.mark.parametrize("words", [["--help"], ["status", "--help"], ["train", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    """Help imports every module of the command line, but no SDK, no numpy, no TensorFlow and no package."""
    found = loaded(tmp_path, *words)
    assert {"typer", "twinship.cli"} <= found
    assert HEAVY & found == set()


def test_a_command_loads_what_it_needs(tmp_path: Path) -> None:
    """Counter-proof: the same look finds the packages of a command that runs."""
    found = loaded(tmp_path, "advise", "--fps", "1", "--max-latency-ms", "1000", "--bandwidth", "2Mbit")
    assert {"inference", "rich", "twinship.bench"} <= HEAVY & found
    assert "twinship.simulator" not in found
