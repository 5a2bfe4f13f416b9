"""Twin documents: merge patches, versions, metadata, and the two views of a twin (ref 4.9, 5.3).

A document is immutable: each change returns a new one, and the caller passes the time.

>>> merge({"fps": 10, "size": {"w": 640, "h": 480}}, {"fps": None, "size": {"w": 320}})
{'size': {'w': 320, 'h': 480}}
>>> twin, delivered = TwinDocument().patch_service(now=0.0, desired={"fps": 5})
>>> delivered
{'fps': 5, '$version': 2}
>>> twin.for_module()
{'desired': {'fps': 5, '$version': 2}, 'reported': {'$version': 1}}
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed
from enum import Enum
from typing import Any, Final, Literal

from twinship.simulator.common.times import NEVER, iso_time
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.twin_limits import (
    TwinRefused,
    validate_desired,
    validate_reported,
    validate_reported_whole,
    validate_tags,
)

Section = Mapping[str, Any]


class Keep(Enum):
    """A section that a request does not have; None is a section that it empties."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP
#: Of TwinDocument: what a module's report changes.
REPORT_FIELDS: Final = ("reported", "reported_version", "reported_metadata", "version")
NewSection = Section | None | Literal[Keep.KEEP]


def merge(document: Section, patch: Section) -> dict[str, Any]:
    """Apply a merge patch (RFC 7396): null removes, objects merge, other values replace."""
    merged = dict(document)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            under = merged.get(key)
            merged[key] = merge(under if isinstance(under, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def changes(before: Section, after: Section) -> dict[str, Any]:
    """The smallest merge patch that leads from `before` to `after`: new values, null for removed names."""
    if before is after:  # a module's report leaves the desired properties as they are
        return {}
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := changes(old, value):
                patch[key] = inner
        elif key not in before or not _identical(old, value):
            patch[key] = value
    return patch


def _identical(one: object, other: object) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    # compared as JSON text, because 1 == True == 1.0 in Python
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@dataclass(frozen=True)
class TwinDocument:
    """One twin. Its sections never contain `$version` or `$metadata`; `now` is seconds since the epoch.

    `etag` changes when the service changes tags or desired properties, so a module's report does not
    invalidate the `If-Match` of a publisher. `version` counts every change.
    """

    desired: Section = field(default_factory=dict)
    reported: Section = field(default_factory=dict)
    tags: Section = field(default_factory=dict)
    desired_version: int = 1
    reported_version: int = 1
    version: int = 2
    service_changes: int = 1
    desired_metadata: Section = field(default_factory=dict)
    reported_metadata: Section = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """Opaque base64, without quotes (ref 5.1)."""
        return base64.b64encode(self.service_changes.to_bytes(8, "big")).decode("ascii")

    def patch_service(
        self,
        now: float,
        *,
        desired: NewSection = KEEP,
        tags: NewSection = KEEP,
        replace: bool = False,
    ) -> tuple[TwinDocument, dict[str, Any] | None]:
        """Apply one PATCH of the service: both sections or neither, one step of version and etag.

        None empties a section. `replace`: it is a PUT, and a given section replaces the old one. Also returns
        the patch to deliver (with `$version`), None if desired properties are kept. Raises TwinRefused.
        """
        document, delivered = self, None
        if tags is not KEEP:
            document = document._with_tags(_given(tags, self.tags), {} if replace else self.tags)
        if desired is not KEEP:
            given = _given(desired, self.desired)
            document = document._with_desired(given, {} if replace else self.desired, now)
            patch = changes(self.desired, document.desired) if replace else given
            delivered = {**patch, "$version": document.desired_version}
        return document._changed_by_service(), delivered

    def patch_reported(self, patch: Section, now: float) -> TwinDocument:
        """Merge a module's report; raises TwinRefused (ref 4.9), also if the whole section gets too large."""
        validate_reported(patch)
        reported = merge(self.reported, patch)
        validate_reported_whole(reported)
        return changed(
            self,
            reported=reported,
            reported_version=self.reported_version + 1,
            reported_metadata=_stamped(
                self.reported_metadata, reported, patch, {"$lastUpdated": iso_time(now)}
            ),
            version=self.version + 1,
        )

    def for_module(self) -> dict[str, Any]:
        """The view of the module (ref 4.9): desired and reported, each with `$version`, without metadata."""
        return {
            "desired": {**self.desired, "$version": self.desired_version},
            "reported": {**self.reported, "$version": self.reported_version},
        }

    def for_service(self, identity: Identity, **attributes: Any) -> dict[str, Any]:
        """The view of the service (ref 5.3) with the identity's `attributes` (status and others)."""
        names = {"deviceId": identity.device}
        if identity.module is not None:
            names["moduleId"] = identity.module
        return {
            **names,
            "etag": self.etag,
            "version": self.version,
            **attributes,
            "tags": dict(self.tags),
            "properties": {
                "desired": _with_metadata(self.desired, self.desired_metadata, self.desired_version),
                "reported": _with_metadata(self.reported, self.reported_metadata, self.reported_version),
            },
        }

    def to_json(self) -> dict[str, Any]:
        """All fields by name as JSON values, for the store."""
        return dict(vars(self))

    def report_json(self) -> dict[str, Any]:
        """The fields that a module's report changes, for the store."""
        return {name: getattr(self, name) for name in REPORT_FIELDS}

    def with_report(self, stored: Section) -> TwinDocument:
        """The document with the fields of `report_json`, if it is the newer of both.

        >>> before, after = TwinDocument(), TwinDocument().patch_reported({"a": 1}, now=0.0)
        >>> before.with_report(after.report_json()) == after, after.with_report(before.report_json()) == after
        (True, True)
        """
        return changed(self, **stored) if stored and stored["version"] > self.version else self

    def _with_tags(self, patch: Section, before: Section) -> TwinDocument:
        validate_tags(patch)
        tags = merge(before, patch)
        validate_tags(tags)
        return changed(self, tags=tags)

    def _with_desired(self, given: Section, before: Section, now: float) -> TwinDocument:
        validate_desired(given)
        desired = merge(before, given)
        validate_desired(desired)
        version = self.desired_version + 1
        stamp = {"$lastUpdated": iso_time(now), "$lastUpdatedVersion": version}
        old = self.desired_metadata if before else {}
        return changed(
            self,
            desired=desired,
            desired_version=version,
            desired_metadata=_stamped(old, desired, given, stamp),
        )

    def _changed_by_service(self) -> TwinDocument:
        return changed(self, version=self.version + 1, service_changes=self.service_changes + 1)


def _given(section: object, before: Section) -> dict[str, Any]:
    """The section of a request as a patch; None removes each name that is there.

    `$version` and `$metadata` are left out: a caller may send back a twin that it read.
    """
    if section is None:
        return dict.fromkeys(before)
    if not isinstance(section, Mapping):
        raise TwinRefused("a twin section is not a JSON object")
    return {key: value for key, value in section.items() if key not in ("$version", "$metadata")}


def _stamped(old: Section, after: Section, patch: Section, stamp: Section) -> dict[str, Any]:
    """The metadata tree of `after`: names in the patch get the stamp, the others keep their metadata."""
    tree: dict[str, Any] = dict(stamp)
    for key, value in after.items():
        under = old.get(key, {})
        if key not in patch:
            tree[key] = under
        elif isinstance(value, Mapping):
            inner = patch[key]
            tree[key] = _stamped(under, value, inner, stamp)
        else:
            tree[key] = dict(stamp)
    return tree


def _with_metadata(section: Section, metadata: Section, version: int) -> dict[str, Any]:
    return {**section, "$metadata": metadata or {"$lastUpdated": NEVER}, "$version": version}
