"""Writes a model into a module's twin and waits for the device's verdict.

Signs the artefact, stores it where devices find it, and patches the twin so that nothing of the previous
section remains. Problems that can be found without the device are reported before anything changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from inference import model_section
from inference.model_section import ModelRef, ModelState
from twinship.fleet.artefact_store import ArtefactStore, Hosted, inline
from twinship.fleet.connection import Connection
from twinship.fleet.keys import SigningKey
from twinship.fleet.rollout import RollOut, Targeting, roll_out
from twinship.fleet.service import HubUnavailable, ModuleTwin, PreconditionFailed, ServiceHub
from twinship.fleet.signed_artefact import (
    CannotPublish,
    Section,
    SignedArtefact,
    layer,
    read_and_sign,
    sign,
    store_signed,
)
from twinship.fleet.status import ModelError, ModelStatus
from twinship.fleet.trust import KEY_ERRORS, deployed_keys
from twinship.fleet.twin_patch import merge, replacement

MAX_DESIRED_BYTES = 32_768  # IoT Hub's limit for the desired properties of one twin (ref 4.9)
WRITE_ATTEMPTS = 5  # an attempt fails if somebody else writes the twin between our read and our write
POLL_S = 2.0  # edgeHub sends reported properties upstream at most every 5 s
POLL_LOOPBACK_S = 0.25
FIRST_REPORT_S = 6.0  # edgeHub sends a module's reports upstream in parts, at most every 5 s

PENDING = "pending"  # the device has not yet reported on the present section
SUPERSEDED = "superseded"  # somebody published another model in the meantime

#: In these states a device does nothing more about a model by itself.
FINAL = frozenset({ModelState.ACTIVE, ModelState.REFUSED, ModelState.WITHDRAWN, SUPERSEDED})

Progress = Callable[[str], None]


class TwinService(Protocol):
    """The part of ServiceHub that publishing uses."""

    def module_twin(self, device: str, module: str) -> ModuleTwin: ...

    def patch_desired(self, device: str, module: str, patch: Mapping[str, Any], etag: str) -> ModuleTwin: ...


@dataclass(frozen=True)
class WaitOptions:
    """How to wait for a verdict. `until_active`: also wait for the end of probation (50 answered frames)."""

    wait_s: float = 120.0  # 0: do not wait
    until_active: bool = True
    poll_s: float = POLL_S
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Verdict:
    """The state of one model on a device: a ModelState, PENDING or SUPERSEDED."""

    state: str
    error: ModelError | None = None
    timings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishResult:
    """What was written into the twin, and the device's verdict."""

    device: str
    module: str
    ref: ModelRef
    attempt: int
    written: bool  # False: the twin already contained exactly this section
    desired_version: int
    verdict: Verdict
    waited_s: float
    patch: Section = field(repr=False)  # what was written

    @property
    def ok(self) -> bool:
        """True if this model answers frames."""
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


def publish_layer(
    connection: Connection,
    artefact_path: Path,
    key: SigningKey,
    module: str,
    targeting: Targeting,
    *,
    store: ArtefactStore = inline,
) -> RollOut:
    """Sign and store an artefact, and add it to the manifests of all targeted devices.

    Raises CannotPublish and CannotStore (nothing was changed), NotConfigured, HubUnavailable, HubRefused.
    """
    signed = sign(artefact_path, key, store)
    with ServiceHub(connection) as hub:
        return roll_out(hub, connection.host, targeting, layer(signed, module))


# -- the patch ----------------------------------------------------------------------------------------------


def refuse_overweight(twin: ModuleTwin, patch: Mapping[str, Any]) -> None:
    """Raise CannotPublish if the desired properties would exceed IoT Hub's limit after this patch."""
    after = {name: value for name, value in merge(twin.desired, patch).items() if not name.startswith("$")}
    if (total := model_section.twin_bytes(after)) > MAX_DESIRED_BYTES:
        model = model_section.twin_bytes(after["model"])
        raise CannotPublish(
            f"the desired properties of {twin.device}/{twin.module} would take {total:,} bytes of "
            f"{MAX_DESIRED_BYTES:,}, the model {model:,} of them; cure: shorten the other sections, or "
            "train a smaller model (--arch micro)"
        )


def refuse_module_without_models(hub: TwinService, device: str, module: str, options: WaitOptions) -> None:
    """Raise CannotPublish if the module is one that runs no models, as the camera.

    Such a module reports other sections and never `modelStatus`. A module that has just connected may report
    it last, so the twin is read again for FIRST_REPORT_S. One that has reported nothing yet may run models.
    """
    deadline = options.now() + FIRST_REPORT_S
    while _runs_no_models(hub.module_twin(device, module)):
        if options.now() >= deadline:
            raise CannotPublish(
                f"{device}/{module} runs no models: it reports other sections and no modelStatus; "
                "cure: name with --module the module that answers frames"
            )
        options.sleep(options.poll_s)


def _runs_no_models(twin: ModuleTwin) -> bool:
    reports = {name for name in twin.reported if not name.startswith("$")}
    return bool(reports) and "modelStatus" not in reports and "model" not in twin.desired


def next_attempt(twin: ModuleTwin, sha256: str) -> int:
    """The attempt to write. A device that refused this very section tries it again only if it changes."""
    before = twin.desired.get("model")
    if not isinstance(before, Mapping) or before.get("sha256") != sha256:
        return 1
    attempt = before.get("attempt")
    if not isinstance(attempt, int):
        return 1
    given_up = verdict(twin, sha256, 0).state in (ModelState.REFUSED, ModelState.WITHDRAWN)
    return attempt + 1 if given_up else attempt


# -- the device's verdict -----------------------------------------------------------------------------------


def verdict(twin: ModuleTwin, sha256: str, desired_version: int) -> Verdict:
    """The device's verdict on the model with this digest, which the twin names since this desired version."""
    status = ModelStatus.read(twin)
    if status.wanted is None or status.wanted.sha256 != sha256:
        return Verdict(SUPERSEDED)
    if status.answered_version is None or status.answered_version < desired_version or not status.state:
        return Verdict(PENDING)
    is_active = status.active is not None and status.active.sha256 == sha256
    if status.state in (ModelState.ACTIVE, ModelState.PROBATION) and not is_active:
        return Verdict(PENDING)  # the state is that of the previous model
    return Verdict(status.state, status.error, status.timings)


def publish(
    connection: Connection,
    artefact_path: Path,
    key: SigningKey,
    device: str,
    module: str,
    *,
    store: ArtefactStore = inline,
    wait_s: float = 120.0,
    until_active: bool = True,
    attempt: int | None = None,
    progress: Progress = lambda line: None,
) -> PublishResult:
    """Sign and store an artefact, write the module's twin, wait up to `wait_s` seconds for the verdict.

    With `attempt` None the attempt is chosen so that a refused model is tried again. `progress` gets a line
    whenever the device's state changes. Raises CannotPublish and CannotStore (no twin was changed),
    NotConfigured, NotFound, HubUnavailable, HubRefused.
    """
    ref, data = read_and_sign(artefact_path, key)
    if store is inline or isinstance(store, Hosted):
        store_signed(artefact_path, ref, data, store)  # stores nothing: whether it fits needs no hub
    options = WaitOptions(wait_s, until_active, POLL_LOOPBACK_S if connection.loopback else POLL_S)
    with ServiceHub(connection) as hub:
        refuse_module_without_models(hub, device, module, options)
        signed = store_signed(artefact_path, ref, data, store)
        return publish_to(hub, signed, device, module, options, attempt=attempt, progress=progress)


def publish_to(
    hub: TwinService,
    signed: SignedArtefact,
    device: str,
    module: str,
    options: WaitOptions,
    *,
    attempt: int | None = None,
    progress: Progress = lambda line: None,
) -> PublishResult:
    """As `publish`, for an open connection and a signed artefact."""
    started = options.now()
    twin, section, patch = _write(hub, signed, device, module, attempt)
    version = int(twin.desired.get("$version", 0))
    how = "written to" if patch else "already in"
    progress(f"{signed.ref} {how} the twin of {device}/{module}")
    found = _wait_for_verdict(hub, twin, signed.ref, version if patch else 0, options, progress)
    return PublishResult(
        device,
        module,
        signed.ref,
        attempt=section["attempt"],
        written=bool(patch),
        desired_version=version,
        verdict=found,
        waited_s=options.now() - started,
        patch=patch,
    )


def _write(
    hub: TwinService, signed: SignedArtefact, device: str, module: str, attempt: int | None
) -> tuple[ModuleTwin, Section, Section]:
    """Read the twin and patch it; repeat if somebody else wrote it in between.

    Returns the twin afterwards, the section, and the patch: {} if the twin already contained the section.
    """
    for _ in range(WRITE_ATTEMPTS):
        twin = hub.module_twin(device, module)
        section = signed.section(next_attempt(twin, signed.ref.sha256) if attempt is None else attempt)
        if twin.desired.get("model") == section:
            return twin, section, {}
        patch = {"model": replacement(twin.desired.get("model"), section)}
        refuse_overweight(twin, patch)
        try:
            return hub.patch_desired(device, module, patch, twin.etag), section, patch
        except PreconditionFailed as error:
            conflict = error
    raise conflict


def _wait_for_verdict(
    hub: TwinService, twin: ModuleTwin, ref: ModelRef, version: int, options: WaitOptions, progress: Progress
) -> Verdict:
    """Poll until the verdict is final or the time is over. A hub that is unavailable is asked again."""
    deadline = options.now() + options.wait_s
    found = verdict(twin, ref.sha256, version)
    reported = ""
    while True:
        if changed := found.state != reported:
            reported = found.state
            progress(_line(found, twin))
        if _is_final(hub, twin, ref, found, options) or options.now() >= deadline:
            return found
        if changed and found.state in FINAL:
            progress(f"the deployment trusts this key: waits until edgeAgent has restarted {twin.module}")
        options.sleep(min(options.poll_s, max(0.0, deadline - options.now())))
        try:
            twin = hub.module_twin(twin.device, twin.module)
        except HubUnavailable as error:
            progress(str(error))
            continue
        found = verdict(twin, ref.sha256, version)


def _is_final(
    hub: TwinService, twin: ModuleTwin, ref: ModelRef, found: Verdict, options: WaitOptions
) -> bool:
    """Whether a longer wait changes nothing. A module with outdated keys verifies again after its restart."""
    if found.state == ModelState.PROBATION:
        return not options.until_active
    if found.state not in FINAL or found.error is None or found.error.code not in KEY_ERRORS:
        return found.state in FINAL
    try:
        return ref.key_id not in deployed_keys(hub.module_twin, twin.device, twin.module)
    except HubUnavailable:  # the next poll asks again
        return False


def _line(found: Verdict, twin: ModuleTwin) -> str:
    if found.state == PENDING:
        return f"pending: {twin.device}/{twin.module} is {twin.connection_state.lower() or 'unknown'}"
    return f"{found.state}: {found.error.code}: {found.error.message}" if found.error else str(found.state)
