"""Keys and the order of the checks."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from inference.model_section import ModelRef, key_id
from inference.models.errors import CODES, ModelRefused
from inference.models.verification import Keyring, check
from tests.unit.inference.fixtures.device import Publisher

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


# -- points of small order

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_IDENTITY = (0, 1)


def _add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The sum of two points of Ed25519 (RFC 8032, 5.1.4)."""
    (x1, y1), (x2, y2) = one, other
    product = _D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, _P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, _P)
    return x % _P, y % _P


def _torsion() -> set[tuple[int, int]]:
    """The eight points P with 8 P = 0, computed from the equation of the curve."""
    root = pow(2, (_P - 1) // 4, _P)  # of -1

    def square_root(square: int) -> int | None:
        found = pow(square, (_P + 3) // 8, _P)
        return next((each for each in (found, found * root % _P) if each * each % _P == square % _P), None)

    # Twice a point of order 8 has y = 0, so y² = -x² and with that d y⁴ + 2 y² - 1 = 0 on the curve.
    rooted = square_root(1 + _D)
    assert rooted is not None
    for half in (rooted, -rooted):
        y = square_root((half - 1) * pow(_D, -1, _P))
        if y is not None:
            x = square_root(-y * y)
            assert x is not None
            points, point = set(), _IDENTITY
            for _ in range(8):
                point = _add(point, (x, y))
                points.add(point)
            return points
    raise AssertionError


def _encodings(point: tuple[int, int]) -> set[bytes]:
    """Every encoding that a decoder may take for this point: y or y + p, with either sign bit."""
    ys = [y for y in (point[1], point[1] + _P) if y < 2**255]
    return {(y | sign << 255).to_bytes(32, "little") for y in ys for sign in (0, 1)}


SMALL = sorted({encoding for point in _torsion() for encoding in _encodings(point)})


def _entry(public: bytes) -> str:
    return f"{key_id(public)}:{base64.b64encode(public).decode()}"


def test_the_small_points_are_all_eight_in_each_encoding() -> None:
    """Five values of y; those of 0 and 1 have a second encoding; each with two sign bits."""
    assert len(_torsion()) == 8
    assert len(SMALL) == 14


@pytest.mark.parametrize("public", SMALL, ids=bytes.hex)
def test_a_key_of_small_order_is_refused_by_name(public: bytes) -> None:
    """For such a key anybody can make a signature that verifies, for example of zeros."""
    keyring = Keyring.from_environment(_entry(public), required=True)
    forged = base64.b64encode(bytes([1]) + bytes(63)).decode()
    assert refusal(replace(REF, signature=forged, key_id=key_id(public)), keyring=keyring) == "keys-malformed"
    assert "entry 1 is a key of small order" in keyring.problem
    with pytest.raises(ModelRefused, match="small order"):
        keyring.verify(REF)


def test_a_key_of_small_order_beside_a_good_one_is_not_trusted() -> None:
    """The good key works; the message of a refusal names the other."""
    keyring = Keyring.from_environment(f"{OURS.trusted},{_entry(SMALL[0])}", required=True)
    check(REF, DATA, keyring)
    with pytest.raises(ModelRefused, match="entry 2 is a key of small order"):
        keyring.verify(replace(REF, key_id=key_id(SMALL[0])))


@pytest.mark.parametrize("y", [_P + 2, 2**255 - 1])
def test_a_key_that_is_not_in_canonical_form_is_refused(y: int) -> None:
    """RFC 8032, 5.1.3: y is smaller than p; another form would give one key two ids."""
    assert Keyring.from_environment(_entry(y.to_bytes(32, "little"))).code == "keys-malformed"
