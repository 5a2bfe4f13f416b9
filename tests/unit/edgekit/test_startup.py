"""edgekit.startup: the first instructions of a module, in a process of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SLOW_IMPORTS = "import time; {begin}; print('importing', flush=True); time.sleep(60)"
BEGIN = "from edgekit import startup; startup.begin('module')"


def ended_by_sigterm(begin: str) -> int:
    """The exit status of a process that gets SIGTERM while it imports."""
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_IMPORTS.format(begin=begin)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RuntimeLogLevel": "info"},
    ) as process:
        assert process.stdout is not None
        while "importing" not in (line := process.stdout.readline()):
            assert json.loads(line)["event"] == "starting"
        process.send_signal(signal.SIGTERM)
        return process.wait(10)


def test_sigterm_during_the_imports_ends_the_module_with_status_0() -> None:
    """Docker would wait ten seconds for a process 1 without a handler."""
    assert ended_by_sigterm(BEGIN) == 0


def test_without_startup_the_default_action_ends_the_process() -> None:
    """Counter-proof: status 0 comes from the handler."""
    assert ended_by_sigterm("pass") == -signal.SIGTERM


@pytest.mark.parametrize("module", ["camera_sim", "dashboard", "inference"])
def test_a_module_listens_before_it_imports_anything_else(module: str) -> None:
    """The first two statements of its `__main__` are the import of `startup` and the call."""
    text = (ROOT / "modules" / module / module / "__main__.py").read_text()
    code = [line for line in text.split('"""\n', 1)[1].splitlines() if line and "__future__" not in line]
    assert code[0] == "from edgekit import startup"
    assert code[1].startswith(f'startup.begin("{module}")')
