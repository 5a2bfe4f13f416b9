"""Device SDKs at IoT Hub, and Node's module client at an edge device, over MQTT and MQTT over WebSockets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.clients.programs import node
from tests.wire.amqp.clients import send_to_device
from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub, wait_for
from tests.wire.sdk_module import SdkError, SdkModule
from twinship.simulator.identity import Identity

pytestmark = [pytest.mark.e2e, pytest.mark.long]

MODULE = "client"
ROUTES = {
    "schemaVersion": "1.1",
    "routes": {
        "up": f"FROM /messages/modules/{MODULE}/outputs/cloud INTO $upstream",
        "in": f"FROM /messages/modules/{MODULE}/outputs/work "
        f'INTO BrokeredEndpoint("/modules/{MODULE}/inputs/work")',
    },
}
CLIENTS = (
    "azure-iot-device (Python)",
    "azure-iot-device.aio (Python)",
    "azure-iot-device (Node)",
    "azure-iot-device (Node), module",
)
DEVICES = CLIENTS[:3]
NO_CONNECTION = ("ConnectionFailedError", "NoConnectionError", "ConnectionDroppedError")
#: Tokens that the SDK renews a few seconds after the first connection. Python's renews 120 s before the end.
SHORT_TOKENS = {"Python": {"sastoken_ttl": 124}, "Node": {"sastoken_ttl": 8, "renewal_margin": 4}}


def _rows(names: Sequence[str]) -> list[Any]:
    """Each client over each transport, as parameters of the fixture `client`."""
    return [
        pytest.param(row, id=", ".join(row), marks=pytest.mark.client(*row))
        for row in itertools.product(names, ("MQTT", "MQTT/WS"))
    ]


devices_only = pytest.mark.parametrize("client", _rows(DEVICES), indirect=True, scope="module")


@dataclass
class Client:
    """A process with one SDK's client, and the identity that it connects as."""

    hub: HubUnderTest
    name: str
    websockets: bool
    identity: Identity

    def open(self, **options: Any) -> SdkModule:
        """Start the process; the client is not connected yet."""
        options["websockets"] = self.websockets
        if "Node" in self.name:
            options["program"] = node("device.js")
        elif "aio" in self.name:
            options["aio"] = True
        if self.identity.module is not None:
            variables = self.hub.edge_agent_variables(self.identity.module)
            return self.hub.module(self.identity.module, variables, **options)
        return self.hub.device(self.identity.device, **options)

    def open_with_short_tokens(self) -> SdkModule:
        """The same with tokens that are renewed soon."""
        return self.open(**SHORT_TOKENS["Node" if "Node" in self.name else "Python"])

    @property
    def output(self) -> str | None:
        """The output whose messages are routed upstream; a device's message has none."""
        return None if self.identity.module is None else "cloud"

    @property
    def twin(self) -> str:
        """The path of the twin in the service's REST API."""
        device = f"/twins/{self.identity.device}"
        return device if self.identity.module is None else f"{device}/modules/{self.identity.module}"

    def connections(self) -> int:
        """How often it has connected so far."""
        return self.hub.log().count(f"{self.identity}: connected, session ")

    def call_method(self) -> Any:
        """The answer to a direct method; Node's SDK subscribes some time after its handler is set."""
        wait = {"connectTimeoutInSeconds": 30, "responseTimeoutInSeconds": 30}
        call = {"methodName": "m", "payload": {"n": 1}, **wait}
        return self.hub.service("POST", f"{self.twin}/methods", call)

    def sends(self, sdk: SdkModule, label: str, **properties: str) -> dict[str, Any]:
        """Send until the SDK reports no lost connection; returns its line upstream, which comes once."""
        before = len(self._upstream(label))
        while True:
            try:
                sdk.send(self.output, b"hello", {"label": label, **properties})
                break
            except SdkError as error:
                if error.error not in NO_CONNECTION:
                    raise
        wait_for(lambda: len(self._upstream(label)) > before, "a line upstream")
        (line,) = self._upstream(label)[before:]
        return line

    def _upstream(self, label: str) -> list[dict[str, Any]]:
        mine = [
            line
            for line in self.hub.upstream()
            if line["SystemProperties"]["connectionDeviceId"] == self.identity.device
        ]
        return [line for line in mine if line["Properties"].get("label") == label]


def _device(name: str, transport: str) -> Identity:
    """The device of a row, whose name has only characters that a topic and a log show as they are."""
    return Identity("".join(each for each in f"{name}{transport}" if each.isalnum()))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy(MODULE, routes=ROUTES)
        for row in itertools.product(DEVICES, ("MQTT", "MQTT/WS")):
            running.create(_device(*row))
        yield running


@pytest.fixture(scope="module", params=_rows(CLIENTS))
def client(request: pytest.FixtureRequest, hub: HubUnderTest) -> Client:
    """Each client over each transport."""
    name, transport = request.param
    if transport == "MQTT/WS" and hub.endpoints()["hub_proxy"] is not None:
        pytest.skip("this user may not open port 443")
    identity = Identity(DEVICE, MODULE) if name.endswith("module") else _device(name, transport)
    return Client(hub, name, transport == "MQTT/WS", identity)


@pytest.fixture
def sdk(client: Client) -> Iterator[SdkModule]:
    """The client's process."""
    with client.open() as process:
        yield process


@pytest.mark.uses("connect", "telemetry")
def test_it_connects_and_its_messages_go_upstream(client: Client, sdk: SdkModule) -> None:
    """Body and properties arrive; a module's message to its own input comes back."""
    assert sdk.call("connect") is True
    assert client.hub.service("GET", client.twin)["connectionState"] == "Connected"
    line = client.sends(sdk, "first", odd="a=b&c/d%e+ü")
    assert line["Properties"] == {"label": "first", "odd": "a=b&c/d%e+ü"}
    assert line["SystemProperties"].get("connectionModuleId") == client.identity.module
    if client.identity.module is not None:
        sdk.call("listen", kind="message")
        sdk.send("work", b"to myself")
        assert sdk.next_body() == b"to myself"


@pytest.mark.uses("twin")
def test_it_reads_reports_and_hears_of_its_twin(client: Client, sdk: SdkModule) -> None:
    """It reads desired properties, its report reaches the service, and a change of desired ones it."""
    client.hub.service("PATCH", client.twin, {"properties": {"desired": {"fps": 5, "gone": 1}}})
    assert sdk.call("get_twin")["desired"]["fps"] == 5
    sdk.call("report", patch={"state": {"a": 1}})
    sdk.call("report", patch={"state": {"a": None, "b": 2}})
    reported = client.hub.service("GET", client.twin)["properties"]["reported"]
    assert reported["state"] == {"b": 2}
    sdk.call("listen", kind="patch")
    client.hub.service("PATCH", client.twin, {"properties": {"desired": {"fps": 6, "gone": None}}})
    while (patch := sdk.next("patch")["patch"])["fps"] != 6:  # Node's begins with what it has read before
        pass
    assert patch["$version"] == client.hub.service("GET", client.twin)["properties"]["desired"]["$version"]
    assert "gone" not in sdk.call("get_twin")["desired"]


@pytest.mark.uses("method")
def test_it_answers_a_direct_method(client: Client, sdk: SdkModule) -> None:
    """The caller gets status and payload of its handler."""
    sdk.call("listen", kind="method")
    assert client.call_method() == {"status": 207, "payload": {"name": "m", "got": {"n": 1}}}


@pytest.mark.uses("reconnect")
def test_it_connects_again_after_kill_9_of_the_hub(client: Client, sdk: SdkModule) -> None:
    """A message sent after the kill is upstream, and its direct methods are answered again."""
    sdk.call("listen", kind="method")
    assert client.call_method()["status"] == 207
    before = client.connections()
    client.hub.kill()
    client.hub.start()
    wait_for(lambda: client.connections() > before, "a new connection")
    client.sends(sdk, "after the kill")
    assert client.call_method()["status"] == 207


@devices_only
@pytest.mark.uses("renewal")
def test_it_renews_its_token(client: Client) -> None:
    """It connects again with a new token before the first one ends, and goes on as before."""
    with client.open_with_short_tokens() as sdk:
        before = client.connections()
        sdk.call("listen", kind="method")
        wait_for(lambda: client.connections() >= before + 3, "two renewals")
        client.sends(sdk, "after two renewals")
        assert client.call_method()["status"] == 207
    assert f"{client.identity}: its token has expired" not in client.hub.log()


@devices_only
@pytest.mark.uses("C2D")
def test_it_gets_messages_of_the_service(client: Client, sdk: SdkModule) -> None:
    """One that was sent before it connected, and one that is sent afterwards, each once."""
    send_to_device(client.hub, client.identity.device, "waiting")
    sdk.call("listen", kind="message")
    assert sdk.next_body() == b"waiting"
    send_to_device(client.hub, client.identity.device, "live")
    assert sdk.next_body() == b"live"
    assert sdk.heard_nothing("message")
