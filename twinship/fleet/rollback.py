"""Makes a module return to its previous model, by the module's direct method `rollback`.

The module waits for a frame that the previous model answers. Without one, the result says what was not seen.
"""

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


class RollbackFailed(FleetError):
    """The module answered, but did not return to the previous model."""


@dataclass(frozen=True)
class RollbackResult:
    """The model that the module runs now; `not_seen`: why no frame that it answered was seen, or empty."""

    device: str
    module: str
    model: Model
    not_seen: str = ""

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types."""
        result = {"device": self.device, "module": self.module, "model": vars(self.model)}
        return {**result, "answered": not self.not_seen, "notSeen": self.not_seen or None}


def rollback(connection: Connection, device: str, module: str) -> RollbackResult:
    """Call the method. Raises RollbackFailed, NotConfigured, NotFound, HubUnavailable, HubRefused."""
    with ServiceHub(connection) as hub:
        return rollback_result(invoke(hub, device, module, METHOD), device, module)


def rollback_result(answer: Answer, device: str, module: str) -> RollbackResult:
    """Read the module's answer. Raises RollbackFailed."""
    payload = answer.payload if isinstance(answer.payload, Mapping) else {}
    model = Model.read(payload.get("model"))
    if answer.status != 200 or model is None:
        why = " ".join(str(payload.get("error") or "no reason given").split())[:200]
        raise RollbackFailed(
            f"{device}/{module} did not go back ({answer.status}: {why}); "
            "cure: publish the model that shall run"
        )
    if payload.get("answered") is True:
        return RollbackResult(device, module, model)
    not_seen = payload.get("notSeen") or "this version of the module does not say whether it answers frames"
    return RollbackResult(device, module, model, " ".join(str(not_seen).split())[:200])
