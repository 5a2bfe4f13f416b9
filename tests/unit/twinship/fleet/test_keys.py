"""Signing keys: private files, several at once, retirement, and what a device is told to trust."""

import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from inference.model_section import ModelRef, key_id
from twinship.fleet import keys
from twinship.fleet.keys import KeyTrouble


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "config" / "keys"


def test_a_new_key_is_private_from_its_first_moment(folder: Path) -> None:
    """Folder 0700, file 0600, whatever the umask allows."""
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


def test_a_device_can_verify_what_was_signed(folder: Path) -> None:
    """The signature is base64 of Ed25519 over the signed bytes."""
    shown = keys.new(folder)
    ref = ModelRef("digits", "1.0.0", 3, "00" * 32)
    signature = keys.signing_key(folder).sign(ref.signed_bytes())
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(shown.public))
    public.verify(base64.b64decode(signature), ref.signed_bytes())


def test_trusted_keys_are_all_but_the_retired(folder: Path) -> None:
    """A retired key vanishes from what devices trust, its file and marker stay, and it is still shown."""
    first, second = keys.new(folder), keys.new(folder)
    assert set(keys.trusted_keys_text(folder).split(",")) == {first.trusted, second.trusted}
    assert keys.retire(folder, first.key_id).retired
    assert keys.trusted_keys_text(folder) == second.trusted
    assert {key.key_id: key.retired for key in keys.show(folder)} == {
        first.key_id: True,
        second.key_id: False,
    }
    assert first.path.exists()


def test_retiring_twice_is_the_same_as_once(folder: Path) -> None:
    """An operator may repeat a command."""
    key = keys.new(folder)
    assert keys.retire(folder, key.key_id) == keys.retire(folder, key.key_id)


def test_a_retired_key_signs_nothing(folder: Path) -> None:
    """Neither by name nor as the only key."""
    key = keys.new(folder)
    keys.retire(folder, key.key_id)
    with pytest.raises(KeyTrouble, match="is retired; cure"):
        keys.signing_key(folder, key.key_id)
    with pytest.raises(KeyTrouble, match="no signing key"):
        keys.signing_key(folder)


def test_two_keys_in_use_need_a_name(folder: Path) -> None:
    """Which of two keys signs is never guessed."""
    first, _ = keys.new(folder), keys.new(folder)
    with pytest.raises(KeyTrouble, match=r"several keys .* cure: name one with --key"):
        keys.signing_key(folder)
    assert keys.signing_key(folder, first.key_id).key_id == first.key_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_open_to_others_is_refused(folder: Path, mode: int) -> None:
    """A key that somebody else may have read signs nothing; the cure is in the line."""
    key = keys.new(folder)
    key.path.chmod(mode)
    with pytest.raises(KeyTrouble, match=rf"open to others \(mode {mode:04o}\); cure: chmod 0600"):
        keys.signing_key(folder)


def test_a_folder_open_to_others_is_refused(folder: Path) -> None:
    """Whoever may write into the folder can exchange a key."""
    keys.new(folder)
    folder.chmod(0o770)
    for use in (lambda: keys.show(folder), lambda: keys.new(folder)):
        with pytest.raises(KeyTrouble, match="cure: chmod 0700"):
            use()


def test_an_existing_open_folder_gets_no_key(tmp_path: Path) -> None:
    """A new key never lands where others look."""
    open_folder = tmp_path / "open"
    open_folder.mkdir(mode=0o755)
    open_folder.chmod(0o755)
    with pytest.raises(KeyTrouble, match="open to others"):
        keys.new(open_folder)
    assert list(open_folder.iterdir()) == []


def test_no_private_key_in_any_repr(folder: Path) -> None:
    """Printing a key shows its id and nothing that could sign."""
    shown = keys.new(folder)
    secret = shown.path.read_text().splitlines()[1]
    assert secret not in repr(keys.signing_key(folder)) + repr(shown)
    assert repr(keys.signing_key(folder)) == f"SigningKey(key_id='{shown.key_id}')"


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff"]
)
def test_a_file_that_is_no_key_is_named(folder: Path, content: bytes) -> None:
    """A stray .pem is named, with no line of it quoted."""
    folder.mkdir(parents=True, mode=0o700)
    stray = folder / "0123456789abcdef.pem"
    stray.write_bytes(content)
    stray.chmod(0o600)
    with pytest.raises(KeyTrouble, match="is not a private key; cure"):
        keys.show(folder)


def test_a_renamed_key_is_refused(folder: Path) -> None:
    """The name of the file is the name of the key: a wrong one would be trusted under another's name."""
    key = keys.new(folder)
    key.path.rename(folder / "0123456789abcdef.pem")
    with pytest.raises(KeyTrouble, match=f"cure: rename it to {key.key_id}.pem"):
        keys.signing_key(folder)


def test_a_key_that_is_not_there_is_named(folder: Path) -> None:
    """Retiring or choosing an unknown id names the folder that was searched."""
    with pytest.raises(KeyTrouble, match="there is no key feed in"):
        keys.retire(folder, "feed")


def test_the_env_file_keeps_every_other_line(folder: Path, tmp_path: Path) -> None:
    """Only MODEL_TRUSTED_KEYS changes, in its place; doubles go; the file's mode stays."""
    env_file = tmp_path / ".env"
    env_file.write_text("# mine\nA=1\nMODEL_TRUSTED_KEYS=old\nB=2\nexport MODEL_TRUSTED_KEYS=older\n")
    env_file.chmod(0o640)
    key = keys.new(folder)
    assert keys.write_trusted_keys(folder, env_file) == key.trusted
    assert env_file.read_text() == f"# mine\nA=1\nMODEL_TRUSTED_KEYS={key.trusted}\nB=2\n"
    assert env_file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [".env"]


def test_an_env_file_that_is_no_text_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    """One line that names it."""
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe")
    with pytest.raises(KeyTrouble, match=r"\.env is no UTF-8 text"):
        keys.write_trusted_keys(folder, tmp_path / ".env")
    assert (tmp_path / ".env").read_bytes() == b"A=\xff\xfe"


def test_a_new_env_file_is_private(folder: Path, tmp_path: Path) -> None:
    """It will hold a connection string sooner or later."""
    keys.new(folder)
    keys.write_trusted_keys(folder, tmp_path / ".env")
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_the_folder_comes_from_the_variable_or_from_home() -> None:
    """TWINSHIP_KEYS wins; else ~/.config/twinship/keys."""
    assert keys.keys_folder({"TWINSHIP_KEYS": "/k", "HOME": "/h"}) == Path("/k")
    assert keys.keys_folder({"HOME": "/h"}) == Path("/h/.config/twinship/keys")


def test_a_signing_key_wraps_any_ed25519_key() -> None:
    """Signing needs no folder: a test or a key store may hand in its own key."""
    assert len(base64.b64decode(keys.SigningKey("id", Ed25519PrivateKey.generate()).sign(b"x"))) == 64
