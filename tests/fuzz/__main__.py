"""Fuzz targets from the command line: `python -m tests.fuzz route --seconds 30 --cases 20000 --seed 7`.

Without a name it lists the targets. `--input FILE` runs one input again, without atheris and with the whole
traceback. The exit code is 1 after a finding, or with fewer cases than wanted.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
from pathlib import Path

from tests.fuzz.campaign import fuzz
from tests.fuzz.planted import PLANTED
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Parse, run, print one line for each target."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Fuzz one parser, or several in turn."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*TARGETS, *PLANTED])
    parser.add_argument("--seconds", type=float, default=30.0, help="duration for each target (default 30)")
    parser.add_argument("--cases", type=int, default=0, help="run on, up to four times as long, for so many")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 2**32), help="default: random")
    parser.add_argument("--input", type=Path, help="run only this input, without atheris")
    asked = parser.parse_args()
    if not asked.names:
        print(*TARGETS, sep="\n")
        return 0
    if asked.input is not None:
        return max(_replay(name, asked.input) for name in asked.names)
    right = True
    for name in asked.names:
        result = fuzz(name, asked.seconds, asked.seed, asked.cases)
        print(result.line(), flush=True)
        if result.finding is not None:
            print(result.finding)
        right &= result.finding is None and result.cases >= asked.cases
    return 0 if right else 1


def _replay(name: str, file: Path) -> int:
    case, promised = (TARGETS | PLANTED)[name].prepare()
    with contextlib.suppress(*promised):
        case(file.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
