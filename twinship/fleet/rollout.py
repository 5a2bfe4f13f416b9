"""Automatic deployments for fleets: a manifest as the base, a model as a layer over it, for all devices that
a target condition names. Knows how one takes the place of another, and not what they hold.

A configuration's content cannot change on IoT Hub, so each content has an id of its own, `ID-<digest>`. The
new one is made before the old ones of the same ID are removed, and the newest wins where priorities are
equal: at no moment does a device lack it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from inference.model_section import digest
from twinship.fleet import FleetError
from twinship.fleet.service import Configuration

LABEL = "twinship-deployment"
_ID = re.compile(r"[a-z0-9\-:+%_#*?!(),=@;$']{1,100}")
_DIGEST_CHARACTERS = 12
MAX_PRIORITY = 2**31 - 1


class CannotRollOut(FleetError):
    """Known before any hub was asked: this would be no deployment."""


@dataclass(frozen=True)
class Targeting:
    """Which devices, and over which other deployments. `condition` as IoT Hub takes it, `*` for all."""

    id: str
    condition: str
    priority: int

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise CannotRollOut(
                f"{self.id!r} is no id of a deployment; cure: 1 to 100 of a-z 0-9 -:+%_#*?!(),=@;$'"
            )
        if not self.condition:
            raise CannotRollOut(
                f"deployment {self.id} targets no device; "
                "cure: --target-condition \"tags.site='lab'\", or '*' for all"
            )
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise CannotRollOut(
                f"priority {self.priority} is not between 0 and {MAX_PRIORITY}; cure: --priority 10"
            )


@dataclass(frozen=True)
class RollOut:
    """What stands on the hub now. `replaced`: the ids that gave way."""

    hub: str
    configuration: str
    targeting: Targeting
    how: str  # created, updated (priority or condition), unchanged
    replaced: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "hub": self.hub,
            "configuration": self.configuration,
            "targetCondition": self.targeting.condition,
            "priority": self.targeting.priority,
            "how": self.how,
            "replaced": list(self.replaced),
        }


class Configurations(Protocol):
    """What is asked of a hub here; ServiceHub is one, the tests' is another."""

    def configurations(self) -> tuple[Configuration, ...]: ...

    def create_configuration(self, wanted: Configuration, modules_content: Mapping[str, Any]) -> None: ...

    def update_configuration(self, wanted: Configuration) -> None: ...

    def delete_configuration(self, present: Configuration) -> None: ...


def roll_out(
    hub: Configurations, name: str, targeting: Targeting, modules_content: Mapping[str, Any]
) -> RollOut:
    """Make this content the one of the deployment. Raises HubUnavailable, HubRefused, PreconditionFailed.

    Interrupted, it leaves the old one in force beside the new one; the same command again removes it.
    """
    id = f"{targeting.id}-{digest(modules_content)[:_DIGEST_CHARACTERS]}"
    family = {each.id: each for each in hub.configurations() if each.labels.get(LABEL) == targeting.id}
    wanted = Configuration(id, {LABEL: targeting.id}, targeting.condition, targeting.priority)
    present = family.pop(id, None)
    if present is None:
        hub.create_configuration(wanted, modules_content)
        how = "created"
    elif (present.target_condition, present.priority) != (targeting.condition, targeting.priority):
        hub.update_configuration(replace(wanted, etag=present.etag))
        how = "updated"
    else:
        how = "unchanged"
    for old in family.values():
        hub.delete_configuration(old)
    return RollOut(name, id, targeting, how, tuple(sorted(family)))
