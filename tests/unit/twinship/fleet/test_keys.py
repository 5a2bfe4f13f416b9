"""Signing keys: private files, several keys, retirement, and MODEL_TRUSTED_KEYS."""

import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from inference.model_section import ModelRef, key_id
from twinship.fleet import keys
from twinship.fleet.keys import UnusableKey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "config" / "keys"


def test_a_new_key_is_private(folder: Path) -> None:
    """The folder has mode 0700 and the file 0600, whatever the umask is."""
    before = os.umask(0)
    try:
        key = keys.new(folder)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert key.path.stat().st_mode & 0o777 == 0o600


def test_the_key_id_is_the_one_a_device_computes(folder: Path) -> None:
    """Both sides name a key by the digest of its raw public bytes."""
    key = keys.new(folder)
    assert key.key_id == key_id(base64.b64decode(key.public))


def test_a_device_can_verify_the_signature(folder: Path) -> None:
    """The signature is the base64 of the Ed25519 signature over the signed bytes."""
    shown = keys.new(folder)
    ref = ModelRef("digits", "1.0.0", 3, "00" * 32)
    signature = keys.signing_key(folder).sign(ref.signed_bytes())
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(shown.public))
    public.verify(base64.b64decode(signature), ref.signed_bytes())


def test_trusted_keys_are_all_keys_that_are_not_retired(folder: Path) -> None:
    """A retired key is no longer in MODEL_TRUSTED_KEYS; its file stays and `show` still lists it."""
    first, second = keys.new(folder), keys.new(folder)
    assert set(keys.trusted_keys_text(folder).split(",")) == {first.trusted, second.trusted}
    assert keys.retire(folder, first.key_id).retired
    assert keys.trusted_keys_text(folder) == second.trusted
    assert {key.key_id: key.retired for key in keys.show(folder)} == {
        first.key_id: True,
        second.key_id: False,
    }
    assert first.path.exists()


def test_retiring_a_key_twice_changes_nothing(folder: Path) -> None:
    """An operator may repeat the command."""
    key = keys.new(folder)
    assert keys.retire(folder, key.key_id) == keys.retire(folder, key.key_id)


def test_a_retired_key_signs_nothing(folder: Path) -> None:
    """It is refused by its id and as the only key."""
    key = keys.new(folder)
    keys.retire(folder, key.key_id)
    with pytest.raises(UnusableKey, match="is retired; cure"):
        keys.signing_key(folder, key.key_id)
    with pytest.raises(UnusableKey, match="no signing key"):
        keys.signing_key(folder)


def test_the_id_is_required_if_there_are_two_keys(folder: Path) -> None:
    """The command does not guess which key signs."""
    first, _ = keys.new(folder), keys.new(folder)
    with pytest.raises(UnusableKey, match=r"several keys .* cure: name one with --key"):
        keys.signing_key(folder)
    assert keys.signing_key(folder, first.key_id).key_id == first.key_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_other_users_can_read_is_refused(folder: Path, mode: int) -> None:
    """The error names the mode and the cure."""
    key = keys.new(folder)
    key.path.chmod(mode)
    with pytest.raises(UnusableKey, match=rf"open to other users \(mode {mode:04o}\); cure: chmod 0600"):
        keys.signing_key(folder)


def test_a_folder_that_other_users_can_write_is_refused(folder: Path) -> None:
    """A user who can write into the folder can replace a key."""
    keys.new(folder)
    folder.chmod(0o770)
    for use in (lambda: keys.show(folder), lambda: keys.new(folder)):
        with pytest.raises(UnusableKey, match="cure: chmod 0700"):
            use()


def test_an_existing_open_folder_gets_no_key(tmp_path: Path) -> None:
    """No key is created in a folder that other users can read."""
    open_folder = tmp_path / "open"
    open_folder.mkdir(mode=0o755)
    open_folder.chmod(0o755)
    with pytest.raises(UnusableKey, match="open to other users"):
        keys.new(open_folder)
    assert list(open_folder.iterdir()) == []


def test_no_private_key_in_any_repr(folder: Path) -> None:
    """The repr of a key shows its id and no private part."""
    shown = keys.new(folder)
    secret = shown.path.read_text().splitlines()[1]
    assert secret not in repr(keys.signing_key(folder)) + repr(shown)
    assert repr(keys.signing_key(folder)) == f"SigningKey(key_id='{shown.key_id}')"


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff"]
)
def test_a_file_that_is_no_key_is_refused(folder: Path, content: bytes) -> None:
    """The error names the file and quotes nothing from it."""
    folder.mkdir(parents=True, mode=0o700)
    stray = folder / "0123456789abcdef.pem"
    stray.write_bytes(content)
    stray.chmod(0o600)
    with pytest.raises(UnusableKey, match="is not a private key; cure"):
        keys.show(folder)


def test_a_renamed_key_is_refused(folder: Path) -> None:
    """The file name is the key id; under another name a device would trust the wrong key."""
    key = keys.new(folder)
    key.path.rename(folder / "0123456789abcdef.pem")
    with pytest.raises(UnusableKey, match=f"cure: rename it to {key.key_id}.pem"):
        keys.signing_key(folder)


def test_an_unknown_key_id_is_refused(folder: Path) -> None:
    """The error names the id and the folder that was searched."""
    with pytest.raises(UnusableKey, match="there is no key feed in"):
        keys.retire(folder, "feed")


def test_the_env_file_keeps_every_other_line(folder: Path, tmp_path: Path) -> None:
    """Only MODEL_TRUSTED_KEYS is replaced; duplicates of it are removed; the file's mode stays."""
    env_file = tmp_path / ".env"
    env_file.write_text("# mine\nA=1\nMODEL_TRUSTED_KEYS=old\nB=2\nexport MODEL_TRUSTED_KEYS=older\n")
    env_file.chmod(0o640)
    key = keys.new(folder)
    assert keys.write_trusted_keys(folder, env_file) == key.trusted
    assert env_file.read_text() == f"# mine\nA=1\nMODEL_TRUSTED_KEYS={key.trusted}\nB=2\n"
    assert env_file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [".env"]


def test_an_env_file_that_is_not_text_is_not_changed(folder: Path, tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe")
    with pytest.raises(UnusableKey, match=r"\.env is not UTF-8 text"):
        keys.write_trusted_keys(folder, tmp_path / ".env")
    assert (tmp_path / ".env").read_bytes() == b"A=\xff\xfe"


def test_a_new_env_file_is_private(folder: Path, tmp_path: Path) -> None:
    """It may contain a connection string later."""
    keys.new(folder)
    keys.write_trusted_keys(folder, tmp_path / ".env")
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_the_folder_comes_from_the_variable_or_from_home() -> None:
    """TWINSHIP_KEYS takes precedence over ~/.config/twinship/keys."""
    assert keys.keys_folder({"TWINSHIP_KEYS": "/k", "HOME": "/h"}) == Path("/k")
    assert keys.keys_folder({"HOME": "/h"}) == Path("/h/.config/twinship/keys")


def test_a_signing_key_wraps_any_ed25519_key() -> None:
    """Signing needs no folder: a test or a key store may use its own key."""
    assert len(base64.b64decode(keys.SigningKey("id", Ed25519PrivateKey.generate()).sign(b"x"))) == 64
