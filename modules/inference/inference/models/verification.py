"""Verifies a model before anything else reads it: size, signature, digest.

The checks, which must stay in this order:
1. The size is the one in the twin (`wrong-size`).
2. A trusted key has signed name, version, size and digest.
3. The bytes have that digest (`wrong-digest`).
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from inference.model_section import ModelRef, key_id
from inference.models.errors import ModelRefused

VARIABLE = "MODEL_TRUSTED_KEYS"
_CURE = "run `twinship keys show`, put the keys into .env and deploy again"


_P = 2**255 - 19
_Y_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
#: y of the eight points whose order divides 8: order 1, order 2, order 4 and, twice, order 8.
_SMALL_Y = frozenset({1, _P - 1, 0, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8})


def is_small_order(public: bytes) -> bool:
    """Whether an Ed25519 key is a point of small order, in any encoding: forged signatures verify with it.

    >>> is_small_order((1).to_bytes(32, "little"))
    True
    """
    return _y(public) % _P in _SMALL_Y


def _y(public: bytes) -> int:
    """The y coordinate as encoded, without the sign bit of x (RFC 8032, 5.1.2)."""
    return int.from_bytes(public, "little") & (1 << 255) - 1


@dataclass(frozen=True)
class Keyring:
    """The public keys that may sign a model. `keys` maps a key's id to its 32 raw bytes.

    If `required` is False (`MODEL_SIGNATURE=optional`) an unsigned model passes; a wrong signature does not.

    >>> Keyring.from_environment("").code
    'keys-unset'
    """

    keys: Mapping[str, bytes] = field(repr=False)
    required: bool = True
    code: str = ""  # why there are no keys
    problem: str = ""  # the same for a person, or which entries are no keys

    @classmethod
    def from_environment(cls, text: str | None, required: bool = True) -> "Keyring":
        """Parse `id:base64 of the raw public key,id2:…`. Never raises: verify() reports what is wrong."""
        text = (text or "").strip()
        if not text:
            return cls({}, required, "keys-unset", f"{VARIABLE} is not set: {_CURE}")
        if text.startswith("$"):
            # Deployment tools leave an unknown variable in the template as it is (ref 7.2).
            return cls(
                {}, required, "keys-literal", f"{VARIABLE} holds the literal text {text[:40]!r}: {_CURE}"
            )
        keys: dict[str, bytes] = {}
        bad: list[str] = []
        for number, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
            public = _public_key(entry)
            if public is None:
                bad.append(f"entry {number} is not id:key")
            elif is_small_order(public):
                bad.append(f"entry {number} is a key of small order, for which anybody can sign")
            else:
                keys[key_id(public)] = public
        problem = f"{VARIABLE}: {', '.join(bad)}: {_CURE}" if bad else ""
        return cls(keys, required, "" if keys else "keys-malformed", problem)

    def verify(self, ref: ModelRef) -> None:
        """Raise ModelRefused unless a trusted key has signed `ref`."""
        if not ref.signature and not self.required:
            return
        if self.required and not self.keys:
            raise ModelRefused(self.code or "keys-unset", self.problem or f"{VARIABLE} is not set: {_CURE}")
        if not ref.signature:
            raise ModelRefused("unsigned", f"{ref} has no signature, and this device asks for one")
        public = self.keys.get(ref.key_id)
        if public is None:
            known = ", ".join(sorted(self.keys)) or "none"
            also = f" ({self.problem})" if self.problem else ""
            raise ModelRefused(
                "unknown-key", f"{ref} is signed by key {ref.key_id or '?'}; trusted: {known}{also}"
            )
        try:
            signature = base64.b64decode(ref.signature, validate=True)
            Ed25519PublicKey.from_public_bytes(public).verify(signature, ref.signed_bytes())
        except (binascii.Error, ValueError, InvalidSignature) as error:
            raise ModelRefused(
                "bad-signature", f"{ref}: the signature by key {ref.key_id} does not verify"
            ) from error


def check(ref: ModelRef, data: bytes, keyring: Keyring) -> None:
    """Raise ModelRefused unless `data` is the model that `ref` names and a trusted key has signed `ref`."""
    if len(data) != ref.size:
        more = "more than " if len(data) > ref.size else ""
        raise ModelRefused("wrong-size", f"{ref}: {more}{min(len(data), ref.size)} bytes, not {ref.size}")
    keyring.verify(ref)
    if (got := hashlib.sha256(data).hexdigest()) != ref.sha256:
        raise ModelRefused("wrong-digest", f"{ref}: sha256 is {got}, not {ref.sha256}")


def _public_key(entry: str) -> bytes | None:
    """The raw key of one `id:base64` entry, or None. The id must be the key's own, its form canonical."""
    name, _, text = entry.partition(":")
    try:
        public = base64.b64decode(text, validate=True)
        Ed25519PublicKey.from_public_bytes(public)
    except (binascii.Error, ValueError):
        return None
    if _y(public) >= _P and not is_small_order(public):  # RFC 8032, 5.1.3
        return None
    return public if key_id(public) == name else None
