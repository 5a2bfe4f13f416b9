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
from inference.models.prove import Proved, Prover
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
    """An artefact whose size, signature and digest are verified. It is not loaded yet."""

    ref: ModelRef
    artefact: Artefact = field(repr=False)


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
        """Verify size, signature and digest, in this order; then the artefact's own name and version.

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
        return self._candidate(section.ref, data)

    def prove(self, candidate: Candidate) -> Proved:
        """Store it and try it in a child process."""
        path: Path = self._store.put(candidate.ref.sha256, candidate.artefact.data)
        return self._prover.run(path)

    def load(self, candidate: Candidate) -> Running:
        """Load and warm it in this process, beside the serving model."""
        try:
            engine = Engine(candidate.artefact, runtime=self._runtime, delegate=self._delegate)
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
        return Running(candidate.ref, engine, candidate.artefact.manifest)

    def restore(self, stored: StoredModel) -> Running:
        """Load it from disk. Its bytes and its signature are verified again, since disks and keys change.

        ModelRefused with `wrong-size` or `wrong-digest` means that the file is gone or damaged.
        """
        return self.load(self._candidate(stored.ref, self._store.get(stored.ref.sha256) or b""))

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

    def _candidate(self, ref: ModelRef, data: bytes) -> Candidate:
        check(ref, data, self._keyring)
        try:
            artefact = read(data)
        except BadArtefact as error:
            raise ModelRefused("bad-artefact", f"{ref}: {error.reason}") from error
        own_name = f"{artefact.manifest.name}:{artefact.manifest.version}"
        if own_name != str(ref):
            raise ModelRefused("wrong-name", f"{ref}: the artefact calls itself {own_name}")
        return Candidate(ref, artefact)
