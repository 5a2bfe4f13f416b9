"""Which core a module keeps to; each in a process of its own, whose threads inherit it."""

import os
import subprocess
import sys

import pytest

from edgekit.cpu_affinity import ANY, GIVEN

SCRIPT = """
import os, sys, threading
from edgekit import cores, log
log.setup("test")
cores.keep_to_one(int(sys.argv[1]), sys.argv[2] or None)
say = lambda: sys.stderr.write(f"{sorted(os.sched_getaffinity(0))} {sorted(cores.GIVEN)}")
thread = threading.Thread(target=say)
thread.start()
thread.join()
"""
ALL = sorted(GIVEN)


def kept(default: int, named: str = "") -> tuple[str, str]:
    """What a thread that starts afterwards runs on and what was given; the log."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(default), named], capture_output=True, text=True, check=True
    )
    return ended.stderr.strip(), ended.stdout


@pytest.mark.parametrize(
    ("default", "named", "core"),
    [(0, "", ALL[0]), (-1, "", ALL[-1]), (len(ALL), "", ALL[0]), (0, str(ALL[-1]), ALL[-1])],
)
def test_a_module_keeps_to_one_core(default: int, named: str, core: int) -> None:
    """The one of its own choice, or of the deployment's; what was given is still known."""
    assert kept(default, named) == (f"[{core}] {ALL}", "")


def test_any_leaves_it_to_the_system() -> None:
    """For a device whose cores are somebody else's to share out."""
    assert kept(0, ANY) == (f"{ALL} {ALL}", "")


@pytest.mark.parametrize("named", ["all", "-1", "1.5", str(max(os.cpu_count() or 1, 999))])
def test_a_core_that_is_none_is_named(named: str) -> None:
    """A module does not die of it."""
    found, said = kept(0, named)
    assert found == f"{ALL} {ALL}"
    assert f"MODULE_CORE={named}: cure: one of {ALL[0]}" in said
