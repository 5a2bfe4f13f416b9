"""What edgeAgent reports in its twin: the shape of ref 8, from the states of the modules. Sends nothing."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinship.simulator.edge_agent.supervisor import RunState
from twinship.simulator.iot_hub.identity_document import NEVER
from twinship.simulator.manifest.manifest import LAST_IN_ORDER, Module

VERSION = "1.6.0"  # of the edgeAgent whose shapes these are
SCHEMA_VERSION = "1.1"


@dataclass(frozen=True)
class LastDesired:
    """Which desired properties were looked at last, and whether they could be applied (400: why not)."""

    version: int = 0
    code: int = 200
    description: str = ""


def reported(
    modules: Mapping[str, Module], states: Mapping[str, RunState], hub: RunState, last: LastDesired
) -> dict[str, Any]:
    """All that `$edgeAgent` reports. Environments are left out: they may hold what is nobody's business."""
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
        "lastStartTimeUtc": _time(state.started),
        "lastExitTimeUtc": _time(state.exited),
        "restartCount": state.restart_count,
        "lastRestartTimeUtc": _time(state.restarted),
    }


def _description(state: RunState) -> str:
    if state.started is None:
        return "not started"
    return "running" if state.runtime_status == "running" else f"exited ({state.exit_code})"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return NEVER
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
