"""Keys and the order of the checks."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from inference.model_section import ModelRef, key_id
from inference.models.errors import CODES, ModelRefused
from inference.models.verification import Keyring, check
from tests.unit.inference.device import Publisher

OURS, THEIRS = Publisher(1), Publisher(2)
DATA = b"a model" * 100
REF = OURS.ref(DATA)


def refusal(ref: ModelRef, data: bytes = DATA, keyring: Keyring = OURS.keyring) -> str:
    with pytest.raises(ModelRefused) as raised:
        check(ref, data, keyring)
    assert raised.value.code in CODES
    assert "\n" not in str(raised.value)
    return raised.value.code


def test_a_signed_model_passes() -> None:
    """The right bytes, signed by a trusted key, pass."""
    check(REF, DATA, OURS.keyring)


def test_one_of_several_keys_is_enough() -> None:
    """Keys overlap while one is being replaced."""
    keyring = Keyring.from_environment(f" {THEIRS.trusted} , {OURS.trusted},", required=True)
    check(REF, DATA, keyring)
    check(THEIRS.ref(DATA), DATA, keyring)


def test_one_flipped_byte_is_refused() -> None:
    """The digest is compared with the bytes."""
    assert refusal(REF, b"A" + DATA[1:]) == "wrong-digest"


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b""])
def test_another_size_is_refused(data: bytes) -> None:
    """The size must be the one in the twin."""
    assert refusal(REF, data) == "wrong-size"


def test_size_then_signature_then_digest() -> None:
    """If several checks fail, the first one in this order is reported."""
    unsigned = replace(REF, signature="")
    wrong = b"x" * len(DATA)
    assert refusal(unsigned, wrong[:-1]) == "wrong-size"
    assert refusal(unsigned, wrong) == "unsigned"
    assert refusal(REF, wrong) == "wrong-digest"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "other"}, "bad-signature"),
        ({"version": "1.0.1"}, "bad-signature"),
        ({"sha256": "0" * 64}, "bad-signature"),
        ({"signature": base64.b64encode(bytes(64)).decode()}, "bad-signature"),
        ({"signature": "AAAA"}, "bad-signature"),
        ({"signature": "no base64!"}, "bad-signature"),
        ({"key_id": key_id(THEIRS.public)}, "unknown-key"),
        ({"key_id": ""}, "unknown-key"),
        ({"signature": ""}, "unsigned"),
    ],
)
def test_a_changed_reference_is_refused(change: dict[str, Any], code: str) -> None:
    """Every field of the reference is under the signature."""
    assert refusal(replace(REF, **change)) == code


def test_another_publisher_is_refused() -> None:
    """A valid signature by an unknown key does not pass."""
    assert refusal(THEIRS.ref(DATA)) == "unknown-key"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "keys-unset"),
        ("  ", "keys-unset"),
        ("$MODEL_TRUSTED_KEYS", "keys-literal"),
        ("${MODEL_TRUSTED_KEYS}", "keys-literal"),
        ("nonsense", "keys-malformed"),
        (f"0123456789abcdef:{base64.b64encode(OURS.public).decode()}", "keys-malformed"),
        (OURS.trusted[:-4], "keys-malformed"),
    ],
)
def test_a_device_without_keys_reports_the_reason(text: str | None, code: str) -> None:
    """Each reason has its own code, and the message names the cure."""
    keyring = Keyring.from_environment(text, required=True)
    assert refusal(REF, keyring=keyring) == code
    with pytest.raises(ModelRefused, match="twinship keys"):
        keyring.verify(REF)


def test_one_bad_entry_leaves_the_others() -> None:
    """A wrong entry is named in the message of a refusal."""
    keyring = Keyring.from_environment(f"oops,{OURS.trusted}", required=True)
    check(REF, DATA, keyring)
    with pytest.raises(ModelRefused, match="entry 1 is not"):
        keyring.verify(THEIRS.ref(DATA))


@pytest.mark.parametrize("keyring", [OURS.keyring, Keyring.from_environment(None, required=True)])
def test_optional_signatures_accept_none_but_never_a_wrong_one(keyring: Keyring) -> None:
    """MODEL_SIGNATURE=optional admits unsigned models, not forged ones."""
    optional = replace(keyring, required=False)
    check(replace(REF, signature="", key_id=""), DATA, optional)
    assert refusal(replace(REF, signature=base64.b64encode(bytes(64)).decode()), keyring=optional) in (
        "bad-signature",
        "unknown-key",
    )


def test_keys_do_not_show() -> None:
    """The repr of a keyring holds no key."""
    assert base64.b64encode(OURS.public).decode() not in repr(OURS.keyring)
    assert str(OURS.public) not in repr(OURS.keyring)
