"""Has a module go back to the model before the present one, by its own direct method. Decides nothing: which
model that is, and whether there is one, the device knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinship.fleet import FleetError
from twinship.fleet.connection import Connection
from twinship.fleet.methods import Answer, invoke
from twinship.fleet.service import ServiceHub
from twinship.fleet.status import Model

METHOD = "rollback"


class NotRolledBack(FleetError):
    """The module answered, and did not go back."""


@dataclass(frozen=True)
class RolledBack:
    """Who answers the frames now."""

    device: str
    module: str
    model: Model

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {"device": self.device, "module": self.module, "model": vars(self.model)}


def rollback(connection: Connection, device: str, module: str) -> RolledBack:
    """Raises NotRolledBack, NotConfigured, NotFound, HubUnavailable, HubRefused."""
    with ServiceHub(connection) as hub:
        return rolled_back(invoke(hub, device, module, METHOD), device, module)


def rolled_back(answer: Answer, device: str, module: str) -> RolledBack:
    """What the module's answer means. Raises NotRolledBack."""
    payload = answer.payload if isinstance(answer.payload, Mapping) else {}
    model = Model.read(payload.get("model"))
    if answer.status != 200 or model is None:
        why = " ".join(str(payload.get("error") or "no reason given").split())[:200]
        raise NotRolledBack(
            f"{device}/{module} did not go back ({answer.status}: {why}); "
            "cure: publish the model that shall answer"
        )
    return RolledBack(device, module, model)
