"""The program `twinship`: runs a command, prints one line for any error, and sets the exit code."""

from __future__ import annotations

import signal
import sys

from twinship.cli import figures, fleet, local, model, project
from twinship.cli.options import EXIT_INTERRUPTED, app

__all__ = ["app", "figures", "fleet", "local", "main", "model", "project"]


def _one_line(error: Exception) -> str:
    """The text of an error. The type of a foreign error is named too."""
    text = " ".join(str(error).split())
    ours = {"twinship", "twinship_training", "inference", "camera_sim", "edgekit", "typer"}
    if type(error).__module__.split(".")[0] in ours:
        return text
    return f"{type(error).__name__}: {text} (twinship --debug … shows the traceback)"


def main() -> None:
    """Run a command. The exit code is 0 only on success, and 130 after Ctrl-C.

    An error is one line on stderr; a traceback appears only with `--debug` before the command.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # exits every `with` block
    debug = "--debug" in sys.argv[1:2]
    if debug:
        del sys.argv[1]
    try:
        code = app(standalone_mode=False, prog_name="twinship")
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:
        if debug:
            raise
        print(f"twinship: {_one_line(error)}", file=sys.stderr)
        code = getattr(error, "exit_code", 1)
    if code == EXIT_INTERRUPTED:
        print("twinship: interrupted", file=sys.stderr)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
