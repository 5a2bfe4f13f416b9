"""What a verb prints."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import twinship.__main__ as twinship
from twinship.cli.show import draw


def test_a_table_shows_what_others_named_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A label or a path in square brackets is neither markup nor an error."""
    draw(("file", "label"), [("pics/[/x]/a.png", "[bold]"), ("b.png", "[cat]")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["file", "label"],
        ["pics/[/x]/a.png", "[bold]"],
        ["b.png", "[cat]"],
    ]


@pytest.mark.parametrize("fps", ["0", "-1", "nan", "1e9"])
def test_the_demo_refuses_a_rate_that_no_camera_takes(fps: str) -> None:
    """Before anything is trained; the line names the option."""
    result = CliRunner().invoke(twinship.app, ["demo", "--fps", fps], standalone_mode=False)
    assert "--fps" in str(result.exception)
    assert "use 0.001 to 100000 frames in a second" in str(result.exception)
