"""Runs a command of the program in this process, and knows all commands with their options."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import typer.main

import twinship.__main__ as twinship
from twinship.fleet import FleetError


class ReachedTheWork(FleetError):
    """A command has checked its options and begins its work."""


PROGRAM: Any = typer.main.get_command(twinship.app)  # once: Typer makes it anew at each call of `app`


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def reached(self) -> bool:
        """Whether its work began: it succeeded, or a stand-in of its work was called."""
        return self.code == 0 or "ReachedTheWork" in self.err


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> Done:
    """Run `twinship …` as the program does, errors included."""
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["twinship", *words])
    monkeypatch.setattr(twinship, "app", PROGRAM)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            twinship.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    code = end.value.code
    assert not isinstance(code, str), "Python would print this text unchecked"
    found = capsys.readouterr()
    return Done(code or 0, found.out, found.err)


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, list[Any]]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _walk(inner, (*path, name))
    else:
        yield " ".join(path), list(command.params)


#: Each command with its parameters.
COMMANDS: dict[str, list[Any]] = dict(_walk(PROGRAM, ()))
