"""The Typer application, and the options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from twinship.cli import checks
from twinship.project import MANIFEST, chosen_manifest

if TYPE_CHECKING:
    from twinship.fleet.connection import Connection

EXIT_INTERRUPTED = 130
BUILD = Path("build")
SIMULATOR = BUILD / "simulator"
DEMO_MODELS = BUILD / "demo-models"
Choice = TypeVar("Choice", bound=StrEnum)
DOT_ENV = Path(".env")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Train an image model, ship it to an IoT Edge device by module twin, measure every millisecond.",
)

PATH = "<path>"


def path_option(check: Callable[[str | Path], Path | None], help: str, *names: str) -> Any:
    """An option for a path; `names` replace the name of the parameter."""
    return typer.Option(*names, parser=check, metavar=PATH, help=help)


EnvFile = Annotated[
    Path,
    path_option(
        checks.file_to_read(checks.MAX_TEXT_BYTES, optional=True),
        "File of KEY=VALUE lines: .env or the simulator's service.env.",
        "--env-file",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(callback=checks.device_name, help="Edge device [EDGE_DEVICE_ID, else twinship]."),
]
Module = Annotated[str, typer.Option(callback=checks.module_name, help="Name of the module.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _manifest(text: str) -> Path:
    return checks.file_to_read(checks.MAX_TEXT_BYTES)(str(chosen_manifest(Path(text))))


Template = Annotated[
    Path | None,
    typer.Option(
        parser=_manifest,
        metavar=PATH,
        help="Deployment manifest.",
        show_default=f"./{MANIFEST}, else Twinship's own",
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--key", callback=checks.filled, help="Id of the signing key, if there are several."),
]
Fleet = Annotated[
    str | None,
    typer.Option(
        "--deployment", callback=checks.filled, help="Id of an automatic deployment, for many devices."
    ),
]
Condition = Annotated[
    str, typer.Option("--target-condition", help="The devices, as \"tags.site='lab'\"; '*': all.")
]
Dataset = Annotated[
    str,
    typer.Option(
        callback=checks.filled,
        help="mnist, fashion_mnist, digits, folder:PATH, npz:FILE; auto: MNIST if available, else digits.",
    ),
]


def choice_of(kind: type[Choice], option: str, value: str | None) -> Choice | None:
    """The member of `kind` with this value. The option has no choices, so --help need not import `kind`."""
    try:
        return None if value is None else kind(value)
    except ValueError:
        raise typer.BadParameter(f"{option} {value}: use {' or '.join(kind)}") from None


def refuse_condition_alone(deployment: str | None, condition: str) -> None:
    """Raise BadParameter for a target condition without --deployment: it would not be applied."""
    if condition and deployment is None:
        raise typer.BadParameter("--target-condition needs --deployment, the id of an automatic deployment")


def hub_of(env_file: Path) -> Connection:
    from twinship.fleet import connection

    return connection.find(os.environ, env_file)


def device_of(device: str | None, env_file: Path) -> str:
    from twinship.fleet import connection

    return device or connection.device_name(os.environ, env_file)
