"""deployment.dashboard.template.json is deployment.template.json with the dashboard."""

from __future__ import annotations

import json
from dataclasses import replace

from twinship.demo.page import page_address
from twinship.project import DASHBOARD_MANIFEST, manifest
from twinship.simulator import SimulatorSettings

TEMPLATE = manifest().with_name(DASHBOARD_MANIFEST)


SHOWN = (
    ("inference", "predictions"),
    ("inference", "latency"),
    ("inference", "events"),
    ("camera_sim", "events"),
    ("camera_sim", "preview"),
)


def test_the_dashboards_manifest_adds_one_module_and_the_routes_to_it() -> None:
    """Everything else is that of deployment.template.json; the camera's frames have no route to it."""
    shown, plain = (json.loads(path.read_text()) for path in (TEMPLATE, manifest()))
    modules, routes = (
        shown["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"],
        shown["modulesContent"]["$edgeHub"]["properties.desired"]["routes"],
    )
    ports = modules.pop("dashboard")["settings"]["createOptions"]["HostConfig"]["PortBindings"]
    assert ports == {"8780/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8780"}]}
    added = {name: routes.pop(name)["route"] for name in list(routes) if name.startswith("shown")}
    assert sorted(added.values()) == sorted(
        f"FROM /messages/modules/{module}/outputs/{output} "
        f'INTO BrokeredEndpoint("/modules/dashboard/inputs/{output}")'
        for module, output in SHOWN
    )
    assert shown == plain


def test_the_page_has_an_address_where_the_manifest_has_the_module() -> None:
    """The port may be another one; a module that the simulator does not start has none."""
    settings = SimulatorSettings(TEMPLATE, TEMPLATE.parent, {})
    assert page_address(settings) == "http://127.0.0.1:8780/"
    assert page_address(replace(settings, leave_out=frozenset({"dashboard"}))) == ""
    assert page_address(replace(settings, template=manifest())) == ""
    given = {"dashboard": {"DASHBOARD_LISTEN": "127.0.0.1:99"}}
    assert page_address(replace(settings, module_environment=given)) == "http://127.0.0.1:99/"
