"""The reported properties of `$edgeAgent`, in the form of ref 8, from the states of the modules."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinship.simulator.common.times import iso_time
from twinship.simulator.edge_agent.supervisor import RunState
from twinship.simulator.manifest.modules_content import LAST_IN_ORDER, Module

VERSION = "1.6.0"  # the edgeAgent version whose format this is
SCHEMA_VERSION = "1.1"


@dataclass(frozen=True)
class LastDesired:
    """The last desired properties that the agent read: their version, and 200 or 400 with the reason."""

    version: int = 0
    code: int = 200
    description: str = ""


def reported(
    modules: Mapping[str, Module], states: Mapping[str, RunState], hub: RunState, last: LastDesired
) -> dict[str, Any]:
    """All reported properties of `$edgeAgent`, without environments, because these can contain secrets."""
    return {
        "schemaVersion": SCHEMA_VERSION,
        "version": {"version": VERSION, "build": "simulator", "commit": ""},
        "lastDesiredVersion": last.version,
        "lastDesiredStatus": {"code": last.code, "description": last.description},
        "runtime": {
            "type": "docker",
            "platform": {"os": "linux", "architecture": platform.machine(), "version": ""},
        },
        "systemModules": {
            "edgeAgent": {"type": "docker", "runtimeStatus": "running", "exitCode": 0},
            "edgeHub": {"type": "docker", "status": "running", "restartPolicy": "always", **_run(hub)},
        },
        "modules": {name: _module(module, states.get(name, RunState())) for name, module in modules.items()},
    }


def _module(module: Module, state: RunState) -> dict[str, Any]:
    order = {} if module.startup_order == LAST_IN_ORDER else {"startupOrder": module.startup_order}
    return {
        "type": "docker",
        "version": module.version,
        "status": module.status,
        "restartPolicy": module.restart_policy,
        "imagePullPolicy": "on-create",
        **order,
        "settings": {"image": module.image},
        **_run(state),
    }


def _run(state: RunState) -> dict[str, Any]:
    return {
        "runtimeStatus": state.runtime_status,
        "exitCode": state.exit_code,
        "statusDescription": _description(state),
        "lastStartTimeUtc": iso_time(state.started, "milliseconds"),
        "lastExitTimeUtc": iso_time(state.exited, "milliseconds"),
        "restartCount": state.restart_count,
        "lastRestartTimeUtc": iso_time(state.restarted, "milliseconds"),
    }


def _description(state: RunState) -> str:
    if state.started is None:
        return "not started"
    return "running" if state.runtime_status == "running" else f"exited ({state.exit_code})"
