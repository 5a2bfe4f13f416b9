"""The program `twinship`: runs a command, prints one line for any error, and sets the exit code."""

from __future__ import annotations

import io
import os
import signal
import sys

from twinship.cli import doctor, figures, fleet, local, model, monitor, package, project
from twinship.cli.options import EXIT_INTERRUPTED, app
from twinship.cli.show import warn

__all__ = ["app", "doctor", "figures", "fleet", "local", "main", "model", "monitor", "package", "project"]


def _one_line(error: Exception) -> str:
    """The text of an error. The type of a foreign error is named too."""
    format_message = getattr(error, "format_message", None)  # Typer's: with the name of the option
    text = " ".join((format_message() if format_message else str(error)).split())
    ours = {"twinship", "twinship_training", "inference", "camera_sim", "dashboard", "edgekit", "typer"}
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
    _open_outputs()
    try:
        code = app(standalone_mode=False, prog_name="twinship")
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        code = _give_up_stdout()
    except Exception as error:
        if debug:
            raise
        warn(f"twinship: {_one_line(error)}")
        code = getattr(error, "exit_code", 1)
        if isinstance(error, OSError):
            _give_up_stdout()
    if code == EXIT_INTERRUPTED:
        warn("twinship: interrupted")
    sys.exit(code or 0)


def _open_outputs() -> None:
    """Make both outputs usable: what their encoding lacks is escaped, and a closed stdout is an error."""
    if sys.stderr is None:  # else `print` would write errors to stdout
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (open as long as the process runs)
    if sys.stdout is None:
        warn("twinship: stdout is closed; cure: redirect it to a file or to /dev/null")
        sys.exit(1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _give_up_stdout() -> int:
    """Discard what stdout could not write, so that the end of the process does not try it again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    main()
