"""Statements 90 to 93: the unmodified developer tools against the simulator."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.peers.tools import run_tool
from tests.wire.hub_under_test import DEVICE, REST_PORT, HubUnderTest, running_hub
from twinship.simulator import sas
from twinship.simulator.manifest.manifest import expand, load

# long: installing the tools takes a minute or more
pytestmark = [pytest.mark.conformance, pytest.mark.e2e, pytest.mark.long]

ROOT = Path(__file__).parents[2]
API_VERSION = "2020-05-31-preview"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy()
        yield running


@pytest.fixture(scope="module")
def home(hub: HubUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder after `iotedgehubdev setup` for the edge device."""
    home = tmp_path_factory.mktemp("home")
    connection = f"HostName={hub.hub_address}:{REST_PORT};DeviceId={DEVICE};SharedAccessKey={device_key(hub)}"
    run_tool(home, "iotedgehubdev", "setup", "-c", connection, "-g", hub.gateway, cwd=home)
    return home


def device_key(hub: HubUnderTest) -> str:
    """The edge device's own key, not a service policy's."""
    return str(hub.service("GET", f"/devices/{DEVICE}")["authentication"]["symmetricKey"]["primaryKey"])


def credentials(hub: HubUnderTest, home: Path, folder: Path, *options: str) -> dict[str, str]:
    """The variables in the file of `iotedgehubdev modulecred`."""
    written = folder / "module.env"
    trust = {"REQUESTS_CA_BUNDLE": str(hub.folder / "ca.pem")}
    command = ["iotedgehubdev", "modulecred", *options, "-o", str(written)]
    run_tool(home, *command, cwd=folder, environment=trust)
    return dict(line.split("=", 1) for line in written.read_text().splitlines() if "=" in line)


def module_names(hub: HubUnderTest) -> set[str]:
    """The names of the edge device's modules."""
    return {module["moduleId"] for module in hub.service("GET", f"/devices/{DEVICE}/modules")}


def test_90_a_module_starts_with_iotedgehubdevs_file(hub: HubUnderTest, home: Path, tmp_path: Path) -> None:
    """modulecred reads the module (404) and creates it (PUT); with the file a module connects.

    Two differences to a hub on localhost: the simulator has its own loopback addresses, so there is no -l;
    and its own certificate, so EdgeModuleCACertificateFile names its ca.pem.
    """
    assert "target" not in module_names(hub)
    variables = credentials(hub, home, tmp_path, "-m", "target")
    assert "target" in module_names(hub)
    assert f"GatewayHostName={hub.gateway}" in variables["EdgeHubConnectionString"]
    variables["EdgeModuleCACertificateFile"] = str(hub.folder / "ca.pem")
    with hub.module("target", variables) as module:
        assert module.call("connect") is True
        module.send("nowhere", b"x")
        assert "desired" in module.call("get_twin")


def test_91_modulecred_reads_the_credentials_of_edge_hub(
    hub: HubUnderTest, home: Path, tmp_path: Path
) -> None:
    """The `$` is not escaped in the path; the module exists already and keeps its key."""
    key = hub.key("$edgeHub")
    written = credentials(hub, home, tmp_path, "-m", "$edgeHub")["EdgeHubConnectionString"]
    assert "ModuleId=$edgeHub" in written
    assert f"SharedAccessKey={key}" in written
    assert "GatewayHostName" not in written
    assert hub.key("$edgeHub") == key


def test_92_a_devices_token_is_valid_only_for_its_modules(hub: HubUnderTest) -> None:
    """A token without skn, as iotedgehubdev uses it; twins and other devices are refused."""
    resource = f"{hub.hub_address}:{REST_PORT}/devices/{DEVICE}"
    token = sas.sign(device_key(hub), resource, int(time.time()) + 60)
    hub.service("PUT", "/devices/other", {"deviceId": "other", "capabilities": {"iotEdge": True}})
    path = f"/devices/{DEVICE}/modules/made"
    assert call(hub, token, "GET", path) == 404
    assert call(hub, token, "PUT", path, {"deviceId": DEVICE, "moduleId": "made"}) == 200
    assert call(hub, token, "GET", path) == 200
    assert call(hub, token, "GET", f"/devices/{DEVICE}/modules") == 200
    assert call(hub, token, "GET", "/devices/other/modules/$edgeHub") == 401
    assert call(hub, token, "GET", f"/devices/{DEVICE}") == 401
    assert call(hub, token, "GET", f"/twins/{DEVICE}/modules/made") == 401


def call(hub: HubUnderTest, token: str, method: str, path: str, body: Any = None) -> int:
    """The status of one call with this token."""
    context = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))
    connection = http.client.HTTPSConnection(hub.hub_address, REST_PORT, context=context)
    with contextlib.closing(connection):
        headers = {"Authorization": token, "Content-Type": "application/json"}
        connection.request(method, f"{path}?api-version={API_VERSION}", json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def test_93_the_simulator_reads_iotedgedevs_output(tmp_path: Path) -> None:
    """genconfig with this project's template, long createOptions and both forms of routes.

    Its manifest and the template that the simulator expands are the same deployment.
    """
    template = json.loads((ROOT / "deployment.template.json").read_text())
    desired = {name: each["properties.desired"] for name, each in template["modulesContent"].items()}
    long = {"Env": [f"VARIABLE_{number}={'x' * 40}" for number in range(40)]}
    desired["$edgeAgent"]["modules"]["inference"]["settings"]["createOptions"] = long
    into = "FROM /messages/modules/inference/outputs/more INTO $upstream"
    desired["$edgeHub"]["routes"] |= {"text": into, "object": {"route": into, "priority": 3}}
    written = tmp_path / "deployment.template.json"
    written.write_text(json.dumps(template))
    for file in ROOT.glob("modules/*/module.json"):
        folder = tmp_path / file.relative_to(ROOT).parent
        folder.mkdir(parents=True)
        shutil.copy(file, folder)
    environment = {"CONTAINER_REGISTRY_SERVER": "registry.example/Twinship"}
    (tmp_path / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in environment.items()))
    home = tmp_path / "home"
    run_tool(
        home, "iotedgedev", "solution", "genconfig", "-P", "amd64", cwd=tmp_path, environment=environment
    )
    generated = (tmp_path / "config" / "deployment.amd64.json").read_text()
    settings = json.loads(generated)["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]
    assert "createOptions01" in settings["inference"]["settings"]
    theirs, ours = expand(generated, {}, {}), load(written, environment)
    assert json.loads(theirs.modules["inference"].create_options) == long
    assert theirs.routes == ours.routes
    assert theirs.twins == ours.twins
    assert {name: each.image for name, each in theirs.modules.items()} == {
        name: each.image for name, each in ours.modules.items()
    }
