"""The process that fuzzes one target: `python -m tests.fuzz.process NAME [-option ...] [FILE ...]`.

The options are libFuzzer's. With FILE it runs only these inputs. atheris ends the process, with a code other
than 0 after a finding.
"""

from __future__ import annotations

import logging
import signal
import sys

import atheris

from tests.fuzz.mutate import mutated
from tests.fuzz.planted import PLANTED
from tests.fuzz.targets import TARGETS


def main(name: str, options: list[str]) -> None:
    """Instrument the parser, then run until a limit or a finding."""
    logging.disable(logging.WARNING)  # the simulator logs what it refuses
    target = (TARGETS | PLANTED)[name]
    with atheris.instrument_imports(include=list(target.instrument)):
        case, promised = target.prepare()
    instrumented = atheris.instrument_func(case)

    def one_input(data: bytes) -> None:
        try:
            instrumented(data)
        except promised:
            return
        except Exception:
            # No more alarms of libFuzzer: one that comes while the interpreter ends kills the process before
            # the input is written.
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        changed = mutated(data, seed) if seed % 2 else None
        return atheris.Mutate(data, max_bytes) if changed is None else changed[:max_bytes]

    atheris.Setup([name, *options], one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
