"""Ed25519 signing keys in a private folder: new, list, retire, load; and MODEL_TRUSTED_KEYS for devices.

`inference.model_section` defines what is signed, `inference.models.verification` checks it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twinship.fleet import FleetError

FOLDER_VARIABLE = "TWINSHIP_KEYS"
TRUST_VARIABLE = "MODEL_TRUSTED_KEYS"


class UnusableKey(FleetError):
    """A key, its folder or the env file cannot be used as it is."""


@dataclass(frozen=True)
class PublicKey:
    """The public part of a key."""

    key_id: str  # first 16 hex digits of the SHA-256 of the raw public key
    public: str  # base64 of the 32 raw bytes
    created: str  # UTC, the modification time of the file
    retired: bool
    path: Path

    @property
    def trusted(self) -> str:
        """The entry of MODEL_TRUSTED_KEYS for this key."""
        return f"{self.key_id}:{self.public}"


@dataclass(frozen=True)
class SigningKey:
    """A key that is not retired."""

    key_id: str
    _private: Ed25519PrivateKey = field(repr=False)

    def sign(self, data: bytes) -> str:
        """The Ed25519 signature over `data`, base64."""
        return base64.b64encode(self._private.sign(data)).decode()


def keys_folder(environment: Mapping[str, str]) -> Path:
    """TWINSHIP_KEYS, else ~/.config/twinship/keys."""
    if named := environment.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    home = environment.get("HOME")
    return (Path(home) if home else Path.home()) / ".config" / "twinship" / "keys"


def new(folder: Path) -> PublicKey:
    """Create a key pair; the folder has mode 0700, the file 0600. Raises UnusableKey."""
    _private_folder(folder)
    private = Ed25519PrivateKey.generate()
    key_id, _ = _identify(private)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{key_id}.pem"
    _write_new(path, pem)
    return _public(path)


def show(folder: Path) -> tuple[PublicKey, ...]:
    """All keys of the folder, also retired ones, oldest first."""
    found = [_public(path) for path in _key_files(folder)]
    return tuple(sorted(found, key=lambda key: (key.created, key.key_id)))


def retire(folder: Path, key_id: str) -> PublicKey:
    """Retire a key: it no longer signs and is no longer trusted. Its file stays, with a marker beside it."""
    key = _named(folder, key_id)
    if not key.retired:
        _write_new(_marker(key.path), f"retired {_utc(time.time())}\n".encode())
    return _public(key.path)


def trusted_keys_text(folder: Path) -> str:
    """The value of MODEL_TRUSTED_KEYS: `id:base64,id:base64` of all keys that are not retired."""
    return ",".join(key.trusted for key in show(folder) if not key.retired)


def signing_key(folder: Path, key_id: str | None = None) -> SigningKey:
    """The key with this id, or the only key that is not retired. Raises UnusableKey."""
    key = _named(folder, key_id) if key_id else _only(folder)
    if key.retired:
        raise UnusableKey(f"key {key.key_id} is retired; cure: sign with another (twinship keys show)")
    return SigningKey(key.key_id, _load(key.path))


def write_trusted_keys(folder: Path, env_file: Path) -> str:
    """Set MODEL_TRUSTED_KEYS in an env file, return the value. Other lines stay; a new file is 0600."""
    line = f"{TRUST_VARIABLE}={trusted_keys_text(folder)}"
    try:
        before = env_file.read_text(encoding="utf-8").splitlines() if env_file.exists() else []
        mode = stat.S_IMODE(env_file.stat().st_mode) if env_file.exists() else 0o600
        _replace(env_file, "\n".join(_with_line(before, line)) + "\n", mode)
    except UnicodeDecodeError as error:
        raise UnusableKey(f"{env_file} is not UTF-8 text; cure: save it as UTF-8") from error
    except OSError as error:
        raise UnusableKey(
            f"{env_file} cannot be written ({error.strerror}); cure: check the folder's permissions"
        ) from error
    return line.partition("=")[2]


def _with_line(lines: list[str], line: str) -> list[str]:
    """Replace the first line with the variable's name and remove the others; append if there is none."""
    name = line.partition("=")[0]
    found = [
        n
        for n, old in enumerate(lines)
        if old.strip().removeprefix("export ").partition("=")[0].strip() == name
    ]
    if not found:
        return [*lines, line]
    return [line if n == found[0] else old for n, old in enumerate(lines) if n not in found[1:]]


def _replace(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.chmod(mode)
    temporary.replace(path)


# -- files --------------------------------------------------------------------------------------------------


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableKey(
            f"{folder} cannot be created ({error.strerror}); cure: name another folder with {FOLDER_VARIABLE}"
        ) from error
    _refuse_shared(folder, "0700")


def _refuse_shared(path: Path, wanted: str) -> None:
    """Raise UnusableKey if other users have any permission on this path."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UnusableKey(f"{path} is open to other users (mode {mode:04o}); cure: chmod {wanted} {path}")


def _write_new(path: Path, content: bytes) -> None:
    """Create a file with mode 0600. Never overwrites a file, never follows a link."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UnusableKey(
            f"{path} cannot be created ({error.strerror}); cure: check the folder's permissions"
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _key_files(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    _refuse_shared(folder, "0700")
    return sorted(folder.glob("*.pem"))


def _marker(path: Path) -> Path:
    return path.with_suffix(".retired")


def _load(path: Path) -> Ed25519PrivateKey:
    """The private key of a file. Raises UnusableKey if other users can read it or it is no Ed25519 key."""
    try:
        _refuse_shared(path, "0600")
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise UnusableKey(
            f"{path} cannot be read ({error.strerror}); cure: check its owner and its permissions"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: the original error may quote the file.
        raise UnusableKey(f"{path} is not a private key; cure: move it out of the folder") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise UnusableKey(f"{path} is not an Ed25519 key; cure: create one with twinship keys new")
    if (key_id := _identify(private)[0]) != path.stem:
        raise UnusableKey(f"{path} holds key {key_id}; cure: rename it to {key_id}.pem")
    return private


def _identify(private: Ed25519PrivateKey) -> tuple[str, str]:
    """The key id, and the public key in base64."""
    raw = private.public_key().public_bytes_raw()
    return hashlib.sha256(raw).hexdigest()[:16], base64.b64encode(raw).decode()


def _public(path: Path) -> PublicKey:
    key_id, public = _identify(_load(path))
    return PublicKey(key_id, public, _utc(path.stat().st_mtime), _marker(path).exists(), path)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _named(folder: Path, key_id: str) -> PublicKey:
    for key in show(folder):
        if key.key_id == key_id:
            return key
    raise UnusableKey(f"there is no key {key_id} in {folder}; cure: twinship keys show lists them")


def _only(folder: Path) -> PublicKey:
    usable = [key for key in show(folder) if not key.retired]
    if not usable:
        raise UnusableKey(f"there is no signing key in {folder}; cure: twinship keys new")
    if len(usable) > 1:
        names = ", ".join(key.key_id for key in usable)
        raise UnusableKey(
            f"{folder} has several keys ({names}); cure: name one with --key, or retire the others"
        )
    return usable[0]
