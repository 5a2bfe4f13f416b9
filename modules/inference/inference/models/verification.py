"""Which models may run here: the trusted keys, and the checks before anything else touches a model.

The rules, in this order and no other:
1. the bytes are exactly as many as the twin says (`wrong-size`);
2. the twin's name, version, size and digest are signed by a key that we trust;
3. the bytes have that digest (`wrong-digest`).

This file reads no environment, no file and no model: what is inside the bytes is for the proof.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from inference.model_section import ModelRef, key_id
from inference.models.errors import ModelRefused as ModelRefused

VARIABLE = "MODEL_TRUSTED_KEYS"
_CURE = "run `twinship keys show`, put the keys into .env and deploy again"


@dataclass(frozen=True)
class Keyring:
    """The public keys that may sign a model. `keys` maps a key's id to its 32 raw bytes.

    With `required` off (`MODEL_SIGNATURE=optional`) a model without a signature passes; one with a wrong
    signature never does.
    """

    keys: Mapping[str, bytes] = field(repr=False)
    required: bool = True
    code: str = ""  # why there are no keys, as a code …
    problem: str = ""  # … and in words; or which entries were passed over

    @classmethod
    def from_environment(cls, text: str | None, required: bool = True) -> "Keyring":
        """From `id:base64 of the raw public key,id2:…`. Never raises: what is wrong is said by verifies()."""
        text = (text or "").strip()
        if not text:
            return cls({}, required, "keys-unset", f"{VARIABLE} is not set: {_CURE}")
        if text.startswith("$"):
            # Deployment tools leave a variable that they do not know as it stands in the template (ref 7.2).
            return cls(
                {}, required, "keys-literal", f"{VARIABLE} holds the literal text {text[:40]!r}: {_CURE}"
            )
        keys: dict[str, bytes] = {}
        bad: list[str] = []
        for number, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
            public = _public_key(entry)
            if public is None:
                bad.append(str(number))
            else:
                keys[key_id(public)] = public
        problem = f"{VARIABLE}: entry {', '.join(bad)} is not id:key: {_CURE}" if bad else ""
        return cls(keys, required, "" if keys else "keys-malformed", problem)

    def verifies(self, ref: ModelRef) -> None:
        """Return when `ref` may be believed. Raises ModelRefused."""
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
    """Raise ModelRefused unless `data` is the model that the twin names, signed by a key that we trust."""
    if len(data) != ref.size:
        more = "more than " if len(data) > ref.size else ""
        raise ModelRefused("wrong-size", f"{ref}: {more}{min(len(data), ref.size)} bytes, not {ref.size}")
    keyring.verifies(ref)
    if (got := hashlib.sha256(data).hexdigest()) != ref.sha256:
        raise ModelRefused("wrong-digest", f"{ref}: sha256 is {got}, not {ref.sha256}")


def _public_key(entry: str) -> bytes | None:
    """The raw key of one `id:base64` entry, or None. The id must be the key's own."""
    name, _, text = entry.partition(":")
    try:
        public = base64.b64decode(text, validate=True)
        Ed25519PublicKey.from_public_bytes(public)
    except (binascii.Error, ValueError):
        return None
    return public if key_id(public) == name else None
