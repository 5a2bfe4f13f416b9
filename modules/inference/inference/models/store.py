"""What outlives the process: the stored artefacts, the model that served last, the quarantine.

Memory is pure and holds the rules. ModelStore writes the memory and the artefacts to disk, whole or not at
all. It verifies no artefact: the caller checks what it reads back.

>>> good = StoredModel(ModelRef("digits", "1.0.0", 1, "aa" * 32), section="5f2a")
>>> memory = Memory().attempting(good).promoted(good).marked_proven(good.ref.sha256)
>>> memory.active.proven, dict(memory.attempts)
(True, {})
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
from inference.invoke_mark import Interrupted
from inference.model_section import ModelRef
from inference.models.errors import ModelUnavailable, Reason
from inference.models.partial_file import PartialFile

T = TypeVar("T")

log = logging.getLogger(__name__)

SCHEMA = 1
MAX_STORED = 3
MAX_QUARANTINED = 64
MAX_ATTEMPTS = 8
MAX_STARTS = 2  # this many starts after a process died in a load or an invoke of the same model are a crash
_MAX_STATE_BYTES = 1024 * 1024
_STATE = "models.json"
_ARTEFACTS = "models"
_NEWER = "models.schema-*.json"  # the state of a newer version, set aside
_SHA256 = re.compile(rb"\b[0-9a-f]{64}\b")
NOTHING_INTERRUPTED = Interrupted()
_HALF = ".half"  # the suffix of a file until it is whole
_PART = ".part"  # … of a download, which the next process resumes
_DISK_CODES = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EROFS: "disk-read-only",
    errno.EACCES: "disk-read-only",
    errno.EPERM: "disk-read-only",
}


@dataclass(frozen=True)
class StoredModel:
    """An artefact on disk. `section` is the digest of the desired section that names it."""

    ref: ModelRef
    section: str
    proven: bool = False  # it has finished probation


@dataclass(frozen=True)
class Attempt:
    """A load in progress: saved before it begins. It stays after the load if a process died in one.

    A process that dies in an invoke of a model on probation counts too.
    """

    ref: ModelRef
    starts: int = 0  # after this many deaths the module started again
    open: bool = True  # the process that wrote this loads it


@dataclass(frozen=True)
class Memory:
    """The durable state. Each method returns the next one; both maps are keyed by digests of sections."""

    active: StoredModel | None = None
    others: tuple[StoredModel, ...] = ()  # the first one to go back to comes first
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    quarantine: Mapping[str, Reason] = field(default_factory=dict)

    @property
    def stored(self) -> tuple[StoredModel, ...]:
        return ((self.active,) if self.active else ()) + self.others

    @property
    def rollback_candidates(self) -> tuple[StoredModel, ...]:
        """The other models that passed probation and were not withdrawn since; the first is `previous`."""
        return tuple(each for each in self.others if each.proven and each.section not in self.quarantine)

    @property
    def restorable(self) -> tuple[StoredModel, ...]:
        """The models that may run at a start. One that was loaded when the process died is tried last."""
        able = ((self.active,) if self.active else ()) + self.rollback_candidates
        return tuple(sorted(able, key=self.doubtful))

    def find(self, sha256: str) -> StoredModel | None:
        return next((each for each in self.stored if each.ref.sha256 == sha256), None)

    # -- attempts and verdicts

    def attempting(self, model: StoredModel) -> "Memory":
        """It is about to be loaded. The count of an earlier attempt goes on."""
        before = self.attempts.get(model.section)
        attempt = Attempt(model.ref, before.starts if before else 0)
        return replace(self, attempts=_newest({**self.attempts, model.section: attempt}, MAX_ATTEMPTS))

    def judged(self, section: str) -> "Memory":
        """The attempt for this section has its verdict."""
        return replace(self, attempts=_without(self.attempts, section))

    def abandoned(self, section: str) -> "Memory":
        """The load of this section's model is over, well or through no fault of its own."""
        attempt = self.attempts.get(section)
        if attempt is None or not attempt.starts:
            return self.judged(section)
        return replace(self, attempts={**self.attempts, section: replace(attempt, open=False)})

    def quarantined(self, section: str, verdict: Reason) -> "Memory":
        """This exact section is not tried again; the oldest verdict makes room."""
        quarantine = _without(self.quarantine, section) | {section: verdict}
        return replace(self.judged(section), quarantine=_newest(quarantine, MAX_QUARANTINED))

    def released(self, section: str) -> "Memory":
        """A person wants this section to be tried again."""
        return replace(self, quarantine=_without(self.quarantine, section))

    # -- the serving model

    def promoted(self, model: StoredModel) -> "Memory":
        """It serves from now on; the model that served before is the first to go back to.

        An artefact that passed probation stays proven when it is published again, unless it was withdrawn.
        """
        before = self.find(model.ref.sha256)
        if before is not None and before.proven and before.section not in self.quarantine:
            model = replace(model, proven=True)
        others = [each for each in self.stored if each.ref.sha256 != model.ref.sha256]
        while len(others) > MAX_STORED - 1:
            # The device never goes back to an unproven model, so that one goes first.
            unproven = [each for each in others if not each.proven]
            others.remove(unproven[-1] if unproven else others[-1])
        replaced = self.active.section if self.active and self.active.section != model.section else ""
        return replace(self.abandoned(replaced), active=model, others=tuple(others))

    def requested_by(self, section: str, ref: ModelRef) -> "Memory":
        """Another section names the model that serves already; its signature may be by another key."""
        assert self.active is not None
        before = self.active.section
        attempts = {section if k == before else k: v for k, v in self.attempts.items()}
        return replace(self, active=replace(self.active, section=section, ref=ref), attempts=attempts)

    def marked_proven(self, sha256: str) -> "Memory":
        """It has passed probation."""
        model = self.find(sha256)
        if model is None:
            return self
        proven = replace(model, proven=True)
        others = tuple(proven if each is model else each for each in self.others)
        active = proven if model is self.active else self.active
        return replace(self.judged(model.section), active=active, others=others)

    def withdrawn(self, sha256: str) -> "Memory":
        """It serves no more. A proven model stays stored, behind the others; an unproven one is forgotten."""
        model = self.find(sha256)
        left = self.lost(sha256)
        return replace(left, others=(*left.others, model)) if model and model.proven else left

    def resumed(self, sha256: str) -> "Memory":
        """This stored model serves."""
        model = self.find(sha256)
        others = tuple(each for each in self.stored if each is not model)
        return replace(self, active=model, others=others) if model else self

    def lost(self, sha256: str) -> "Memory":
        """Its file is gone or damaged."""
        active = self.active if self.active and self.active.ref.sha256 != sha256 else None
        others = tuple(each for each in self.others if each.ref.sha256 != sha256)
        return replace(self, active=active, others=others)

    # -- the process

    def started(
        self, last: Interrupted = NOTHING_INTERRUPTED
    ) -> tuple["Memory", tuple[tuple[ModelRef, Reason], ...]]:
        """At each start: withdraw the model whose invoke hung, and those that killed the process too often.

        A death counts against a model if it happened during its load, or during its invoke on probation.
        """
        memory, crashed = self, list[tuple[ModelRef, Reason]]()
        invoked, hung = self.find(last.invoking), self.find(last.hung)
        if hung is not None:
            message = f"{hung.ref}: an invoke did not return within {last.hung_s:g} s"
            verdict = Reason("hangs-on-frame", message)
            memory = memory.quarantined(hung.section, verdict).withdrawn(hung.ref.sha256)
            crashed.append((hung.ref, verdict))
        elif invoked is not None and not invoked.proven:
            memory = memory.attempting(invoked)
        for section, attempt in memory.attempts.items():
            starts = attempt.starts + attempt.open
            memory = replace(
                memory, attempts={**memory.attempts, section: Attempt(attempt.ref, starts, False)}
            )
            if attempt.open and starts >= MAX_STARTS:
                message = f"{attempt.ref}: {starts} processes died while they loaded or invoked it"
                verdict = Reason("crashed", message)
                memory = memory.quarantined(section, verdict).withdrawn(attempt.ref.sha256)
                crashed.append((attempt.ref, verdict))
        return memory, tuple(crashed)

    def stopped(self) -> "Memory":
        """The process ends in good order, which is no crash."""
        memory = self
        for section in self.attempts:
            memory = memory.abandoned(section)
        return memory

    def doubtful(self, model: StoredModel) -> bool:
        """Whether a process died while it loaded or invoked this model."""
        attempt = self.attempts.get(model.section)
        return attempt is not None and attempt.starts > 0


def _without(table: Mapping[str, T], key: str) -> dict[str, T]:
    return {k: v for k, v in table.items() if k != key}


def _newest(table: Mapping[str, T], count: int) -> dict[str, T]:
    return dict(list(table.items())[-count:])


_MEMORY = TypeAdapter(Memory)


class ModelStore:
    """The folder. A file is replaced whole: a power cut leaves the old one or the new one.

    Reading never raises. Writing raises ModelUnavailable with a disk code.
    """

    def __init__(self, folder: Path) -> None:
        self.newer = ""  # why the state of a newer version was set aside at open(), if it was
        self._folder = folder
        self._artefacts = folder / _ARTEFACTS

    def open(self) -> Memory:
        """The memory of the last process, or an empty one. Removes half files and unknown artefacts."""
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
        self._replace(self._folder / _STATE, json.dumps(document).encode())

    def path(self, sha256: str) -> Path:
        return self._artefacts / f"{sha256}.tflite"

    def put(self, sha256: str, data: bytes) -> Path:
        """Store an artefact; replaces the file of the same digest."""
        self._replace(self.path(sha256), data)
        return self.path(sha256)

    def get(self, sha256: str) -> bytes | None:
        """An artefact's bytes from disk, unverified; None if they cannot be read."""
        return _read_capped(self.path(sha256), MAX_ARTEFACT_BYTES)

    def partial_file(self, sha256: str) -> PartialFile:
        """The partial file of a download of this artefact. Removes those of other artefacts."""
        path = self._artefacts / f"{sha256}{_PART}"
        self._keep_only(f"*{_PART}", {path.name})
        return PartialFile(path)

    def sweep(self, memory: Memory, candidate: str = "") -> None:
        """Remove every partial file, and every artefact but those of the memory and `candidate` (a sha256).

        The artefacts that the state of a newer version names stay too.
        """
        self._keep_only("*.tflite", self._named(memory) | {self.path(candidate).name})
        self._keep_only(f"*{_PART}", set())

    def _named(self, memory: Memory) -> set[str]:
        asides = [_read_capped(path, _MAX_STATE_BYTES) for path in self._folder.glob(_NEWER)]
        theirs = {sha256.decode() for aside in asides for sha256 in _SHA256.findall(aside or b"")}
        return {self.path(sha256).name for sha256 in theirs | {each.ref.sha256 for each in memory.stored}}

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
        """Start with an empty state; the old file stays, for a version that can read it."""
        state = self._folder / _STATE
        log.error("model state %s: %s; set aside as %s, starting with an empty one", state, why, name)
        try:
            os.replace(state, self._folder / name)
        except OSError as error:
            log.warning("model state %s: %s", state, error.strerror)

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
            raise disk_error(error, path.parent) from error


def disk_error(error: OSError, folder: Path) -> ModelUnavailable:
    """An error of the disk as a ModelUnavailable with one of the disk codes."""
    code = _DISK_CODES.get(error.errno or 0, "disk-error")
    cure = f"; cure: let user {os.getuid()} write there" if code == "disk-read-only" else ""
    return ModelUnavailable(code, f"{folder}: {error.strerror or error}{cure}")


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
    """A rename is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # some network folders cannot; their server syncs
            raise
    finally:
        os.close(descriptor)
