"""Becomes another program that dies with its parent. Run by path: `child.py PARENT_PID PROGRAM ARGUMENT...`.

prctl before exec, in the child itself: a preexec_fn is not safe in a process with threads. Does nothing else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replace this process by the program; a parent that is gone already is followed at once."""
    parent, command = int(arguments[0]), arguments[1:]
    # sent when the thread that started us ends; the agent's lives until its children have ended
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
