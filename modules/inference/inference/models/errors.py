"""Errors of a model delivery and the table of their codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.model_section import ModelState


@dataclass(frozen=True)
class Code:
    """One reason. `state`: whose fault it is. `lasting`: the verdict outlives the process.

    What a restart may mend (another key, another image) is judged again at each start, which costs no load.
    """

    state: ModelState
    lasting: bool
    meaning: str


CODES: Mapping[str, Code] = {
    "bad-section": Code(
        ModelState.REFUSED, False, "the section cannot be understood; the message names each field"
    ),
    "source-forbidden": Code(
        ModelState.REFUSED,
        False,
        "not https, or an address that no model comes from unless MODEL_SOURCE_ALLOW says so",
    ),
    "source-missing": Code(ModelState.REFUSED, False, "nothing is at the address (404, 410)"),
    "source-denied": Code(
        ModelState.REFUSED,
        False,
        "the source denies it (401, 403 and the like): a signature of the address expired?",
    ),
    "too-large": Code(ModelState.REFUSED, False, "larger than a model may be"),
    "wrong-size": Code(ModelState.REFUSED, True, "not as many bytes as the section says"),
    "keys-unset": Code(ModelState.REFUSED, False, "MODEL_TRUSTED_KEYS is not set on the device"),
    "keys-literal": Code(
        ModelState.REFUSED, False, "MODEL_TRUSTED_KEYS was not replaced when the manifest was deployed"
    ),
    "keys-malformed": Code(ModelState.REFUSED, False, "no entry of MODEL_TRUSTED_KEYS is a key"),
    "unsigned": Code(ModelState.REFUSED, False, "no signature, and the device asks for one"),
    "unknown-key": Code(ModelState.REFUSED, False, "signed by a key that the device does not trust"),
    "bad-signature": Code(ModelState.REFUSED, False, "the signature does not verify"),
    "wrong-digest": Code(ModelState.REFUSED, True, "the bytes are not those that were signed"),
    "bad-artefact": Code(ModelState.REFUSED, True, "no model artefact, or a damaged one"),
    "wrong-name": Code(ModelState.REFUSED, True, "the artefact's own name or version is another"),
    "runtime-too-old": Code(
        ModelState.REFUSED, False, "the model asks for a newer runtime than this image has"
    ),
    "needs-delegate": Code(
        ModelState.REFUSED, False, "compiled for an accelerator whose delegate does not load here (DELEGATE)"
    ),
    "does-not-load": Code(
        ModelState.REFUSED, True, "the runtime refuses it, or it is not what its manifest says"
    ),
    "wrong-answers": Code(ModelState.REFUSED, True, "it answers its own probes wrongly"),
    "over-budget": Code(
        ModelState.REFUSED, True, "not one of its probes was answered within its latency budget"
    ),
    "crashes-runtime": Code(ModelState.REFUSED, True, "it killed the process that tried it"),
    "hangs-runtime": Code(ModelState.REFUSED, True, "it did not come to an end in the process that tried it"),
    "load-failed": Code(ModelState.REFUSED, True, "it was proved, but does not load beside the running one"),
    "source-unavailable": Code(
        ModelState.UNAVAILABLE,
        False,
        "no name, no connection, no answer in time, cut off, or a fault of the server",
    ),
    "source-untrusted": Code(
        ModelState.UNAVAILABLE, False, "no TLS with the source, or no certificate to trust"
    ),
    "source-changed": Code(
        ModelState.UNAVAILABLE, False, "what is at the address changed while it was downloaded"
    ),
    "no-runtime": Code(ModelState.UNAVAILABLE, False, "the image has no TFLite runtime"),
    "no-proof": Code(
        ModelState.UNAVAILABLE, False, "the process that tries models did not start, or was killed"
    ),
    "no-memory": Code(ModelState.UNAVAILABLE, False, "the device has too little memory at the moment"),
    "disk-full": Code(ModelState.UNAVAILABLE, False, "the disk is full"),
    "disk-read-only": Code(ModelState.UNAVAILABLE, False, "the model folder cannot be written"),
    "state-too-new": Code(
        ModelState.UNAVAILABLE,
        False,
        "a newer version wrote the model state: it was set aside, with its models",
    ),
    "disk-error": Code(ModelState.UNAVAILABLE, False, "the disk fails"),
    "internal": Code(ModelState.UNAVAILABLE, False, "a fault of this module: its log says more"),
    "engine-errors": Code(ModelState.WITHDRAWN, True, "it failed on frames during probation"),
    "too-slow": Code(
        ModelState.WITHDRAWN, True, "p95 of invoke was over the latency budget during probation"
    ),
    "crashed": Code(ModelState.WITHDRAWN, True, "two starts found it loaded and without a verdict"),
    "rolled-back": Code(ModelState.WITHDRAWN, True, "a person went back to the model before it"),
}


class ModelRefused(Exception):
    """The model itself is at fault: not tried again until the twin's section changes.

    `code` is one of CODES, the text one line.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModelUnavailable(Exception):
    """Not the model's fault: tried again later. `code` is one of CODES, the text one line."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
