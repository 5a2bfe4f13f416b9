"""deployment.debug.template.json and .vscode/launch.json follow the files that they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twinship.simulator.manifest.manifest import load

ROOT = Path(__file__).parents[2]
MODULES = ("inference", "camera_sim", "dashboard")
PORT = "5678/tcp"


def modules_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The section of edgeAgent's modules."""
    modules: dict[str, Any] = manifest["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]
    return modules


def read(name: str) -> dict[str, Any]:
    """A JSON file at the top of the repository."""
    found: dict[str, Any] = json.loads((ROOT / name).read_text())
    return found


def test_the_debug_manifest_differs_in_images_and_debuggers_only() -> None:
    """With the dashboard. Each debugger has a port of its own on the device's loopback address."""
    debug, normal = read("deployment.debug.template.json"), read("deployment.dashboard.template.json")
    debuggers = []
    for name, module in modules_of(debug).items():
        options = module["settings"]["createOptions"]["HostConfig"]
        debuggers += options["PortBindings"].pop(PORT)
        if not options["PortBindings"]:
            del options["PortBindings"]
        assert module["settings"]["image"] == f"${{MODULES.{name}.debug}}"
        module["settings"]["image"] = f"${{MODULES.{name}}}"
    assert debug == normal
    assert {each["HostIp"] for each in debuggers} == {"127.0.0.1"}
    assert len({each["HostPort"] for each in debuggers}) == len(MODULES)


def test_the_debug_manifest_names_the_debug_images() -> None:
    """module.json lists their Dockerfiles."""
    environment = {"CONTAINER_REGISTRY_SERVER": "localhost:5000"}
    modules = load(ROOT / "deployment.debug.template.json", environment).modules
    assert all(modules[name].image.endswith("-amd64.debug") for name in MODULES)
    for name in MODULES:
        platforms = json.loads((ROOT / "modules" / name / "module.json").read_text())["image"]["tag"][
            "platforms"
        ]
        assert all((ROOT / "modules" / name / file).is_file() for file in platforms.values())


@pytest.mark.parametrize("module", MODULES)
def test_the_editor_attaches_to_the_port_that_the_manifest_binds(module: str) -> None:
    """And it maps the sources to the folder of the image."""
    bound = modules_of(read("deployment.debug.template.json"))[module]["settings"]["createOptions"][
        "HostConfig"
    ]
    attach = next(
        each
        for each in read(".vscode/launch.json")["configurations"]
        if f"Attach to {module} " in each["name"]
    )
    assert str(attach["connect"]["port"]) == bound["PortBindings"][PORT][0]["HostPort"]
    for mapping in attach["pathMappings"]:
        local = ROOT / mapping["localRoot"].removeprefix("${workspaceFolder}/")
        assert local.is_dir()
        assert mapping["remoteRoot"] == f"/opt/ours/{local.name}"
