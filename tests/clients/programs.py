"""The Node SDK as programs: installed once with `npm ci` from the committed lock file, which has hashes."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).with_name("node")
FOLDER = Path(__file__).parents[2] / "build" / "clients" / "node"
INSTALL_S = 300
#: npm's code for a package with other bytes than the lock file says. Without packages the tests are skipped.
_FORGED = "EINTEGRITY"


def node(script: str) -> tuple[str, ...]:
    """The command of a script in `node/`. Skips the test where node, npm or the registry is missing."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:  # another worker of pytest-xdist installs the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install()
    return "env", f"NODE_PATH={FOLDER / 'node_modules'}", "node", str(SOURCES / script)


def _install() -> None:
    names = ("package.json", "package-lock.json")
    wanted = hashlib.sha256(b"".join((SOURCES / name).read_bytes() for name in names)).hexdigest()
    installed = FOLDER / "installed"
    if installed.exists() and installed.read_text() == wanted:
        return
    for name in names:
        shutil.copy(SOURCES / name, FOLDER)
    if (failure := _npm_ci()) is not None:
        assert _FORGED not in failure, failure
        first = next((line for line in failure.splitlines() if line.strip()), "no reason")
        pytest.skip(f"npm cannot install the packages: {first[:200]}")
    installed.write_text(wanted)


def _npm_ci() -> str | None:
    """None, or what npm wrote when it failed."""
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    try:
        ended = subprocess.run(
            command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end after {INSTALL_S} s"
    return ended.stderr if ended.returncode else None
