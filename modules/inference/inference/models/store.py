"""What outlives the process: the kept artefacts, who answered last, what must not be tried again.

Two layers: Memory is pure, and knows the rules; ModelStore moves it and the artefacts to and from disk, whole
or not at all. It verifies no artefact: whoever reads one back checks it.
"""

import errno
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from inference.artefact import MAX_ARTEFACT_BYTES
from inference.model_section import ModelRef
from inference.models.errors import ModelUnavailable
from inference.models.partial_file import Part

T = TypeVar("T")

log = logging.getLogger(__name__)

SCHEMA = 1
MAX_KEPT = 3
MAX_QUARANTINED = 64
MAX_ATTEMPTS = 8
MAX_STARTS = 2  # so many starts that find an attempt without a verdict make a crash
_MAX_STATE_BYTES = 1024 * 1024
_STATE = "models.json"
_ARTEFACTS = "models"
_NEWER = "models.schema-*.json"  # the state of a version after this one, set aside
_SHA256 = re.compile(rb"\b[0-9a-f]{64}\b")
_HALF = ".half"  # what a file is called until it is whole
_PART = ".part"  # … and a download, which the next process goes on with
_DISK_CODES = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EROFS: "disk-read-only",
    errno.EACCES: "disk-read-only",
    errno.EPERM: "disk-read-only",
}


@dataclass(frozen=True)
class StoredModel:
    """An artefact on disk. `section` is the digest of the desired section that asked for it."""

    ref: ModelRef
    section: str
    proven: bool = False  # it has finished probation


@dataclass(frozen=True)
class Attempt:
    """A load that has no verdict yet: written before it, taken away by the verdict."""

    ref: ModelRef
    starts: int = 0  # this many starts found it open
    open: bool = True  # loaded, or being loaded, by the process that wrote this


@dataclass(frozen=True)
class Verdict:
    """Why a section is not tried again: one of reconcile.CODES, and one line."""

    code: str
    message: str


@dataclass(frozen=True)
class Memory:
    """The durable state. Each method returns the next one; both maps are keyed by digests of sections."""

    active: StoredModel | None = None
    others: tuple[StoredModel, ...] = ()  # in the order of going back
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    quarantine: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[StoredModel, ...]:
        return ((self.active,) if self.active else ()) + self.others

    @property
    def rollback_candidates(self) -> tuple[StoredModel, ...]:
        """The other models that finished probation and were not withdrawn since; the first is `previous`."""
        return tuple(kept for kept in self.others if kept.proven and kept.section not in self.quarantine)

    @property
    def restorable(self) -> tuple[StoredModel, ...]:
        """What may run at a start, best first. What may have killed the last process is the last resort."""
        able = ((self.active,) if self.active else ()) + self.rollback_candidates
        return tuple(sorted(able, key=self.doubtful))

    def find(self, sha256: str) -> StoredModel | None:
        return next((kept for kept in self.kept if kept.ref.sha256 == sha256), None)

    # -- attempts and verdicts

    def attempting(self, kept: StoredModel) -> "Memory":
        """About to load it. An attempt that an earlier start found goes on counting."""
        before = self.attempts.get(kept.section)
        attempt = Attempt(kept.ref, before.starts if before else 0)
        return replace(self, attempts=_newest({**self.attempts, kept.section: attempt}, MAX_ATTEMPTS))

    def judged(self, section: str) -> "Memory":
        """What was attempted for this section has its verdict."""
        return replace(self, attempts=_without(self.attempts, section))

    def abandoned(self, section: str) -> "Memory":
        """It is not loaded any more, for no fault of its own."""
        attempt = self.attempts.get(section)
        if attempt is None or not attempt.starts:
            return self.judged(section)
        return replace(self, attempts={**self.attempts, section: replace(attempt, open=False)})

    def quarantined(self, section: str, verdict: Verdict) -> "Memory":
        """This exact section is not tried again; the oldest verdict makes room."""
        quarantine = _without(self.quarantine, section) | {section: verdict}
        return replace(self.judged(section), quarantine=_newest(quarantine, MAX_QUARANTINED))

    def released(self, section: str) -> "Memory":
        """A person wants this section to be tried again."""
        return replace(self, quarantine=_without(self.quarantine, section))

    # -- who answers

    def promoted(self, kept: StoredModel) -> "Memory":
        """It answers from now on; what answered before comes next in the order of going back."""
        others = [each for each in self.kept if each.ref.sha256 != kept.ref.sha256]
        while len(others) > MAX_KEPT - 1:
            # An unproven one is no way back: it goes before the others do.
            unproven = [each for each in others if not each.proven]
            others.remove(unproven[-1] if unproven else others[-1])
        replaced = self.active.section if self.active and self.active.section != kept.section else ""
        return replace(self.abandoned(replaced), active=kept, others=tuple(others))

    def asked_by(self, section: str, ref: ModelRef) -> "Memory":
        """Another section asks for what runs already; its signature may be by another key."""
        assert self.active is not None
        before = self.active.section
        attempts = {section if k == before else k: v for k, v in self.attempts.items()}
        return replace(self, active=replace(self.active, section=section, ref=ref), attempts=attempts)

    def settled(self, sha256: str) -> "Memory":
        """It has finished probation."""
        kept = self.find(sha256)
        if kept is None:
            return self
        proven = replace(kept, proven=True)
        if kept is self.active:
            return replace(self.judged(kept.section), active=proven)
        others = tuple(proven if each is kept else each for each in self.others)
        return replace(self.judged(kept.section), others=others)

    def withdrawn(self, sha256: str) -> "Memory":
        """It answers no more. If it had finished probation it is kept, behind the others; else forgotten."""
        kept = self.find(sha256)
        left = self.lost(sha256)
        return replace(left, others=(*left.others, kept)) if kept and kept.proven else left

    def resumed(self, sha256: str) -> "Memory":
        """This one of the kept answers again."""
        kept = self.find(sha256)
        others = tuple(each for each in self.kept if each is not kept)
        return replace(self, active=kept, others=others) if kept else self

    def lost(self, sha256: str) -> "Memory":
        """Its file is gone or damaged."""
        active = self.active if self.active and self.active.ref.sha256 != sha256 else None
        return replace(self, active=active, others=tuple(k for k in self.others if k.ref.sha256 != sha256))

    # -- the process

    def started(self) -> tuple["Memory", tuple[tuple[ModelRef, Verdict], ...]]:
        """At each start: count the open attempts. Those that are found too often have crashed."""
        memory, crashed = self, list[tuple[ModelRef, Verdict]]()
        for section, attempt in self.attempts.items():
            starts = attempt.starts + attempt.open
            memory = replace(
                memory, attempts={**memory.attempts, section: Attempt(attempt.ref, starts, False)}
            )
            if attempt.open and starts >= MAX_STARTS:
                message = f"{attempt.ref} was loaded at {starts} starts, and each time the process died"
                verdict = Verdict("crashed", message)
                memory = memory.quarantined(section, verdict).withdrawn(attempt.ref.sha256)
                crashed.append((attempt.ref, verdict))
        return memory, tuple(crashed)

    def stopped(self) -> "Memory":
        """The process ends in good order: that is not a crash."""
        memory = self
        for section in self.attempts:
            memory = memory.abandoned(section)
        return memory

    def doubtful(self, kept: StoredModel) -> bool:
        """A process died with it loaded, and nobody knows yet of what."""
        attempt = self.attempts.get(kept.section)
        return attempt is not None and attempt.starts > 0


def _without(table: Mapping[str, T], key: str) -> dict[str, T]:
    return {k: v for k, v in table.items() if k != key}


def _newest(table: Mapping[str, T], count: int) -> dict[str, T]:
    return dict(list(table.items())[-count:])


_MEMORY = TypeAdapter(Memory)


class ModelStore:
    """The folder. Its files are replaced whole: a power cut leaves the old one or the new one.

    Reading never raises. Writing raises ModelUnavailable with a disk code.
    """

    def __init__(self, folder: Path) -> None:
        self.newer = ""  # why the state of a newer version was set aside at open(), if it was
        self._folder = folder
        self._artefacts = folder / _ARTEFACTS

    def open(self) -> Memory:
        """The memory of the last process; an empty one where there is none to be had. Cleans up."""
        try:
            self._artefacts.mkdir(parents=True, exist_ok=True)
            for half in [*self._folder.glob(f"*{_HALF}"), *self._artefacts.glob(f"*{_HALF}")]:
                half.unlink()
        except OSError as error:
            log.warning("model folder %s: %s", self._folder, error.strerror)
        memory = self._read()
        self._keep_only("*.tflite", self._named(memory))
        return memory

    def save(self, memory: Memory) -> None:
        document = {"schema": SCHEMA, **_MEMORY.dump_python(memory, mode="json")}
        self._replace(self._folder / _STATE, json.dumps(document, indent=1).encode())

    def path(self, sha256: str) -> Path:
        return self._artefacts / f"{sha256}.tflite"

    def put(self, sha256: str, data: bytes) -> Path:
        """Store an artefact; what is there under this digest is replaced."""
        self._replace(self.path(sha256), data)
        return self.path(sha256)

    def get(self, sha256: str) -> bytes | None:
        """An artefact's bytes as they are on disk, unverified; None when they cannot be read."""
        return _read_capped(self.path(sha256), MAX_ARTEFACT_BYTES)

    def part(self, sha256: str) -> Part:
        """Where a download of this artefact goes. There is one at a time: those of others are removed."""
        path = self._artefacts / f"{sha256}{_PART}"
        self._keep_only(f"*{_PART}", {path.name})
        return Part(path)

    def sweep(self, memory: Memory, candidate: str = "") -> None:
        """Remove the artefacts that the memory does not name, nor `candidate` (a digest); and every part.

        Those that a newer version's state names are that version's to remove.
        """
        self._keep_only("*.tflite", self._named(memory) | {self.path(candidate).name})
        self._keep_only(f"*{_PART}", set())

    def _named(self, memory: Memory) -> set[str]:
        asides = [_read_capped(path, _MAX_STATE_BYTES) for path in self._folder.glob(_NEWER)]
        theirs = {sha256.decode() for aside in asides for sha256 in _SHA256.findall(aside or b"")}
        return {self.path(sha256).name for sha256 in theirs | {kept.ref.sha256 for kept in memory.kept}}

    def _keep_only(self, pattern: str, names: set[str]) -> None:
        try:
            for path in self._artefacts.glob(pattern):
                if path.name not in names:
                    path.unlink()
        except OSError as error:
            log.warning("model folder %s: %s", self._folder, error.strerror)

    def _read(self) -> Memory:
        content = _read_capped(self._folder / _STATE, _MAX_STATE_BYTES)
        if content is None:
            return Memory()
        try:
            document = json.loads(content)
            schema = document.pop("schema")
            if schema == SCHEMA:
                return _MEMORY.validate_python(document)
            self.newer = f"{_STATE} has schema {int(schema)}, this version knows {SCHEMA}"
            self._set_aside(_NEWER.replace("*", str(int(schema))), self.newer)
        except (ValueError, ValidationError, AttributeError, KeyError, TypeError, RecursionError):
            self._set_aside("models.unreadable.json", "not readable")
        return Memory()

    def _set_aside(self, name: str, why: str) -> None:
        """Begin anew, but leave what was there to whoever can read it."""
        log.error("model state %s: %s; kept as %s, beginning anew", self._folder / _STATE, why, name)
        try:
            os.replace(self._folder / _STATE, self._folder / name)
        except OSError as error:
            log.warning("model state %s: %s", self._folder / _STATE, error.strerror)

    def _replace(self, path: Path, content: bytes) -> None:
        half: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=_HALF, delete=False) as file:
                half = Path(file.name)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(half, path)
            _sync_folder(path.parent)
        except OSError as error:
            if half is not None:
                half.unlink(missing_ok=True)
            raise disk_trouble(error, path.parent) from error


def disk_trouble(error: OSError, folder: Path) -> ModelUnavailable:
    """What the disk said, as one of the disk codes."""
    code = _DISK_CODES.get(error.errno or 0, "disk-error")
    return ModelUnavailable(code, f"{folder}: {error.strerror or error}")


def _read_capped(path: Path, max_bytes: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        if error.errno != errno.ENOENT:
            log.warning("%s: %s", path, error.strerror)
        return None
    return content if len(content) <= max_bytes else None


def _sync_folder(folder: Path) -> None:
    """A rename is on disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network folders cannot; their server does
            raise
    finally:
        os.close(descriptor)
