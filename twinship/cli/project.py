"""init: the files of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinship import project
from twinship.cli.checks import folder_to_write
from twinship.cli.options import app
from twinship.cli.show import say


@app.command("init")
def init(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=folder_to_write,
            help="Made if it does not exist.",
            show_default="this folder",
        ),
    ] = Path(),
) -> None:
    """Write the files of a project into a folder."""
    for path in project.write(folder):
        say(str(path))
    say(f"next: install -m 600 {folder / '.env.example'} {folder / '.env'}, fill it in, then twinship deploy")
