"""The command starts quickly: no heavy package is imported before a command needs it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

HELP = [sys.executable, "-m", "twinship", "status", "--help"]
HEAVY = {"tensorflow", "keras", "azure", "uamqp", "numpy", "aiohttp", "cryptography", "twinship_training"}


def test_help_loads_neither_tensorflow_nor_an_sdk(tmp_path: Path) -> None:
    """`twinship status --help` imports every module of the command line and nothing heavy."""
    program = (
        "import sys\nfrom twinship.__main__ import main\nsys.argv[1:] = ['status', '--help']\n"
        "try:\n    main()\nfinally:\n    print(*{name.split('.')[0] for name in sys.modules})\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    loaded = output.splitlines()[-1].split()
    assert "typer" in loaded
    assert not HEAVY & set(loaded)


def test_help_takes_under_half_a_second(tmp_path: Path) -> None:
    """`twinship status --help`: processor time, the best of three, so that a busy machine does not count."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(HELP, cwd=tmp_path, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5, seconds
