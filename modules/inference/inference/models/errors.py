"""The error codes of a model, and the two exceptions that carry them.

>>> CODES["disk-full"].state
<ModelState.UNAVAILABLE: 'unavailable'>
>>> ModelRefused("unsigned", "digits:1.0.0 has no signature").reason
Reason(code='unsigned', message='digits:1.0.0 has no signature')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.model_section import ModelState

_MAX_MESSAGE_BYTES = 1024  # a reported string may hold 4,096 (ref 4.9); a person reads less


@dataclass(frozen=True)
class Code:
    """One code. `state`: the state that it leads to. `lasting`: the verdict is stored.

    A verdict that a restart may change (another key, another image) is not stored.
    """

    state: ModelState
    lasting: bool
    meaning: str


_REFUSED, _UNAVAILABLE, _WITHDRAWN = ModelState.REFUSED, ModelState.UNAVAILABLE, ModelState.WITHDRAWN
CODES: Mapping[str, Code] = {
    "bad-section": Code(_REFUSED, False, "the section cannot be understood; the message names each field"),
    "source-forbidden": Code(
        _REFUSED, False, "no https address, or one that MODEL_SOURCE_ALLOW does not allow"
    ),
    "source-missing": Code(_REFUSED, False, "nothing is at the address (404, 410)"),
    "source-denied": Code(
        _REFUSED, False, "the source denies it (401, 403, …); a signature of the address may have expired"
    ),
    "too-large": Code(_REFUSED, False, "larger than a model may be"),
    "wrong-size": Code(_REFUSED, True, "not as many bytes as in the section"),
    "keys-unset": Code(_REFUSED, False, "MODEL_TRUSTED_KEYS is not set on the device"),
    "keys-literal": Code(
        _REFUSED, False, "MODEL_TRUSTED_KEYS was not replaced when the manifest was deployed"
    ),
    "keys-malformed": Code(_REFUSED, False, "no entry of MODEL_TRUSTED_KEYS is a key"),
    "unsigned": Code(_REFUSED, False, "no signature, and the device requires one"),
    "unknown-key": Code(_REFUSED, False, "signed by a key that the device does not trust"),
    "bad-signature": Code(_REFUSED, False, "the signature does not verify"),
    "wrong-digest": Code(_REFUSED, True, "the bytes are not those that were signed"),
    "bad-artefact": Code(_REFUSED, True, "no model artefact, or a damaged one"),
    "wrong-name": Code(_REFUSED, True, "the artefact's own name or version is another"),
    "runtime-too-old": Code(_REFUSED, False, "the model asks for a newer runtime than this image has"),
    "needs-delegate": Code(
        _REFUSED, False, "compiled for an accelerator whose delegate does not load here (DELEGATE)"
    ),
    "does-not-load": Code(_REFUSED, True, "the runtime refuses it, or it does not match its manifest"),
    "wrong-answers": Code(_REFUSED, True, "it answers its own probes wrongly"),
    "over-budget": Code(_REFUSED, True, "not one of its probes was answered within its latency budget"),
    "crashes-runtime": Code(_REFUSED, True, "it killed the process that tried it"),
    "hangs-runtime": Code(_REFUSED, True, "it did not end in the process that tried it"),
    "load-failed": Code(_REFUSED, True, "it was proved, but does not load beside the serving model"),
    "source-unavailable": Code(
        _UNAVAILABLE, False, "no DNS name, no connection, a time-out, a lost connection or a server error"
    ),
    "source-untrusted": Code(_UNAVAILABLE, False, "no TLS with the source, or no trusted certificate"),
    "source-changed": Code(_UNAVAILABLE, False, "the file at the address changed during the download"),
    "no-runtime": Code(_UNAVAILABLE, False, "the image has no TFLite runtime"),
    "no-proof": Code(_UNAVAILABLE, False, "the process that tries models did not start, or was killed"),
    "no-memory": Code(_UNAVAILABLE, False, "the device has too little memory at the moment"),
    "disk-full": Code(_UNAVAILABLE, False, "the disk is full"),
    "disk-read-only": Code(_UNAVAILABLE, False, "the model folder cannot be written"),
    "state-too-new": Code(
        _UNAVAILABLE, False, "a newer version wrote the model state; it was set aside with its models"
    ),
    "disk-error": Code(_UNAVAILABLE, False, "the disk fails"),
    "internal": Code(_UNAVAILABLE, False, "a fault of this module; its log says more"),
    "engine-errors": Code(_WITHDRAWN, True, "its engine failed on frames during probation"),
    "too-slow": Code(_WITHDRAWN, True, "p95 of invoke was over the latency budget during probation"),
    "crashed": Code(_WITHDRAWN, True, "two processes died while they loaded it, or invoked it on probation"),
    "hangs-on-frame": Code(_WITHDRAWN, True, "an invoke did not return; the process ended to answer again"),
    "rolled-back": Code(_WITHDRAWN, True, "a person went back to the model before it"),
}


@dataclass(frozen=True)
class Reason:
    """Why a model does not run: one of CODES, and one line for a person."""

    code: str
    message: str

    def reported(self) -> dict[str, str]:
        text = self.message.encode()[:_MAX_MESSAGE_BYTES].decode(errors="ignore")
        return {"code": self.code, "message": text}


class _ModelError(Exception):
    """`code` is one of CODES, the text one line."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def reason(self) -> Reason:
        return Reason(self.code, str(self))


class ModelRefused(_ModelError):
    """The model itself is at fault: it is not tried again until the twin's section changes."""


class ModelUnavailable(_ModelError):
    """The device, the network or the source is at fault: the model is tried again later."""
