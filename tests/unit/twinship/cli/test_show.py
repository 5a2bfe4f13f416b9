"""The output of commands."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

import twinship.__main__ as twinship
from twinship.cli.show import draw
from twinship.project import DASHBOARD_MANIFEST, MANIFEST


def test_a_table_shows_square_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    """A label or a path with square brackets is neither markup nor an error."""
    draw(("file", "label"), [("pics/[/x]/a.png", "[bold]"), ("b.png", "[cat]")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["file", "label"],
        ["pics/[/x]/a.png", "[bold]"],
        ["b.png", "[cat]"],
    ]


@pytest.mark.parametrize("fps", ["0", "-1", "1e9"])
def test_the_demo_refuses_a_rate_out_of_range(fps: str) -> None:
    """The error names the option, and comes before anything is trained."""
    result = CliRunner().invoke(twinship.app, ["demo", "--fps", fps], standalone_mode=False)
    assert "--fps" in str(result.exception)
    assert "use 0.001 to 100000 frames per second" in str(result.exception)


def test_open_needs_a_manifest_with_the_dashboard() -> None:
    """It is found before a training, and the cure is named."""
    result = CliRunner().invoke(
        twinship.app, ["demo", "--open", "--template", MANIFEST], standalone_mode=False
    )
    assert isinstance(result.exception, typer.BadParameter)
    assert f"cure: --template {DASHBOARD_MANIFEST}" in str(result.exception)


def test_no_line_of_the_list_of_commands_is_cut_off() -> None:
    """`twinship --help` shows each command's first sentence whole; a line that is cut off ends in `...`."""
    output = CliRunner().invoke(twinship.app, ["--help"], env={"COLUMNS": "80"}).output
    commands = output[output.index("Commands:") :].splitlines()[1:]
    assert len(commands) >= 16
    assert [line for line in commands if not line.endswith(".") or line.endswith("...")] == []
