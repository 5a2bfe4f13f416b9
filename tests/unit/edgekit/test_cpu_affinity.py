"""Pinning a module to one core; each case runs in its own process, whose new threads inherit the core."""

import os
import subprocess
import sys

import pytest

from edgekit.cpu_affinity import ALLOWED_CORES, ANY_CORE

SCRIPT = """
import os, sys, threading
from edgekit import cpu_affinity, log
log.setup("test")
cpu_affinity.pin_to_one_core(int(sys.argv[1]), sys.argv[2] or None)
cores = lambda: f"{sorted(os.sched_getaffinity(0))} {sorted(cpu_affinity.ALLOWED_CORES)}"
thread = threading.Thread(target=lambda: sys.stderr.write(cores()))
thread.start()
thread.join()
"""
ALL = sorted(ALLOWED_CORES)


def pinned(default: int, requested: str = "") -> tuple[str, str]:
    """The cores of a thread started after the call and the cores allowed before it; the log."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(default), requested], capture_output=True, text=True, check=True
    )
    return ended.stderr.strip(), ended.stdout


@pytest.mark.parametrize(
    ("default", "requested", "core"),
    [(0, "", ALL[0]), (-1, "", ALL[-1]), (len(ALL), "", ALL[0]), (0, str(ALL[-1]), ALL[-1])],
)
def test_a_module_runs_on_one_core(default: int, requested: str, core: int) -> None:
    """The core is the module's default or the one that the deployment requests."""
    assert pinned(default, requested) == (f"[{core}] {ALL}", "")


def test_any_leaves_the_cores_to_the_system() -> None:
    """`any` does not pin the module."""
    assert pinned(0, ANY_CORE) == (f"{ALL} {ALL}", "")


@pytest.mark.parametrize("requested", ["all", "-1", "1.5", str(max(os.cpu_count() or 1, 999))])
def test_an_unusable_core_is_logged_and_not_fatal(requested: str) -> None:
    """The module runs on all its cores, and the log lists the valid values."""
    cores, log = pinned(0, requested)
    assert cores == f"{ALL} {ALL}"
    assert f"MODULE_CORE={requested}: cure: one of {ALL[0]}" in log
