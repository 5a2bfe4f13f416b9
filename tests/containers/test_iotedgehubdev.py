"""iotedgehubdev 0.14.19, unmodified: this project's modules in its solution mode, and one module alone.

It pulls edgeHub, a testing utility and hello-world by fixed names, from registries that a private engine
reaches through a proxy of the tests. Stand-ins have these names. That of edgeHub ends TLS with the tool's
certificates and hands the bytes on to a simulator, which is also the IoT Hub that the tool speaks to.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.conformance.peers.tools import run_tool
from tests.containers.engine import TAG, docker
from tests.containers.private_engine import PROXY_PORT, PrivateEngine, running_engine
from tests.containers.relays import LOOPBACK, Relays, listening, running_relays
from tests.containers.solution import Solution
from tests.e2e.waiting import wait_until
from tests.wire.hub_under_test import DEVICE, REST_PORT, HubUnderTest, running_hub
from twinship.fleet import connection, keys
from twinship.fleet.publish import publish
from twinship.simulator.identity import Identity

pytestmark = [pytest.mark.containers, pytest.mark.long]

STAND_INS = Path(__file__).parent / "stand_ins"
PROGRAMS = {
    "azureiotedge-hub:1.6": "edge_hub.py",  # of the manifest
    "azureiotedge-hub:1.2": "edge_hub.py",  # of `start -i`
    "azureiotedge-testing-utility:1.0.0": "testing_utility.py",
    "library/hello-world:latest": "relay.py",  # made, never started
}
REGISTRIES = ("mcr.microsoft.com", "registry-1.docker.io")
PORT_OFFSET = 10_000  # of the stand-in for edgeHub
GATEWAY = "gateway.example"
PULL_S = 300


@dataclass(frozen=True)
class Tool:
    """iotedgehubdev with a home folder, a simulator as its IoT Hub, and an engine."""

    folder: Path
    hub: HubUnderTest
    engine: PrivateEngine

    def __call__(self, *words: str) -> str:
        """Run it; return its output."""
        environment = {
            "DOCKER_HOST": self.engine.host,
            "DOCKER_CONFIG": str(self.folder / "docker"),
            "REQUESTS_CA_BUNDLE": str(self.hub.folder / "ca.pem"),
        }
        home = self.folder / "home"
        return run_tool(
            home, "iotedgehubdev", *words, cwd=self.folder, environment=environment, timeout_s=PULL_S
        )

    def routes(self) -> dict[str, str]:
        """The routes in the variables of the running edgeHub."""
        found = json.loads(self.engine.docker("inspect", "edgeHubDev"))[0]["Config"]["Env"]
        pairs = (each.split("=", 1) for each in found if each.startswith("routes__"))
        return {name.removeprefix("routes__"): route for name, route in pairs}

    def answers(self) -> list[Any]:
        """The predictions that arrived upstream."""
        bodies = [each["Body"] for each in self.hub.upstream()]
        return [each for each in bodies if each.get("schema") == "twinship.prediction.v1"]


@pytest.fixture(scope="module")
def tool(pushed: Solution, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """The tool after `setup`, on a private engine that finds the stand-ins under their real names."""
    folder = tmp_path_factory.mktemp("iotedgehubdev")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "registries.pem"))
    with running_hub(folder) as hub, running_relays() as relays:
        hub.deploy()
        push_stand_ins(pushed.registry, hub, folder / "stand_ins")
        with running_engine(folder, folder / "registries.pem") as engine:
            serve(relays, engine, pushed.registry, authority, hub)
            tool = Tool(folder, hub, engine)
            copy_plugins(folder / "docker")
            set_up(tool)
            yield tool
            tool("stop")


def push_stand_ins(registry: str, hub: HubUnderTest, context: Path) -> None:
    """Build the stand-ins and push them under the paths of the real images."""
    shutil.copytree(STAND_INS, context)
    (context / "simulator.pem").write_text((hub.folder / "ca.pem").read_text())  # the copy is not 0600
    addresses = {"SIMULATOR_HUB": hub.hub_address, "SIMULATOR_EDGE": hub.gateway}
    for image, program in PROGRAMS.items():
        arguments = {"MODULE": f"{registry}/inference:{TAG}", "PROGRAM": program, **addresses}
        options = [word for name in arguments for word in ("--build-arg", f"{name}={arguments[name]}")]
        docker("build", *options, "--tag", f"{registry}/{image}", str(context))
        docker("push", f"{registry}/{image}", timeout_s=PULL_S)
        docker("rmi", f"{registry}/{image}")


def serve(
    relays: Relays, engine: PrivateEngine, registry: str, authority: trustme.CA, hub: HubUnderTest
) -> None:
    """What the engine reaches: the registry as itself and as REGISTRIES, and the simulator's edge device."""
    port = int(registry.split(":")[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*REGISTRIES).configure_cert(context)
    with_tls = relays.add(listening(), LOOPBACK, port, context)
    relays.add(engine.inside(partial(listening, LOOPBACK, PROXY_PORT)), LOOPBACK, with_tls, tunnel=True)
    relays.add(engine.inside(partial(listening, LOOPBACK, port)), LOOPBACK, port)
    for served in (443, 8883):
        inside = engine.inside(partial(listening, "0.0.0.0", served + PORT_OFFSET))
        relays.add(inside, hub.gateway, served)


def copy_plugins(config: Path) -> None:
    """A client configuration of the test's own, because the tool logs in to registries."""
    config.mkdir()
    plugins = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker")) / "cli-plugins"
    if plugins.is_dir():
        (config / "cli-plugins").symlink_to(plugins)


def set_up(tool: Tool) -> None:
    """`setup` with both connection strings: with the service's it writes the twins, too."""
    host = f"HostName={tool.hub.hub_address}:{REST_PORT}"
    device = f"{host};DeviceId={DEVICE};SharedAccessKey={tool.hub.keys(Identity(DEVICE))[0]}"
    text = (tool.hub.folder / "service.env").read_text()
    fields = dict(each.split("=", 1) for each in text.splitlines()[0].split("=", 1)[1].split(";"))
    policy = ";".join(
        [host, *(f"{name}={fields[name]}" for name in ("SharedAccessKeyName", "SharedAccessKey"))]
    )
    tool("setup", "-c", device, "-i", policy, "-g", GATEWAY)


def test_its_configuration_is_valid(tool: Tool) -> None:
    """`validateconfig` after `setup`."""
    assert "Config file is valid." in tool("validateconfig")


def test_the_generated_manifest_runs_as_a_solution(tool: Tool, pushed: Solution, models: Path) -> None:
    """Images of the registry, twins and keys of the hub, certificates of the tool: frames are answered."""
    hub, content = tool.hub, {"modulesContent": pushed.manifest()}
    hub.service("POST", f"/devices/{DEVICE}/applyConfigurationContent", content)
    output = tool("start", "-d", str(pushed.manifest_file))
    assert "IoT Edge Simulator has been started in solution mode." in output
    routes = pushed.manifest()["$edgeHub"]["properties.desired"]["routes"].values()
    assert set(tool.routes().values()) == {
        each if isinstance(each, str) else each["route"] for each in routes
    }
    desired = {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}}
    hub.service("PATCH", f"/twins/{DEVICE}/modules/inference", {"properties": {"desired": desired}})
    key = keys.signing_key(pushed.folder / "keys")
    service = connection.find({}, hub.folder / "service.env")
    model = models / "1.0.0" / "model.tflite"
    assert publish(service, model, key, DEVICE, "inference", wait_s=60, until_active=False).ok
    wait_until(lambda: len(tool.answers()) > 20, "predictions upstream")
    running = tool.engine.docker("ps", "--format", "{{.Names}}").split()
    assert sorted(running) == ["camera_sim", "edgeHubDev", "inference"]
    tool("stop")
    assert tool.engine.docker("ps", "--all", "--quiet") == ""


def test_a_module_runs_alone(tool: Tool, pushed: Solution, tmp_path: Path) -> None:
    """`start -i frames`, `modulecred`: the module gets what is posted, and what it sends is printed."""
    output = tool("start", "-i", "frames")
    assert "IoT Edge Simulator has been started in single module mode." in output
    desired = {"schemaVersion": "1.1", "routes": tool.routes()}
    tool.hub.service("PATCH", f"/twins/{DEVICE}/modules/$edgeHub", {"properties": {"desired": desired}})
    tool("modulecred", "-m", "target", "-o", str(tmp_path / "target.env"))
    run_target(tool, f"{pushed.registry}/inference:{TAG}", tmp_path / "target.env")
    wait_until(lambda: "connected" in logs(tool, "input"), "the testing utility")
    wait_until(lambda: "connected" in logs(tool, "target"), "the module")
    assert tool.engine.inside(post) == 202
    wait_until(lambda: "seq is missing" in logs(tool, "target"), "the module's answer to a text")
    wait_until(lambda: '"input": "print"' in logs(tool, "input"), "a message of the module")


def run_target(tool: Tool, image: str, env_file: Path) -> None:
    """The image of inference with the variables of `modulecred`, and the certificate that they name."""
    lines = env_file.read_text().splitlines()
    certificate = dict(line.split("=", 1) for line in lines if line)["EdgeModuleCACertificateFile"]
    mount = ("--volume", f"{certificate}:{certificate}:ro", "--env-file", str(env_file))
    tool.engine.docker(
        "run", "--detach", "--name", "target", "--network", "azure-iot-edge-dev", *mount, image
    )


def post() -> int:
    """What `start -i` says to run with curl. The utility sends text without properties: no frame."""
    body = json.dumps({"inputName": "frames", "data": "hello world"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request("http://127.0.0.1:53000/api/v1/messages", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def logs(tool: Tool, container: str) -> str:
    """The output of a container so far."""
    return tool.engine.docker("logs", container, check=False)
