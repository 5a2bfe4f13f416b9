"""Finds the IoT Hub that the operator's settings name: environment, env file, connection string.

No error text contains a key.

>>> parse("HostName=hub.azure-devices.net;SharedAccessKeyName=owner;SharedAccessKey=a2V5", None, ".env")
Connection(host='hub.azure-devices.net', policy='owner', ca_bundle=None, source='.env')
>>> parse("HostName=hub.azure-devices.net;SharedAccessKeyName=owner", None, ".env")
Traceback (most recent call last):
twinship.fleet.connection.NotConfigured: IOTHUB_CONNECTION_STRING in .env has no SharedAccessKey; cure: ...
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinship.fleet import FleetError

CONNECTION_VARIABLE = "IOTHUB_CONNECTION_STRING"
CA_VARIABLE = "REQUESTS_CA_BUNDLE"
DEVICE_VARIABLE = "EDGE_DEVICE_ID"
DEFAULT_DEVICE = "twinship"
MAX_ENV_BYTES = 1_048_576
PARTS = ("HostName", "SharedAccessKeyName", "SharedAccessKey")

_PLACEHOLDER = re.compile(r"<[^<>]*>")  # how .env.example marks what must be filled in
_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d{1,5})?")
_IDENTIFIER = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")


class NotConfigured(FleetError):
    """The operator's settings are missing, incomplete or malformed; a retry cannot succeed."""


@dataclass(frozen=True)
class Connection:
    """The three parts of a service connection string, already checked."""

    host: str  # with its port, if the connection string has one
    policy: str
    key: str = field(repr=False)
    ca_bundle: Path | None = None  # None: the public certificate authorities
    source: str = "the environment"  # the place of the setting, for messages

    @property
    def loopback(self) -> bool:
        """True for a hub on this machine, as the simulator's. No proxy can reach it."""
        name = self.host.partition(":")[0]
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name.lower() == "localhost"


def read_env_file(path: Path) -> dict[str, str]:
    """Read KEY=VALUE lines; `#` comments, `export` and quotes are allowed. {} if the file does not exist."""
    if path.is_fifo():  # to open one waits for its writer
        raise NotConfigured(f"{path} is not a regular file; cure: name a file of settings")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ENV_BYTES + 1)
        if len(data) > MAX_ENV_BYTES:
            raise NotConfigured(
                f"{path} has more than {MAX_ENV_BYTES:,} bytes; cure: name a file of settings"
            )
        lines = data.decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise NotConfigured(
            f"{path} cannot be read ({type(error).__name__}); cure: it must be a readable UTF-8 text file"
        ) from error
    pairs = (line.strip().removeprefix("export ").partition("=") for line in lines)
    return {
        name.strip(): _unquoted(value.strip())
        for name, equals, value in pairs
        if equals and not name.startswith("#")
    }


def _unquoted(value: str) -> str:
    if value[:1] in ("'", '"') and (end := value.find(value[0], 1)) > 0:
        return value[1:end]
    return value.split(" #", 1)[0].rstrip()


def settings(environment: Mapping[str, str], env_file: Path) -> dict[str, str]:
    """The variables of a command: those of the file and of the environment, which takes precedence."""
    return {**read_env_file(env_file), **environment}


def device_name(environment: Mapping[str, str], env_file: Path) -> str:
    """The edge device: EDGE_DEVICE_ID, else `twinship`. Raises NotConfigured."""
    name = settings(environment, env_file).get(DEVICE_VARIABLE) or DEFAULT_DEVICE
    refuse_placeholder(DEVICE_VARIABLE, name)
    check_identifier("device", name)
    return name


def refuse_placeholder(name: str, value: str) -> None:
    """Raise NotConfigured, naming the variable, if its value still contains a placeholder of .env.example."""
    if found := _PLACEHOLDER.search(value):
        raise NotConfigured(
            f"{name} still contains the placeholder {found.group()}; cure: replace it by the real value"
        )


def check_identifier(kind: str, name: str) -> None:
    """Raise NotConfigured unless IoT Hub allows this name for a device or a module."""
    if not _IDENTIFIER.fullmatch(name) or name in (".", ".."):  # those would change the path of a request
        raise NotConfigured(
            f"IoT Hub does not allow the name {name!r} for a {kind}; cure: 1 to 128 of A-Za-z0-9-._"
        )


def find(environment: Mapping[str, str], env_file: Path) -> Connection:
    """The service connection of the environment, else of the file.

    REQUESTS_CA_BUNDLE comes from the same place as the connection string: the simulator writes both into one
    file. Raises NotConfigured.
    """
    if found := setting(CONNECTION_VARIABLE, environment, env_file):
        return parse(*found)
    raise NotConfigured(
        f"{CONNECTION_VARIABLE} is neither in the environment nor in {env_file}; cure: copy .env.example to "
        ".env and fill it in, or use the simulator's file: --env-file build/simulator/service.env"
    )


def setting(
    variable: str, environment: Mapping[str, str], env_file: Path
) -> tuple[str, str | None, str] | None:
    """A connection string of the environment, else of the file: text, REQUESTS_CA_BUNDLE, place; or None."""
    if text := environment.get(variable):
        return text, environment.get(CA_VARIABLE), "the environment"
    in_file = read_env_file(env_file)
    if text := in_file.get(variable):
        return text, in_file.get(CA_VARIABLE) or environment.get(CA_VARIABLE), str(env_file)
    return None


def parts_of(text: str) -> dict[str, str]:
    """The NAME=VALUE parts of a connection string."""
    pairs = (part.partition("=") for part in text.strip().split(";") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def parse(text: str, ca_bundle: str | None, source: str) -> Connection:
    """Check a service connection string. Raises NotConfigured, which names the part but not its value."""
    where = f"{CONNECTION_VARIABLE} in {source}"
    refuse_placeholder(where, text)
    parts = parts_of(text)
    if "DeviceId" in parts:
        raise NotConfigured(f"{where} is a device's; cure: use the one of a service policy, as iothubowner")
    if missing := [name for name in PARTS if not parts.get(name)]:
        raise NotConfigured(f"{where} has no {' and no '.join(missing)}; cure: copy the whole string again")
    host, policy, key = (parts[name] for name in PARTS)
    if not _HOST.fullmatch(host):
        raise NotConfigured(
            f"{where}: HostName must be a name or name:port; cure: leave out https:// and slashes"
        )
    refuse_bad_key(key, where)
    return Connection(host, policy, key, bundle_of(ca_bundle, source), source)


def refuse_bad_key(key: str, where: str) -> None:
    """Raise NotConfigured, without the key, unless it is base64."""
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        # Not chained: the original error quotes characters of the key.
        raise NotConfigured(
            f"{where}: SharedAccessKey is not base64; cure: copy it again, and copy all of it"
        ) from None


def bundle_of(ca_bundle: str | None, source: str) -> Path | None:
    """The file that REQUESTS_CA_BUNDLE names; raises NotConfigured if it does not exist."""
    if not ca_bundle:
        return None
    path = Path(ca_bundle)
    if not path.exists():
        raise NotConfigured(
            f"{CA_VARIABLE} in {source} names {path}, which does not exist; "
            "cure: start the simulator, or remove the variable"
        )
    return path
