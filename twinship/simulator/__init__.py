"""IoT Hub, edgeHub and edgeAgent on one machine, for modules that use the unmodified Azure SDKs.

Other packages use the names below, `manifest` and `lint`; everything else is internal. Each name is imported
when it is first used, so that `manifest` and `lint` stay cheap to import.

    with Simulator(SimulatorSettings(template, folder, os.environ)) as simulator:
        simulator.start_modules()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from twinship.simulator.edge_agent.processes import LOCK_FILE, end_leftover_processes, lock_folder
    from twinship.simulator.faults.client import NoControl, end_faults, set_fault, show_faults
    from twinship.simulator.faults.faults import ACTS, KNOBS, LINK_DELAY, LINK_RATE, fault_value
    from twinship.simulator.launcher import Simulator, SimulatorError, SimulatorSettings

__all__ = [
    "ACTS",
    "KNOBS",
    "LINK_DELAY",
    "LINK_RATE",
    "LOCK_FILE",
    "NoControl",
    "Simulator",
    "SimulatorError",
    "SimulatorSettings",
    "end_faults",
    "end_leftover_processes",
    "fault_value",
    "lock_folder",
    "set_fault",
    "show_faults",
]

_MODULES: Final = {
    "edge_agent.processes": ("LOCK_FILE", "end_leftover_processes", "lock_folder"),
    "faults.client": ("NoControl", "end_faults", "set_fault", "show_faults"),
    "faults.faults": ("ACTS", "KNOBS", "LINK_DELAY", "LINK_RATE", "fault_value"),
    "launcher": ("Simulator", "SimulatorError", "SimulatorSettings"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
