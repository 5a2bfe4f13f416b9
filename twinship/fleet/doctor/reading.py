"""The shell of `twinship doctor`: reads the files of a project, and asks the hub."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

from twinship.fleet import FleetError
from twinship.fleet.connection import Connection, NotConfigured, read_env_file
from twinship.fleet.doctor.own_modules import MAX_BODY_BYTES
from twinship.fleet.doctor.project import EnvFile, HubAnswer, Pictures, Project
from twinship.fleet.service import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    HubRefused,
    HubUnavailable,
    NotFound,
    PreconditionFailed,
    ServiceHub,
    translated,
)

MAX_TEXT_BYTES = 1_048_576
MAX_MODEL_BYTES = 33_554_432
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
_NO_ETAG = "twinship-doctor"  # no twin has it: the hub checks the right to write, and writes nothing
#: HTTP status of a refused request → the rule.
_STATUS = {401: "TW503", 403: "TW504"}


class CannotExamine(FleetError):
    """A file that the operator named cannot be read."""


def read_project(
    template: Path,
    env_file: Path,
    environment: Mapping[str, str],
    *,
    defaults: Mapping[str, str] | None = None,
    model: Path | None = None,
    pictures: Path | None = None,
) -> Project:
    """Read everything around one manifest. Raises CannotExamine, NotConfigured.

    `defaults`: variables that neither the file nor the environment sets.
    """
    variables = {**(defaults or {}), **read_env_file(env_file), **environment}
    return Project(
        file=str(template),
        manifest=_text(template),
        environment=variables,
        env=_env(env_file),
        modules={
            path.parent.name: _text(path) for path in sorted(template.parent.glob("modules/*/module.json"))
        },
        exists=os.path.exists,
        model=None if model is None else (str(model), _bytes(model, MAX_MODEL_BYTES)),
        pictures=None if pictures is None else _pictures(pictures),
    )


def _env(path: Path) -> EnvFile | None:
    if not path.exists():
        return None
    shared = bool(stat.S_IMODE(path.stat().st_mode) & (stat.S_IRGRP | stat.S_IROTH))
    return EnvFile(str(path), _text(path), shared)


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise CannotExamine(f"{path} cannot be read: {error.strerror}; cure: check the path") from None
    if len(data) > limit:
        raise CannotExamine(f"{path} has more than {limit:,} bytes; cure: name another file")
    return data


def _text(path: Path) -> str:
    try:
        return _bytes(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        cause = f"{path} is not UTF-8 at byte {error.start}; cure: save it as UTF-8"
        raise CannotExamine(cause) from None


def _pictures(folder: Path) -> Pictures:
    """Count the pictures, and find the first one that is too large as a file or as raw pixels."""
    count = 0
    too_large: dict[str, tuple[str, int]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _SUFFIXES or not path.is_file():
            continue
        count += 1
        for encoding, size in (("as_is", path.stat().st_size), ("raw", _raw_bytes(path))):
            if size > MAX_BODY_BYTES:
                too_large.setdefault(encoding, (path.name, size))
    return Pictures(str(folder), count, too_large)


def _raw_bytes(path: Path) -> int:
    """Height x width x channels as the camera sends them, 0 for a picture that cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            channels = 1 if image.mode in ("1", "L", "I", "I;16", "F") else 3
            return image.width * image.height * channels
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0


def ask_hub(connection: Connection, device: str, now: Callable[[], float] = time.time) -> HubAnswer:
    """Compare the clocks, then try a read and a write that changes nothing. Raises nothing."""
    ahead_s = None
    try:
        ahead_s = _ahead(connection, now)
        with ServiceHub(connection) as hub:
            hub.modules(device)
            hub.patch_desired(device, "$edgeAgent", {}, _NO_ETAG)
    except PreconditionFailed:
        return HubAnswer(ahead_s)
    except NotFound as error:
        return HubAnswer(ahead_s, "TW505", str(error))
    except HubUnavailable as error:
        return HubAnswer(ahead_s, "TW501", str(error))
    except HubRefused as error:
        return HubAnswer(ahead_s, _STATUS.get(error.status, "TW501"), str(error))
    except NotConfigured as error:
        return HubAnswer(ahead_s, "TW506", str(error))
    return HubAnswer(ahead_s)


def _ahead(connection: Connection, now: Callable[[], float]) -> float | None:
    """Seconds that this machine's clock is ahead of the Date header of the hub; None without the header."""
    import requests

    with requests.Session() as session:
        session.trust_env = not connection.loopback
        try:
            answer = session.get(
                f"https://{connection.host}/",
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                verify=str(connection.ca_bundle) if connection.ca_bundle else True,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise translated(error, connection, "hub") from None
    try:
        return now() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None
