"""Check, prove and load a model, one step at a time; or load a stored model from disk.

Each step ends well or raises ModelRefused or ModelUnavailable. `step` decides which one comes next.
"""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

from inference.artefact import MAX_ARTEFACT_BYTES, Artefact, BadArtefact, Manifest, read
from inference.engine import Engine, NeedsDelegate
from inference.model_section import Inline, InvalidSection, ModelRef, ModelSection, parse
from inference.models.download import Fetcher
from inference.models.errors import ModelRefused, ModelUnavailable
from inference.models.prove import Proved, Prover, check_name
from inference.models.store import ModelStore, StoredModel
from inference.models.verification import Keyring, check

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """A loaded model. A frame in flight keeps using it, even if another model is promoted meanwhile."""

    ref: ModelRef
    engine: Engine = field(repr=False)
    manifest: Manifest = field(repr=False)


@dataclass(frozen=True)
class Candidate:
    """Bytes whose size, signature and digest are verified. Nothing has parsed them yet."""

    ref: ModelRef
    data: bytes = field(repr=False)


class Installer:
    """Performs the steps on this device."""

    def __init__(
        self,
        keyring: Keyring,
        store: ModelStore,
        fetcher: Fetcher,
        prover: Prover,
        runtime: str,
        delegate: str = "",
    ) -> None:
        self._keyring = keyring
        self._store = store
        self._fetcher = fetcher
        self._prover = prover
        self._runtime = runtime
        self._delegate = delegate

    def check(self, section: object) -> Candidate:
        """Verify size, signature and digest, in this order.

        A model at an https address is downloaded after the signature is verified.
        """
        try:
            section = parse(section)
            if section.ref.size > MAX_ARTEFACT_BYTES:
                message = f"{section.ref.size} bytes; {MAX_ARTEFACT_BYTES} are allowed"
                raise ModelRefused("too-large", f"{section.ref}: {message}")
            data = self._fetch(section)
        except InvalidSection as error:
            raise ModelRefused("bad-section", str(error)) from error
        check(section.ref, data, self._keyring)
        return Candidate(section.ref, data)

    def prove(self, candidate: Candidate) -> Proved:
        """Store it, then parse and try it in a child process; its own name and version must be the signed."""
        path: Path = self._store.put(candidate.ref.sha256, candidate.data)
        return self._prover.run(path, str(candidate.ref))

    def load(self, candidate: Candidate) -> Running:
        """Parse, load and warm it in this process, beside the serving model. The attempt must be saved."""
        artefact = _artefact(candidate)
        try:
            engine = Engine(artefact, runtime=self._runtime, delegate=self._delegate)
            engine.warm()
        except MemoryError as error:
            raise ModelUnavailable("no-memory", f"{candidate.ref}: no memory left to load it") from error
        except NeedsDelegate as error:
            raise ModelRefused("needs-delegate", f"{candidate.ref}: {error}") from error
        except Exception as error:  # a runtime raises what it likes
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ModelRefused("load-failed", f"{candidate.ref}: {text}") from error
        if self._delegate:
            where = f"on {engine.delegate}" if engine.delegate else f"on the CPU: {engine.why_not}"
            log.info("model %s runs %s", candidate.ref, where)
        return Running(candidate.ref, engine, artefact.manifest)

    def restore(self, stored: StoredModel) -> Running:
        """Load it from disk. Its bytes and its signature are verified again, since disks and keys change.

        ModelRefused with `wrong-size` or `wrong-digest` means that the file is gone or damaged.
        """
        data = self._store.get(stored.ref.sha256) or b""
        check(stored.ref, data, self._keyring)
        return self.load(Candidate(stored.ref, data))

    def _fetch(self, section: ModelSection) -> bytes:
        if isinstance(section.source, Inline):
            return section.source.inflate(section.ref.size)
        # A stored artefact is not downloaded again, unless the disk has damaged it.
        stored = self._store.get(section.ref.sha256)
        if stored is not None and hashlib.sha256(stored).hexdigest() == section.ref.sha256:
            return stored
        # The URL is unsigned: verify the signature before any request.
        self._keyring.verify(section.ref)
        return self._fetcher.fetch(section.ref, section.source.uri)


def _artefact(candidate: Candidate) -> Artefact:
    try:
        artefact = read(candidate.data)
    except BadArtefact as error:
        raise ModelRefused("bad-artefact", f"{candidate.ref}: {error.reason}") from error
    check_name(artefact.manifest, str(candidate.ref))
    return artefact
