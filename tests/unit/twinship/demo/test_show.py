"""The terminal output of the demo."""

from __future__ import annotations

import io

from rich.console import Console

from twinship.demo.report import Summary, Version
from twinship.demo.show import Live, Screen


def test_a_step_prints_a_path_unchanged() -> None:
    """Square brackets in a path are not markup."""
    output = io.StringIO()
    Screen(Console(file=output, width=100)).step("data: pictures of /p/[/x]/[bold]")
    assert output.getvalue() == "▸ data: pictures of /p/[/x]/[bold]\n"


def test_the_summary_shows_no_character_that_a_terminal_obeys() -> None:
    """The names of models come from messages of the device."""
    hostile = "digits\x1b[2J\r\nforged\u202e"
    versions = {hostile: Version(1, None, hostile, hostile)}
    summary = Summary(hostile, 1, 1, 0, 0, 0, 0, None, {}, versions)
    output = io.StringIO()
    screen = Screen(Console(file=output, width=400))
    screen.step(hostile)
    screen.live(Live(1, hostile, None))
    screen.summary(summary, [hostile])
    shown = output.getvalue()
    assert shown.count("digits\\x1b[2J\\r\\nforged\\u202e") >= 5
    assert [each for each in shown if each != "\n" and not each.isprintable()] == []
