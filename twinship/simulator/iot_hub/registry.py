"""The registry: devices, modules, their keys and twins, in memory and written through to the store.

Only the registry changes identities and twins. Other parts add callbacks to its `on_…` lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid, IdentityDocument
from twinship.simulator.iot_hub.twin import KEEP, NewSection, TwinDocument
from twinship.simulator.manifest.modules_content import ManifestError, deployment
from twinship.simulator.store import Store

EDGE_AGENT, EDGE_HUB = "$edgeAgent", "$edgeHub"
BY_EDGE = "IotEdge"  # managedBy of the modules that a deployment created and a later one may remove
MAX_MODULES_OF_A_DEVICE = 50

Section = Mapping[str, Any]


class NotFound(LookupError):
    """The device or module does not exist."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(f"there is no {_noun(identity)} {str(identity)!r}")
        self.identity = identity


class AlreadyExists(Exception):
    """The device or module exists already, and the request has no If-Match to update it."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(f"{_noun(identity)} {str(identity)!r} exists already")
        self.identity = identity


class PreconditionFailed(Exception):
    """If-Match is not the present etag: read the document again, then try again."""


class SystemModule(Exception):
    """`$edgeAgent` and `$edgeHub` can be removed only together with their edge device."""


class InvalidConfiguration(ValueError):
    """The deployment cannot be applied; nothing has changed."""


class Registry:
    """All identities and twins. `now` returns seconds since the epoch. Every method may raise NotFound."""

    def __init__(self, store: Store, hub_name: str, now: Callable[[], float]) -> None:
        self.store = store
        self.hub_name = hub_name
        self.now = now
        #: Called after each change of desired properties, with the patch to deliver (`$version` included).
        self.on_desired: list[Callable[[Identity, Mapping[str, Any]], None]] = []
        #: Called after each change of a twin.
        self.on_twin: list[Callable[[Identity], None]] = []
        #: Called after each change of a twin, with both documents; True: it was replaced.
        self.on_change: list[Callable[[Identity, TwinDocument, TwinDocument, bool], None]] = []
        #: Called for each new identity.
        self.on_created: list[Callable[[Identity], None]] = []
        #: Called for each removed identity.
        self.on_removed: list[Callable[[Identity], None]] = []
        #: Called for each identity that was removed or whose keys or status changed: close its connections.
        self.on_revoked: list[Callable[[Identity], None]] = []
        self._documents = {
            Identity.parse(key): IdentityDocument.from_json(stored)
            for key, stored in store.documents("identity").items()
        }
        reports = store.documents("report")
        self._twins = {
            Identity.parse(key): TwinDocument(**stored).with_report(reports.get(key, {}))
            for key, stored in store.documents("twin").items()
        }

    # identities

    def get(self, identity: Identity) -> IdentityDocument:
        """The identity's document."""
        try:
            return self._documents[identity]
        except KeyError:
            raise NotFound(_missing(identity, self._documents)) from None

    def generation(self, identity: Identity) -> str | None:
        """The generation id of an identity, which is new after each creation; None: it does not exist."""
        document = self._documents.get(identity)
        return None if document is None else document.generation_id

    def devices(self) -> list[IdentityDocument]:
        """All devices, by name."""
        return [self._documents[identity] for identity in sorted(self._documents) if identity.module is None]

    def every(self) -> list[IdentityDocument]:
        """All devices and modules, by name, a device before its modules."""
        return [self._documents[identity] for identity in sorted(self._documents)]

    def modules(self, device: str) -> list[IdentityDocument]:
        """The modules of a device, by name."""
        self.get(Identity(device))
        return [self._documents[identity] for identity in self._of(device) if identity.module is not None]

    def keys(self, identity: Identity) -> tuple[str, str] | None:
        """Primary and secondary key; None if the identity does not exist, or it or its device is disabled."""
        document, device = self._documents.get(identity), self._documents.get(identity.parent)
        if document is None or device is None or "disabled" in (document.status, device.status):
            return None
        return document.primary_key, document.secondary_key

    def create(self, identity: Identity, body: Section | None = None) -> IdentityDocument:
        """Create a device or module; an edge device also gets `$edgeAgent` and `$edgeHub`.

        Raises AlreadyExists, ArgumentInvalid, Unsupported.
        """
        if identity.module is not None:
            self.get(identity.parent)
            if len(self._of(identity.device)) > MAX_MODULES_OF_A_DEVICE:
                raise ArgumentInvalid(
                    f"device {identity.device!r} has {MAX_MODULES_OF_A_DEVICE} modules, which is the maximum"
                )
        if identity in self._documents:
            raise AlreadyExists(identity)
        document = IdentityDocument.fresh(identity).updated(body or {}, self.now())
        self._add(document)
        self._add_system_modules(document)
        return document

    def update(self, identity: Identity, body: Section, *, if_match: str | None = None) -> IdentityDocument:
        """Change keys, status or capabilities. Raises PreconditionFailed, ArgumentInvalid, Unsupported."""
        before = self.get(identity)
        check_etag(identity, before.etag, if_match)
        after = before.updated(body, self.now())
        self._save(after)
        self._add_system_modules(after)
        if _access(before) != _access(after):
            _notify(self.on_revoked, [identity] if identity.module is not None else self._of(identity.device))
        return after

    def delete(self, identity: Identity, *, if_match: str | None = None) -> None:
        """Remove a module, or a device with its modules. Raises PreconditionFailed, SystemModule."""
        if identity.module in (EDGE_AGENT, EDGE_HUB):
            raise SystemModule(f"{identity.module} cannot be removed from device {identity.device!r}")
        check_etag(identity, self.get(identity).etag, if_match)
        removed = [identity] if identity.module is not None else self._of(identity.device)
        for each in removed:
            del self._documents[each], self._twins[each]
            self.store.delete("identity", str(each))
            self.store.delete("twin", str(each))
            self.store.delete("report", str(each))
        _notify(self.on_revoked, removed)
        _notify(self.on_removed, removed)

    # twins

    def twin(self, identity: Identity) -> TwinDocument:
        """The identity's twin."""
        self.get(identity)
        return self._twins[identity]

    def patch_reported(self, identity: Identity, patch: Section) -> TwinDocument:
        """Merge a patch of a module into its reported properties; raises TwinRefused."""
        before = self.twin(identity)
        document = before.patch_reported(patch, self.now())
        self._twins[identity] = document
        # apart from the desired properties, which may be 32 KB: a module reports often
        self.store.put("report", str(identity), document.report_json())
        _notify(self.on_twin, [identity])
        self._notify_change(identity, before, document)
        return document

    def patch_twin(
        self,
        identity: Identity,
        *,
        desired: NewSection = KEEP,
        tags: NewSection = KEEP,
        if_match: str | None = None,
        replace: bool = False,
    ) -> TwinDocument:
        """Merge into desired properties and tags, or `replace` those given, in one step; None empties.

        Raises PreconditionFailed, TwinRefused.
        """
        before = self.twin(identity)
        check_etag(identity, before.etag, if_match)
        document, delivered = before.patch_service(self.now(), desired=desired, tags=tags, replace=replace)
        return self._changed(identity, document, delivered, replaced=replace)

    # deployments

    def apply_configuration(self, device: str, modules_content: Section) -> None:
        """Set an edge device's modules and replace the desired properties of every module named (ref 8).

        Removes the modules of an earlier deployment that this one lacks. Raises InvalidConfiguration or
        TwinRefused before any change.
        """
        if not self.get(Identity(device)).edge:
            raise InvalidConfiguration(f"device {device!r} is not an IoT Edge device (capabilities.iotEdge)")
        try:
            wanted = deployment(modules_content)
        except ManifestError as error:
            raise InvalidConfiguration(str(error)) from None
        content = wanted.modules_content
        present = {identity.module for identity in self._of(device)}
        if unknown := sorted(content.keys() - wanted.modules.keys() - present):
            raise InvalidConfiguration(
                f"modulesContent names {unknown[0]!r}, which is not a module of {device!r}"
            )
        twins = {
            Identity(device, name): self._twins.get(Identity(device, name), TwinDocument()).patch_service(
                self.now(), desired=entry["properties.desired"], replace=True
            )
            for name, entry in content.items()
        }
        self._set_modules(device, set(wanted.modules))
        for identity, (document, delivered) in twins.items():
            self._changed(identity, document, delivered, replaced=True)

    def _set_modules(self, device: str, wanted: set[str]) -> None:
        for identity in self._of(device):
            if self._documents[identity].managed_by == BY_EDGE and identity.module not in wanted:
                self.delete(identity)
        for name in sorted(wanted):
            if Identity(device, name) not in self._documents:
                self._add(IdentityDocument.fresh(Identity(device, name), managed_by=BY_EDGE))

    # shared steps

    def _of(self, device: str) -> list[Identity]:
        return sorted(identity for identity in self._documents if identity.device == device)

    def _add(self, document: IdentityDocument) -> None:
        self._save(document)
        self._save_twin(document.identity, TwinDocument())
        _notify(self.on_created, [document.identity])

    def _add_system_modules(self, device: IdentityDocument) -> None:
        if device.edge and device.identity.module is None:
            for name in (EDGE_AGENT, EDGE_HUB):
                identity = Identity(device.identity.device, name)
                if identity not in self._documents:
                    self._add(IdentityDocument.fresh(identity))

    def _save(self, document: IdentityDocument) -> None:
        self._documents[document.identity] = document
        self.store.put("identity", str(document.identity), document.to_json())

    def _save_twin(self, identity: Identity, document: TwinDocument) -> None:
        self._twins[identity] = document
        self.store.put("twin", str(identity), document.to_json())
        _notify(self.on_twin, [identity])

    def _notify_change(
        self, identity: Identity, before: TwinDocument, after: TwinDocument, *, replaced: bool = False
    ) -> None:
        for callback in self.on_change:
            callback(identity, before, after, replaced)

    def _changed(
        self, identity: Identity, document: TwinDocument, delivered: Section | None, *, replaced: bool
    ) -> TwinDocument:
        before = self._twins[identity]
        self._save_twin(identity, document)
        self._notify_change(identity, before, document, replaced=replaced)
        if delivered is not None:
            for callback in self.on_desired:
                callback(identity, delivered)
        return document


def _notify(callbacks: list[Callable[[Identity], None]], identities: list[Identity]) -> None:
    for identity in identities:
        for callback in callbacks:
            callback(identity)


def _noun(identity: Identity) -> str:
    return "device" if identity.module is None else "module"


def _missing(identity: Identity, documents: Mapping[Identity, object]) -> Identity:
    """The one of a module and its device that does not exist."""
    return identity if identity.parent in documents else identity.parent


def _access(document: IdentityDocument) -> tuple[str, str, str]:
    return document.primary_key, document.secondary_key, document.status


def check_etag(name: Identity | str, present: str, if_match: str | None) -> None:
    """Raise PreconditionFailed for another etag. `if_match` has no quotes; None and `*` match any etag."""
    if if_match not in (None, "*", present):
        raise PreconditionFailed(f"If-Match is not the present etag of {str(name)!r}")
