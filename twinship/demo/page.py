"""The address of the dashboard's page on this machine."""

from __future__ import annotations

from twinship.simulator import SimulatorSettings
from twinship.simulator.manifest.manifest import load

MODULE = "dashboard"
LISTEN = "127.0.0.1:8780"  # the module's default


def page_address(settings: SimulatorSettings) -> str:
    """The page's address; "" if the simulator does not run the module."""
    module = load(settings.template, settings.environment).modules.get(MODULE)
    if module is None or MODULE in settings.leave_out:
        return ""
    given = {**module.environment, **settings.module_environment.get(MODULE, {})}.get("DASHBOARD_LISTEN", "")
    port = (given if ":" in given else LISTEN).rpartition(":")[2]
    return f"http://127.0.0.1:{port}/"
