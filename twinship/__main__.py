"""The one command: runs a verb, and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import signal
import sys

from twinship.cli import figures, fleet, local, model, project
from twinship.cli.options import EXIT_INTERRUPTED, app

__all__ = ["app", "figures", "fleet", "local", "main", "model", "project"]


def _one_line(error: Exception) -> str:
    """An error of ours, or of the command line, says by itself what is wrong; any other is named too."""
    text = " ".join(str(error).split())
    ours = {"twinship", "twinship_training", "inference", "camera_sim", "edgekit", "typer"}
    if type(error).__module__.split(".")[0] in ours:
        return text
    return f"{type(error).__name__}: {text} (twinship --debug … shows where)"


def main() -> None:
    """Run a verb. Exit code 0 only on success; one line on stderr else; 130 after Ctrl-C; never a traceback,
    unless `--debug` stands before the verb."""
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # with every `with` left in order
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
