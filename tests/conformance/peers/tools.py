"""iotedgehubdev and iotedgedev in their own environment, installed once from PyPI into build/tools."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

REQUIREMENTS = ("iotedgehubdev==0.14.19", "iotedgedev==3.3.9")
FOLDER = Path(__file__).parents[3] / "build" / "tools"
INSTALL_WITHIN_S = 600
PATIENCE_S = 120
# The folders with the settings of the tools, which switch their usage reports off.
SETTINGS = (".iotedgehubdev/config/setting.ini", ".iotedgedev/setting.ini")
NO_TELEMETRY = "[DEFAULT]\nfirsttime = no\ncollect_telemetry = no\n"


def installed() -> Path:
    """The folder with the programs; skips the test if they cannot be installed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    ready = FOLDER / "ready.txt"
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest's workers call this at the same time
        if not ready.exists() or ready.read_text() != "\n".join(REQUIREMENTS):
            _install()
            ready.write_text("\n".join(REQUIREMENTS))
    return FOLDER / "bin"


def _install() -> None:
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    command = [str(FOLDER / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False)
    if ended.returncode:
        pytest.skip(f"the tools cannot be installed: {(ended.stderr.splitlines() or ['?'])[-1]}")


def run_tool(
    home: Path,
    *command: str,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = PATIENCE_S,
) -> str:
    """Run a tool in its own home folder without usage telemetry; returns its output."""
    for settings in SETTINGS:
        path = home / settings
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(NO_TELEMETRY)
    bin_folder = installed()
    locale = {name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ}
    ended = subprocess.run(
        [str(bin_folder / command[0]), *command[1:]],
        cwd=cwd,
        env={**locale, "HOME": str(home), "PATH": f"{bin_folder}:/usr/bin:/bin", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout
