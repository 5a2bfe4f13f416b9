"""Automatic deployments: a manifest as the base, a model as a layer, for all devices of a target condition.

IoT Hub does not allow changing a configuration's content, so each content gets its own id, `ID-<digest>`. The
new configuration is created before the old ones of the same ID are deleted, and the newest wins at equal
priority: a device is never without one.
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


class InvalidDeployment(FleetError):
    """The options do not describe a deployment. Raised before any request to the hub."""


@dataclass(frozen=True)
class Targeting:
    """The id, the devices (a target condition of IoT Hub, `*` for all) and the priority of a deployment."""

    id: str
    condition: str
    priority: int

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InvalidDeployment(
                f"{self.id!r} cannot be the id of a deployment; cure: 1 to 100 of a-z 0-9 -:+%_#*?!(),=@;$'"
            )
        if not self.condition:
            raise InvalidDeployment(
                f"deployment {self.id} targets no device; "
                "cure: --target-condition \"tags.site='lab'\", or '*' for all"
            )
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise InvalidDeployment(
                f"priority {self.priority} is not between 0 and {MAX_PRIORITY}; cure: --priority 10"
            )


@dataclass(frozen=True)
class RollOut:
    """The configuration that is on the hub now. `replaced`: the ids of those that were deleted."""

    hub: str
    configuration: str
    targeting: Targeting
    how: str  # created, updated (priority or condition), unchanged
    replaced: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {
            "hub": self.hub,
            "configuration": self.configuration,
            "targetCondition": self.targeting.condition,
            "priority": self.targeting.priority,
            "how": self.how,
            "replaced": list(self.replaced),
        }


class ConfigurationService(Protocol):
    """The part of ServiceHub that deployments use."""

    def configurations(self) -> tuple[Configuration, ...]: ...

    def create_configuration(
        self, configuration: Configuration, modules_content: Mapping[str, Any]
    ) -> None: ...

    def update_configuration(self, configuration: Configuration) -> None: ...

    def delete_configuration(self, present: Configuration) -> None: ...


def roll_out(
    hub: ConfigurationService, name: str, targeting: Targeting, modules_content: Mapping[str, Any]
) -> RollOut:
    """Make this the content of the deployment. Raises HubUnavailable, HubRefused, PreconditionFailed.

    If it is interrupted, the old configuration stays beside the new one; the same command again deletes it.
    """
    id = f"{targeting.id}-{digest(modules_content)[:_DIGEST_CHARACTERS]}"
    family = {each.id: each for each in hub.configurations() if each.labels.get(LABEL) == targeting.id}
    configuration = Configuration(id, {LABEL: targeting.id}, targeting.condition, targeting.priority)
    present = family.pop(id, None)
    if present is None:
        hub.create_configuration(configuration, modules_content)
        how = "created"
    elif (present.target_condition, present.priority) != (targeting.condition, targeting.priority):
        hub.update_configuration(replace(configuration, etag=present.etag))
        how = "updated"
    else:
        how = "unchanged"
    for old in family.values():
        hub.delete_configuration(old)
    return RollOut(name, id, targeting, how, tuple(sorted(family)))
