"""The screen of the demo."""

from __future__ import annotations

import io

from rich.console import Console

from twinship.demo.show import Screen


def test_a_step_says_a_path_as_it_is() -> None:
    """A folder in square brackets is neither markup nor an error."""
    said = io.StringIO()
    Screen(Console(file=said, width=100)).step("data: pictures of /p/[/x]/[bold]")
    assert said.getvalue() == "▸ data: pictures of /p/[/x]/[bold]\n"
