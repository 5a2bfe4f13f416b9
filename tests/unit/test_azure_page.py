"""docs/azure.md: each block names the test that runs it, or none; each twinship command in it exists."""

from __future__ import annotations

import ast
import re
import shlex

import pytest

from tests.azure_page import ROOT, Block, blocks
from tests.unit.twinship.cli.command import PROGRAM

#: Every command line of `twinship` on the page.
COMMANDS = [line for block in blocks() for line in block.lines if line.startswith("twinship ")]


def parse(line: str) -> None:
    """Parse command and options of `twinship …` without running it; raises KeyError or typer's errors."""
    words = shlex.split(line.split(" > ")[0])[1:]
    command = PROGRAM
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    _, left, _ = command.make_parser(command.context_class(command)).parse_args(words)
    if left:
        raise KeyError(f"one word too many: {left[0]}")


def test_every_block_has_a_mark_and_every_named_test_runs_it() -> None:
    """A block is run by a test that exists and reads the page, or it says that nobody ran it."""
    assert len(blocks()) > 10
    for block in blocks():
        assert block.mark, f"no mark above: {block.lines[0]}"
        if block.test is None:
            continue
        path, name = block.test.split("::")
        tree = ast.parse((ROOT / path).read_text())
        assert name in {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}, block.test


def test_a_block_that_is_run_has_nothing_but_twinship() -> None:
    """No test of this project has an Azure account: a line of az, docker or apt is never marked as run."""
    for block in blocks():
        if block.test is not None:
            assert all(line.startswith("twinship ") for line in block.lines), block.lines


@pytest.mark.parametrize("line", COMMANDS)
def test_every_twinship_command_of_the_page_parses(line: str) -> None:
    """Command and options exist."""
    parse(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("twinship ship model.tflite", "ship"),
        ("twinship deploy --everywhere", "--everywhere"),
        ("twinship keys show now", "one word too many: now"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, expected: str) -> None:
    """The counter-proof of the parser."""
    with pytest.raises(Exception, match=expected):
        parse(line)


def test_a_block_without_a_mark_is_found() -> None:
    """The counter-proof of the marks: text between mark and block, or none at all."""
    fence = "```sh\ntwinship status\n```\n"
    (without,) = blocks(f"Look:\n\n{fence}")
    (run,) = blocks(f"▶ `tests/a.py::test_b`\n\n{fence}")
    (not_run,) = blocks(f"✋ not run here\n\n{fence}")
    assert without == Block("", None, ("twinship status",))
    assert run.test == "tests/a.py::test_b"
    assert (not_run.mark, not_run.test) == ("✋", None)


def test_the_password_of_the_registry_and_keys_are_in_no_command() -> None:
    """A secret on a command line is in the shell's history."""
    for block in blocks():
        for line in block.lines:
            assert not re.search(r"--password[ =]|SharedAccessKey=|--login ", line), line
