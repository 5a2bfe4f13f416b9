"""Replaces itself by a program that dies with its parent: `child.py PARENT_PID PROGRAM ARGUMENT...`.

It calls prctl in the child before exec, because a preexec_fn is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replace this process by the program; exit if the parent has already ended."""
    parent, command = int(arguments[0]), arguments[1:]
    # The kernel sends it when the thread that started us ends; that thread outlives its children.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
