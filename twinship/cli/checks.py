"""Checks of options, made before a command begins: paths, numbers and names.

Each function is a `parser` or a `callback` of Typer: it returns the value, or raises CannotUse, and Typer
names the option. Nothing is created here.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import typer


class CannotUse(typer.BadParameter):
    """The value of an option cannot be used; the text names it and, where it is not obvious, the cure."""

    exit_code = 1


Parser = Callable[[str | Path], Path]

MAX_TEXT_BYTES = 1_048_576  # a manifest or an env file; the largest deployment that IoT Hub takes is smaller
MAX_MODEL_BYTES = 268_435_456
_CONSUMER_GROUP = re.compile(r"[A-Za-z0-9._-]{1,50}")
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*|\$root|\$web")


def file_to_read(limit: int, *, optional: bool = False) -> Parser:
    """A regular file of at most `limit` bytes; with `optional` it may be missing."""

    def check(value: str | Path) -> Path:
        path = _path(value)
        found = _stat(path)
        if found is None:
            if optional:
                return path
            raise CannotUse(f"{path} does not exist")
        _refuse_special(path, found)
        if found.st_size > limit:
            raise CannotUse(f"{path} has {found.st_size:,} bytes, {limit:,} are allowed")
        if not os.access(path, os.R_OK):
            raise CannotUse(f"{path} cannot be read; cure: check its permissions")
        return path

    return check


def file_to_follow(value: str | Path) -> Path:
    """A regular file of any size, or one that does not exist yet."""
    return file_to_read(2**63, optional=True)(value)


def file_to_write(value: str | Path) -> Path:
    """A regular file that can be replaced, or a new file in a folder that exists or can be made."""
    path = _path(value)
    found = _stat(path)
    if found is None:
        _refuse_unwritable(path.parent)
        return path
    _refuse_special(path, found)
    if not os.access(path, os.W_OK):
        raise CannotUse(f"{path} cannot be written; cure: check its permissions")
    return path


def file_or_folder(value: str | Path) -> Path:
    """Anything but a device, a pipe or a socket: `predict` names each file that it cannot read."""
    path = _path(value)
    found = _stat(path)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        _refuse_special(path, found)
    return path


def folder_to_read(value: str | Path) -> Path:
    """A folder, or a name without one. Not the root of the file system: nobody means all files."""
    path = _path(value)
    found = _stat(path)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise CannotUse(f"{path} is not a folder")
    if path.resolve() == Path(path.resolve().anchor):
        raise CannotUse(f"{path} is the root of the file system; cure: name a folder below it")
    return path


def folder_of_files(value: str | Path | None) -> Path | None:
    """A folder that exists."""
    if value is None:
        return None
    path = folder_to_read(value)
    if not path.exists():
        raise CannotUse(f"{path} does not exist")
    return path


def camera_source(text: str | None) -> tuple[str, Path | None]:
    """The camera's source as its twin takes it, and the folder of a `file:` or `folder:`; "" for None."""
    from camera_sim.sources.address import SourceError, parse_public
    from camera_sim.sources.table import check_installed

    if text is None:
        return "", None
    try:
        address = parse_public(text)
        check_installed(address)
    except SourceError as error:
        raise CannotUse(f"--camera-source: {error}") from error
    if address.scheme not in ("file", "folder"):
        return text, None
    path = Path(address.target).resolve()
    if not path.exists():
        raise CannotUse(f"--camera-source: {path} does not exist")
    return f"{address.scheme}:{path}", path.parent


def folder_to_write(value: str | Path) -> Path:
    """A folder for results, which exists or can be made."""
    path = folder_to_read(value)
    _refuse_unwritable(path)
    return path


def finite(value: float | None) -> float | None:
    """A number that is neither NaN nor infinite."""
    if value is not None and not math.isfinite(value):
        raise CannotUse(f"{value} is not a finite number")
    return value


def filled(value: str | None) -> str | None:
    """A text that is not empty."""
    if value is not None and not value.strip():
        raise CannotUse("is empty; cure: leave the option out, or name a value")
    return value


def container_name(value: str) -> str:
    """A name that Azure Blob Storage allows for a container."""
    if not _CONTAINER.fullmatch(value):
        raise CannotUse(f"{value!r} cannot be a container; cure: 3 to 63 of a-z, 0-9 and single hyphens")
    return value


def device_name(value: str | None) -> str | None:
    """A name that IoT Hub allows for a device."""
    return _identifier("device", value)


def module_name(value: str | None) -> str | None:
    """A name that IoT Hub allows for a module."""
    return _identifier("module", value)


def module_names(values: list[str] | None) -> list[str] | None:
    """Names that IoT Hub allows for modules."""
    for value in values or ():
        _identifier("module", value)
    return values


def consumer_groups(values: list[str] | None) -> list[str] | None:
    """Names that an Event Hub allows for consumer groups."""
    for value in values or ():
        if not _CONSUMER_GROUP.fullmatch(value):
            raise CannotUse(
                f"{value!r} is no consumer group; cure: 1 to 50 letters, digits, '.', '_' and '-'"
            )
    return values


def _identifier(kind: str, value: str | None) -> str | None:
    from twinship.fleet import connection

    if value is not None:
        try:
            connection.check_identifier(kind, value)
        except connection.NotConfigured as error:
            raise CannotUse(str(error)) from None
    return value


def _path(value: str | Path) -> Path:
    if not str(value):  # Path("") is the current folder
        raise CannotUse("the path is empty; cure: name a path")
    if "\0" in str(value):
        raise CannotUse("the path contains a NUL character")
    return Path(value)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CannotUse(f"{path} cannot be used ({error.strerror})") from None


def _refuse_special(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise CannotUse(f"{path} is a folder; cure: name a file")
    if not stat.S_ISREG(found.st_mode):
        raise CannotUse(f"{path} is not a regular file")


def _refuse_unwritable(folder: Path) -> None:
    """Raise CannotUse unless the folder, or the nearest one that exists above it, can be written."""
    nearest = folder
    while _stat(nearest) is None and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise CannotUse(f"{nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise CannotUse(f"{nearest} cannot be written; cure: check its permissions")
