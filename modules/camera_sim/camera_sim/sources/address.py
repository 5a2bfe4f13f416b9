"""The address of a source, as CAMERA_SOURCE and the twin's `camera.source` name it. Pure.

No message of this module repeats the text that it refuses: it may hold a password.

>>> parse("rtsp://guest:secret@10.0.0.9/live?token=5")
Address(rtsp://10.0.0.9/live)
>>> parse("file:gate.mp4").target
'gate.mp4'
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import SplitResult, urlsplit

from edgekit.log import redact

_DEVICE = re.compile(r"/dev/(?:video\d{1,3}|v4l/by-(?:id|path)/[\w.:+-]{1,200})", re.ASCII)
_MAX_CHARACTERS = 2_048
#: Scheme → what follows it.
SCHEMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "folder": "folder:PATH",
        "scene": "scene: or scene:SEED",
        "file": "file:PATH",
        "v4l2": "v4l2:/dev/video0",
        **{name: f"{name}://HOST/PATH" for name in ("rtsp", "rtsps", "http", "https")},
    }
)
NETWORK: Final = frozenset({"rtsp", "rtsps", "http", "https"})
VIDEO: Final = NETWORK | {"file", "v4l2"}
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


class SourceError(ValueError):
    """The address of a source is refused. The text says why, names the cure and holds no password."""


@dataclass(frozen=True, repr=False)
class Address:
    """Where pictures come from. `target` may hold a password; `str()` and `repr()` do not."""

    scheme: str
    target: str  # a path, a seed, or the whole URL

    def __str__(self) -> str:
        if self.scheme not in NETWORK:
            return f"{self.scheme}:{self.target}"
        url = urlsplit(self.target)
        return f"{self.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"

    def __repr__(self) -> str:
        return f"Address({self})"


def parse(text: str) -> Address:
    """The address. Raises SourceError."""
    scheme, colon, rest = text.strip().partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in SCHEMES:
        raise SourceError(f"unknown kind of source; cure: one of {', '.join(SCHEMES.values())}")
    if len(text) > _MAX_CHARACTERS or not text.isprintable():
        raise SourceError(f"control characters, or over {_MAX_CHARACTERS} characters")
    address = Address(scheme, f"{scheme}:{rest}" if scheme in NETWORK else rest)
    if not _valid(address):
        raise SourceError(f"cure: {SCHEMES[scheme]}")
    return address


def _valid(address: Address) -> bool:
    if address.scheme in NETWORK:
        return _location(address) is not None
    if address.scheme == "scene":
        return not address.target or re.fullmatch(r"\d{1,9}", address.target, re.ASCII) is not None
    if address.scheme == "v4l2":
        return _DEVICE.fullmatch(address.target) is not None
    return bool(address.target)


def _location(address: Address) -> tuple[str, str, int] | None:
    """Scheme, host and port; None if the URL has none."""
    try:
        url: SplitResult = urlsplit(address.target)
        port = url.port or _PORTS[address.scheme]
    except ValueError:
        return None
    return (address.scheme, url.hostname, port) if url.hostname else None


def parse_public(text: str) -> Address:
    """The address in a twin, which every service of the hub can read: a password is refused too."""
    address = parse(text)
    if redact(text) != text or (address.scheme in NETWORK and "@" in urlsplit(address.target).netloc):
        raise SourceError("holds a password; cure: name the source with its password in CAMERA_SOURCE_FILE")
    return address


def with_credentials(address: Address, secret: Address) -> Address:
    """The address with the user and password of `secret`, if both name the same scheme, host and port."""
    user, at, _host = (
        urlsplit(secret.target).netloc.rpartition("@") if secret.scheme in NETWORK else ("",) * 3
    )
    if not at or address.scheme not in NETWORK or _location(address) != _location(secret):
        return address
    url = urlsplit(address.target)
    host = url.netloc.rpartition("@")[2]
    return Address(address.scheme, url._replace(netloc=f"{user}@{host}").geturl())


def below(address: Address, base: Path | None) -> Address:
    """A `file:` or `folder:` address with its real, absolute path. Raises SourceError outside `base`."""
    if address.scheme not in ("file", "folder"):
        return address
    if base is None:
        raise SourceError(f"{address.scheme}: needs CAMERA_FOLDER; cure: set it in the module's environment")
    path = (base / address.target).resolve()
    if not path.is_relative_to(base.resolve()):
        raise SourceError(f"{address.scheme}: outside of CAMERA_FOLDER; cure: a path below {base}")
    return Address(address.scheme, str(path))
