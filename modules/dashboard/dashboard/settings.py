"""The dashboard's settings: environment variables, read once."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgekit.environment import variable

PORT: Final = 8780
LISTEN: Final = f"127.0.0.1:{PORT}"
KEPT_IN: Final = "dashboard.token"
MIN_TOKEN: Final = 16
CAMERA: Final = "camera_sim"
INFERENCE: Final = "inference"
CERTIFICATE, KEY = "DASHBOARD_CERTIFICATE", "DASHBOARD_KEY"

_LISTEN = re.compile(r"(?P<address>[0-9.]+|\[[0-9a-fA-F:.]+\]|localhost):(?P<port>[0-9]{1,5})")
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_MODULE = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class SettingsError(ValueError):
    """An environment variable is invalid. The text names the variable and the cure."""


@dataclass(frozen=True)
class DashboardEnvironment:
    """The dashboard's environment variables."""

    address: str
    port: int
    hosts: frozenset[str]
    token: str | None = field(repr=False)  # None: not needed
    token_file: Path | None = None  # where the token lies if the dashboard made it
    health_file: Path | None = None
    camera: str = CAMERA  # the module that is asked for previews, pause, resume and rate
    inference: str = INFERENCE  # the module that is asked for a rollback
    tls: ssl.SSLContext | None = None  # None: HTTP

    @property
    def url(self) -> str:
        """The page's address."""
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}/"

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> DashboardEnvironment:
        """Read from the process's variables; may write a new token. Raises SettingsError."""
        address, port = _listen(variable(environment, "DASHBOARD_LISTEN") or LISTEN)
        token, token_file = _token(environment, address)
        health_file = environment.get("HEALTH_FILE")
        return cls(
            address,
            port,
            _hosts(variable(environment, "DASHBOARD_HOSTS"), address),
            token,
            token_file,
            Path(health_file) if health_file else None,
            _module(environment, "DASHBOARD_CAMERA", CAMERA),
            _module(environment, "DASHBOARD_INFERENCE", INFERENCE),
            _tls(environment),
        )


def _listen(text: str) -> tuple[str, int]:
    match = _LISTEN.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        address = match["address"].strip("[]")
        address = "127.0.0.1" if address == "localhost" else str(ipaddress.ip_address(address))
        if (port := int(match["port"])) > 65_535:
            raise ValueError
    except ValueError:
        raise SettingsError(f"DASHBOARD_LISTEN={text!r}: cure: address:port, such as {LISTEN}") from None
    return address, port


def _hosts(text: str, address: str) -> frozenset[str]:
    names = [each.strip().lower() for each in text.split(",") if each.strip()]
    for name in names:
        if not _HOST.fullmatch(name):
            raise SettingsError(f"DASHBOARD_HOSTS: {name!r}: cure: names without port, between commas")
    if not ipaddress.ip_address(address).is_unspecified:
        names.append(address)
    return frozenset(names)


def _module(environment: Mapping[str, str], given: str, default: str) -> str:
    name = variable(environment, given) or default
    if not _MODULE.fullmatch(name):
        raise SettingsError(f"{given}={name!r}: cure: the name of a module of this device, such as {default}")
    return name


def _tls(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """From the PEM files of DASHBOARD_CERTIFICATE and DASHBOARD_KEY; None without both."""
    files = {name: variable(environment, name) for name in (CERTIFICATE, KEY)}
    if not any(files.values()):
        return None
    for name, path in files.items():
        _check_readable(name, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files[CERTIFICATE], files[KEY], password=_no_password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise SettingsError(
            f"{CERTIFICATE}, {KEY}: {getattr(error, 'reason', None) or error}; "
            "cure: PEM files of a certificate with its chain, and of its key without a password"
        ) from error
    return context


def _check_readable(name: str, path: str) -> None:
    """Raise SettingsError: the errors of OpenSSL do not say which file they mean."""
    if not path:
        raise SettingsError(f"{name}: missing; cure: name both files, {CERTIFICATE} and {KEY}, or neither")
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise SettingsError(
            f"{name}: {path}: {error.strerror or 'unusable'}; cure: a file that the module may read"
        ) from error


def _no_password() -> str:
    """OpenSSL would ask at the terminal."""
    raise ValueError("the key has a password")


def _token(environment: Mapping[str, str], address: str) -> tuple[str | None, Path | None]:
    """DASHBOARD_TOKEN, else nothing on loopback, else the one in DATA_FOLDER, which is made if needed."""
    if token := variable(environment, "DASHBOARD_TOKEN"):
        if len(token) < MIN_TOKEN:
            raise SettingsError(f"DASHBOARD_TOKEN: too short; cure: {MIN_TOKEN} characters or more")
        return token, None
    if ipaddress.ip_address(address).is_loopback:
        return None, None
    path = Path(environment.get("DATA_FOLDER") or ".") / KEPT_IN
    try:
        return kept_token(path), path
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror or 'unusable'}; cure: set DASHBOARD_TOKEN, "
            "or a DATA_FOLDER that the module may write to"
        ) from error


def kept_token(path: Path) -> str:
    """The token in this file; a new one if there is none. Only the owner may read it. Raises OSError."""
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        token = path.read_text(errors="replace").strip()
        if len(token) >= MIN_TOKEN:
            return token
        made = os.open(path, os.O_WRONLY | os.O_TRUNC)  # a full disk left it empty
    token = secrets.token_urlsafe(32)
    with os.fdopen(made, "w") as file:
        file.write(token + "\n")
    return token
