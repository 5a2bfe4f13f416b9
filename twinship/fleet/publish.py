"""Puts a model into a module's twin and waits for the device's verdict.

Signs and cuts with inference.model_section, refuses here what can be known here, and merges so that nothing of the
section before remains. Where the artefact itself goes is sources.py's. It judges no model: the device does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from inference import artefact as artefacts
from inference import model_section
from inference.model_section import ModelRef, ModelState
from twinship.fleet import FleetError
from twinship.fleet.connection import Connection
from twinship.fleet.keys import SigningKey
from twinship.fleet.places import ArtefactStore
from twinship.fleet.rollout import RollOut, Targeting, roll_out
from twinship.fleet.service import HubUnavailable, ModuleTwin, PreconditionFailed, ServiceHub
from twinship.fleet.sources import inline
from twinship.fleet.status import ModelStatus, Refusal

MAX_DESIRED_BYTES = 32_768  # IoT Hub's limit for the desired properties of one twin (ref 4.9)
WRITE_ATTEMPTS = 5  # each one lost to somebody who wrote between our reading and our writing
POLL_S = 2.0  # edgeHub sends reported properties upstream at most every 5 s
POLL_LOOPBACK_S = 0.25

PENDING = "pending"  # the device has not answered what is wanted now
SUPERSEDED = "superseded"  # someone published another model meanwhile

#: The states after which a device does nothing more about a model by itself.
FINAL = frozenset({ModelState.ACTIVE, ModelState.REFUSED, ModelState.WITHDRAWN, SUPERSEDED})

Section = dict[str, Any]
Progress = Callable[[str], None]


class CannotPublish(FleetError):
    """Known here and now, before any hub was asked or anything changed: this would not work."""


class Twins(Protocol):
    """What is asked of a hub here; ServiceHub is one, the tests' is another."""

    def module_twin(self, device: str, module: str) -> ModuleTwin: ...

    def patch_desired(self, device: str, module: str, patch: Mapping[str, Any], etag: str) -> ModuleTwin: ...


@dataclass(frozen=True)
class Signed:
    """An artefact that was read and signed, and fits or lies where devices find it: ready for any twin."""

    ref: ModelRef
    data: bytes = field(repr=False)
    uri: str | None = field(default=None, repr=False)  # None: inside the twin

    def section(self, attempt: int = 1) -> Section:
        """The desired `model` section."""
        if self.uri is None:
            return model_section.section_for(self.ref, self.data, attempt)
        return model_section.section_at(self.ref, self.uri, attempt)

    def patch(self, attempt: int = 1) -> Section:
        """The patch of the desired properties for az or the portal.

        It assumes a twin without a `model` section: what an older one holds beyond this one cannot be nulled
        without reading it, and the device refuses such leftovers by name.
        """
        return {"model": self.section(attempt)}


@dataclass(frozen=True)
class Waiting:
    """How to wait for a verdict. `until_active`: through probation too, which takes 50 answered frames."""

    wait_s: float = 120.0  # 0: do not wait
    until_active: bool = True
    poll_s: float = POLL_S
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Verdict:
    """Where a device stands with one model. `state`: an inference.model_section.ModelState, PENDING or SUPERSEDED."""

    state: str
    error: Refusal | None = None
    timings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishResult:
    """What was asked of the device, and what it said."""

    device: str
    module: str
    ref: ModelRef
    attempt: int
    written: bool  # False: the twin asked for exactly this already
    desired_version: int
    verdict: Verdict
    waited_s: float
    patch: Section = field(repr=False)  # what was written

    @property
    def ok(self) -> bool:
        """True when frames are answered by this model."""
        return self.verdict.state in (ModelState.ACTIVE, ModelState.PROBATION)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types, without the patch."""
        error = self.verdict.error
        return {
            "device": self.device,
            "module": self.module,
            "model": {**self.ref.reported(), "size": self.ref.size, "keyId": self.ref.key_id},
            "attempt": self.attempt,
            "written": self.written,
            "desiredVersion": self.desired_version,
            "state": str(self.verdict.state),
            "error": {"code": error.code, "message": error.message} if error else None,
            "timings": dict(self.verdict.timings),
            "waitedS": round(self.waited_s, 3),
        }


# -- before any hub is asked --------------------------------------------------------------------------------


def sign(path: Path, key: SigningKey, place: ArtefactStore = inline) -> Signed:
    """Read an artefact, sign it, put it in its place. Raises CannotPublish when it is none or does not fit
    there, CannotStore."""
    data = _read(path)
    try:
        found = artefacts.read(data)
    except artefacts.BadArtefact as error:
        raise CannotPublish(
            f"{path} is no model artefact ({error.reason}); cure: publish the model.tflite of twinship train"
        ) from error
    manifest = found.manifest
    unsigned = ModelRef(manifest.name, manifest.version, found.size, found.sha256)
    signature = key.sign(unsigned.signed_bytes())
    ref = ModelRef(manifest.name, manifest.version, found.size, found.sha256, signature, key.key_id)
    signed = Signed(ref, data, place(ref, data))
    _refuse_misfit(path, signed)
    return signed


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(artefacts.MAX_ARTEFACT_BYTES + 1)
    except OSError as error:
        raise CannotPublish(
            f"{path} cannot be read ({error.strerror}); cure: twinship train makes build/model/model.tflite"
        ) from error
    return data


def _refuse_misfit(path: Path, signed: Signed) -> None:
    try:
        signed.section()
    except model_section.DoesNotFit as error:
        raise CannotPublish(
            f"{path} takes {error.characters:,} characters inside the twin, {error.limit:,} are allowed; "
            "cure: --store blob (Azure Storage), --store simulator, --url URL (you host it at that https "
            "address), or a smaller model (twinship train --arch micro)"
        ) from error
    except model_section.InvalidSection as error:
        raise CannotPublish(f"devices do not take this address ({error}); cure: --url https://…") from error


def layer(signed: Signed, module: str) -> Section:
    """The content of a layered deployment that adds the model to the module's twin, and nothing else (ref 8).

    Re-applying a manifest leaves it alone: the layer lies over it. It knows no single device's attempt: one
    that gave up on this model tries again at another section, or when its method `reload` is called.
    """
    return {module: {"properties.desired.model": signed.section()}}


def publish_layer(
    connection: Connection,
    artefact_path: Path,
    key: SigningKey,
    module: str,
    targeting: Targeting,
    *,
    place: ArtefactStore = inline,
) -> RollOut:
    """Sign an artefact, put it in its `place`, lay it over the manifests of all targeted devices.

    Raises CannotPublish and CannotStore (nothing was changed), NotConfigured, HubUnavailable, HubRefused.
    """
    signed = sign(artefact_path, key, place)
    with ServiceHub(connection) as hub:
        return roll_out(hub, connection.host, targeting, layer(signed, module))


# -- the merge ----------------------------------------------------------------------------------------------


def merged(document: object, patch: Mapping[str, Any]) -> Section:
    """What a twin holds after a patch: objects merge, null deletes (RFC 7396, ref 5.3)."""
    result = dict(document) if isinstance(document, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value) if isinstance(value, Mapping) else value
    return result


def replacing(before: object, after: Mapping[str, Any]) -> Section:
    """The patch that leaves exactly `after`: all of it, and a null for each key that only `before` has."""
    old = before if isinstance(before, Mapping) else {}
    gone: Section = {name: None for name in old if name not in after}
    new = {
        name: replacing(old.get(name), value) if isinstance(value, Mapping) else value
        for name, value in after.items()
    }
    return gone | new


def refuse_overweight(twin: ModuleTwin, patch: Mapping[str, Any]) -> None:
    """Raise CannotPublish when the desired properties would pass IoT Hub's limit with this patch."""
    after = {name: value for name, value in merged(twin.desired, patch).items() if not name.startswith("$")}
    if (total := model_section.twin_bytes(after)) > MAX_DESIRED_BYTES:
        model = model_section.twin_bytes(after["model"])
        raise CannotPublish(
            f"the desired properties of {twin.device}/{twin.module} would take {total:,} bytes of "
            f"{MAX_DESIRED_BYTES:,}, the model {model:,} of them; cure: shorten the other sections, or "
            "train a smaller model (--arch micro)"
        )


def next_attempt(twin: ModuleTwin, signed: Signed) -> int:
    """The attempt to write: a device that gave up on this very section tries again only when it changes."""
    before = twin.desired.get("model")
    old = before.get("attempt") if isinstance(before, Mapping) else None
    if (
        not isinstance(old, int)
        or not isinstance(before, Mapping)
        or before.get("sha256") != signed.ref.sha256
    ):
        return 1
    given_up = verdict(twin, signed.ref.sha256, 0).state in (ModelState.REFUSED, ModelState.WITHDRAWN)
    return old + 1 if given_up else old


# -- the device's answer ------------------------------------------------------------------------------------


def verdict(twin: ModuleTwin, sha256: str, desired_version: int) -> Verdict:
    """Where the device stands with the model of this digest, wanted since this desired version."""
    status = ModelStatus.read(twin)
    if status.wanted is None or status.wanted.sha256 != sha256:
        return Verdict(SUPERSEDED)
    if status.answered_version is None or status.answered_version < desired_version or not status.state:
        return Verdict(PENDING)
    answers = status.active is not None and status.active.sha256 == sha256
    if status.state in (ModelState.ACTIVE, ModelState.PROBATION) and not answers:
        return Verdict(PENDING)  # the state is the one before's
    return Verdict(status.state, status.error, status.timings)


def publish(
    connection: Connection,
    artefact_path: Path,
    key: SigningKey,
    device: str,
    module: str,
    *,
    place: ArtefactStore = inline,
    wait_s: float = 120.0,
    until_active: bool = True,
    attempt: int | None = None,
    progress: Progress = lambda line: None,
) -> PublishResult:
    """Sign an artefact, put it in its `place`, write the module's twin, wait up to `wait_s` for the verdict.

    `attempt` None: as needed, so that a model which was refused is tried again. `progress` gets a line
    whenever the device's state changes. Raises CannotPublish and CannotStore (no twin was changed),
    NotConfigured, NotFound, HubUnavailable, HubRefused.
    """
    signed = sign(artefact_path, key, place)
    waiting = Waiting(wait_s, until_active, POLL_LOOPBACK_S if connection.loopback else POLL_S)
    with ServiceHub(connection) as hub:
        return publish_to(hub, signed, device, module, waiting=waiting, attempt=attempt, progress=progress)


def publish_to(
    hub: Twins,
    signed: Signed,
    device: str,
    module: str,
    *,
    waiting: Waiting,
    attempt: int | None = None,
    progress: Progress = lambda line: None,
) -> PublishResult:
    """The same on any hub, for an artefact that is signed already."""
    started = waiting.now()
    writing = _write(hub, signed, device, module, attempt)
    version = int(writing.after.desired.get("$version", 0))
    how = "written to" if writing.written else "stands already in"
    progress(f"{signed.ref} {how} the twin of {device}/{module}")
    since = version if writing.written else 0
    found = _awaited(hub, writing.after, signed.ref.sha256, since, waiting, progress)
    return PublishResult(
        device,
        module,
        signed.ref,
        attempt=writing.section["attempt"],
        written=writing.written,
        desired_version=version,
        verdict=found,
        waited_s=waiting.now() - started,
        patch=writing.patch,
    )


@dataclass(frozen=True)
class _Writing:
    after: ModuleTwin
    section: Section
    patch: Section  # {} when the twin held the section already

    @property
    def written(self) -> bool:
        return bool(self.patch)


def _write(hub: Twins, signed: Signed, device: str, module: str, attempt: int | None) -> _Writing:
    """Read, merge, write if nobody wrote between; again when somebody did."""
    for _ in range(WRITE_ATTEMPTS):
        twin = hub.module_twin(device, module)
        section = signed.section(next_attempt(twin, signed) if attempt is None else attempt)
        if twin.desired.get("model") == section:
            return _Writing(twin, section, {})
        patch = {"model": replacing(twin.desired.get("model"), section)}
        refuse_overweight(twin, patch)
        try:
            return _Writing(hub.patch_desired(device, module, patch, twin.etag), section, patch)
        except PreconditionFailed as error:
            lost = error
    raise lost


def _awaited(
    hub: Twins, twin: ModuleTwin, sha256: str, version: int, waiting: Waiting, progress: Progress
) -> Verdict:
    """Polls until a verdict is final or the time is up; a hub that is away for a moment is asked again."""
    deadline = waiting.now() + waiting.wait_s
    found = verdict(twin, sha256, version)
    said = ""
    while True:
        if found.state != said:
            said = found.state
            progress(_line(found, twin))
        done = found.state in FINAL or (found.state == ModelState.PROBATION and not waiting.until_active)
        if done or waiting.now() >= deadline:
            return found
        waiting.sleep(min(waiting.poll_s, max(0.0, deadline - waiting.now())))
        try:
            twin = hub.module_twin(twin.device, twin.module)
        except HubUnavailable as error:
            progress(str(error))
            continue
        found = verdict(twin, sha256, version)


def _line(found: Verdict, twin: ModuleTwin) -> str:
    if found.state == PENDING:
        return f"pending: {twin.device}/{twin.module} is {twin.connection_state.lower() or 'unknown'}"
    return f"{found.state}: {found.error.code}: {found.error.message}" if found.error else str(found.state)
