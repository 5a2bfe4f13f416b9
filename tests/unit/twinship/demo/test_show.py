"""The terminal output of the demo."""

from __future__ import annotations

import io

from rich.console import Console

from twinship.demo.show import Screen


def test_a_step_prints_a_path_unchanged() -> None:
    """Square brackets in a path are not markup."""
    output = io.StringIO()
    Screen(Console(file=output, width=100)).step("data: pictures of /p/[/x]/[bold]")
    assert output.getvalue() == "▸ data: pictures of /p/[/x]/[bold]\n"
