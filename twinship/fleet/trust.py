"""Which signing keys a module trusts when it runs as it is deployed.

A module that still runs as it was deployed before refuses a model of a new key; edgeAgent restarts it, and
the new process verifies the model of its twin again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twinship.fleet.keys import TRUST_VARIABLE
from twinship.fleet.service import HubRefused, ModuleTwin

#: The codes with which a module refuses the key of a model, or has no keys.
KEY_ERRORS = frozenset({"unknown-key", "keys-unset", "keys-literal"})


def deployed_keys(module_twin: Callable[[str, str], ModuleTwin], device: str, module: str) -> frozenset[str]:
    """The ids of MODEL_TRUSTED_KEYS in the deployment of a device; none if it has no such module."""
    try:
        found: Any = module_twin(device, "$edgeAgent").desired
    except HubRefused:  # not an edge device, or not ours to read
        return frozenset()
    for name in ("modules", module, "env", TRUST_VARIABLE, "value"):
        found = found.get(name) if isinstance(found, Mapping) else None
    entries = found.split(",") if isinstance(found, str) else ()
    return frozenset(entry.partition(":")[0].strip() for entry in entries)
