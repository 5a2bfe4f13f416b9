"""The unmodified SDK with a device connection string: at IoT Hub itself and at edge devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.wire.hub_under_test import HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from twinship.simulator.identity import Identity
from twinship.simulator.loopback import free_addresses
from twinship.simulator.mqtt.packets import (
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    Connack,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
)

pytestmark = pytest.mark.e2e

SECOND = "second"
MOST_CLIENTS = 100  # edgeHub's own default (ref 4.1)
ROUTES = {
    "schemaVersion": "1.1",
    "routes": {"work": 'FROM /messages/* INTO BrokeredEndpoint("/modules/receiver/inputs/work")'},
}


class TwoEdges:
    """Two edge devices, each with modules `sender` and `receiver`, and a leaf device."""

    def __init__(self, hub: HubUnderTest, second_gateway: str) -> None:
        self.hub, self.second_gateway = hub, second_gateway
        self.hub.deploy("sender", "receiver", routes=ROUTES)
        self.hub.create(Identity(SECOND), capabilities={"iotEdge": True})
        for module in ("sender", "receiver"):
            self.hub.create(Identity(SECOND, module))
        self.hub.service("PATCH", f"/twins/{SECOND}/modules/$edgeHub", {"properties": {"desired": ROUTES}})
        self.hub.create(Identity("leaf"))

    def second_variables(self, module: str, gateway: str) -> dict[str, str]:
        """The variables of a module of the second edge device, with any gateway."""
        key = self.hub.keys(Identity(SECOND, module))[0]
        return {
            "EdgeHubConnectionString": f"HostName={self.hub.hub_address};GatewayHostName={gateway};"
            f"DeviceId={SECOND};ModuleId={module};SharedAccessKey={key}",
            "EdgeModuleCACertificateFile": str(self.hub.folder / "ca.pem"),
        }


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEdges]:
    (second,) = free_addresses(1, (8883, 8443))
    with running_hub(tmp_path_factory.mktemp("hub"), "--edge", f"{SECOND}={second}") as hub:
        yield TwoEdges(hub, second)


@pytest.mark.parametrize("trust_by_environment", [False, True])
def test_a_devices_message_to_iot_hub_is_upstream(edges: TwoEdges, trust_by_environment: bool) -> None:
    """Trust by server_verification_cert or SSL_CERT_FILE; routes of edge devices do not apply."""
    before = len(edges.hub.upstream())
    with edges.hub.device("leaf", trust_by_environment=trust_by_environment) as leaf:
        leaf.send(None, b"direct", {"k": "v"}, message_id="1")
        wait_for(lambda: len(edges.hub.upstream()) == before + 1, "a line upstream")
    line = edges.hub.upstream()[-1]
    system = line["SystemProperties"]
    assert (system["connectionDeviceId"], system["messageId"]) == ("leaf", "1")
    assert "connectionModuleId" not in system
    assert line["Properties"] == {"k": "v"}


@pytest.mark.parametrize("at_gateway", [False, True])
def test_a_devices_twin_and_methods_work_in_both_places(edges: TwoEdges, at_gateway: bool) -> None:
    """Read and report the twin, get a desired change once, answer a direct method."""
    hub = edges.hub
    with hub.device(
        "leaf", gateway=hub.gateway if at_gateway else None, ensure_desired_properties=False
    ) as leaf:
        leaf.call("listen", kind="patch")
        leaf.call("listen", kind="method")
        twin = leaf.call("get_twin")
        leaf.call("report", patch={"at_gateway": at_gateway})
        reported = leaf.call("get_twin")["reported"]
        assert reported == {"at_gateway": at_gateway, "$version": twin["reported"]["$version"] + 1}
        hub.service("PATCH", "/twins/leaf", {"properties": {"desired": {"fps": 5}}})
        assert leaf.next("patch")["patch"] == {"fps": 5, "$version": twin["desired"]["$version"] + 1}
        got = hub.service("POST", "/twins/leaf/methods", {"methodName": "m", "payload": 1})
        assert got == {"status": 207, "payload": {"name": "m", "got": 1}}
        assert leaf.heard_nothing("patch")


def test_each_gateway_routes_the_messages_that_it_receives(edges: TwoEdges) -> None:
    """A leaf's message goes to the receiver of its gateway, a module's to that of its edge device."""
    hub = edges.hub
    second = edges.second_variables("receiver", edges.second_gateway)
    with hub.module("receiver") as here, hub.module("second", second) as there:
        here.call("listen", kind="message")
        there.call("listen", kind="message")
        with hub.device("leaf", gateway=edges.second_gateway) as leaf:
            leaf.send(None, b"from the leaf")
        sender = edges.second_variables("sender", edges.second_gateway)
        with hub.module("sender") as first_sender, hub.module("second", sender) as second_sender:
            first_sender.send("o", b"here")
            second_sender.send("o", b"there")
        message = there.next("message")
        assert (message["input_name"], message["properties"]) == ("work", {"$.cdid": "leaf"})
        assert (there.next_body(), here.next_body()) == (b"there", b"here")
        assert here.heard_nothing("message")
        assert there.heard_nothing("message")


@pytest.mark.parametrize("module", [None, "sender"])
def test_an_edge_device_refuses_identities_of_another(edges: TwoEdges, module: str | None) -> None:
    """CONNACK 5 with valid keys, which its own edge device and IoT Hub accept."""
    hub, identity = edges.hub, Identity(SECOND, module)
    key = hub.keys(identity)[0]
    answers = []
    for address in (hub.gateway, edges.second_gateway, hub.hub_address):
        with contextlib.closing(RawModule(hub, address=address)) as raw:
            answers.append(raw.connect_as(identity, key).code)
    assert answers == [NOT_AUTHORIZED, 0, 0]


def test_a_hundred_clients_at_once(edges: TwoEdges) -> None:
    """All are served; one more gets a code to try again (ref 4.2); other servers have their own limit."""
    hub = edges.hub
    identities = [Identity(f"crowd{number}") for number in range(MOST_CLIENTS + 1)]
    served: list[RawModule] = []
    with contextlib.ExitStack() as open_until_the_end:
        for number, identity in enumerate(identities):
            raw = open_until_the_end.enter_context(contextlib.closing(RawModule(hub)))
            answer = raw.connect_as(identity, hub.create(identity)[0])
            if number == MOST_CLIENTS:
                assert answer == Connack(SERVER_UNAVAILABLE)
                raw.wait_closed()
                continue
            assert answer == Connack(0)
            raw.send(Publish(f"devices/{identity}/messages/events/", b"x", 1, 1))
            assert raw.next(Puback) == Puback(1)
            served.append(raw)
        with hub.device(str(identities[-1])) as extra:
            assert extra.call("connect") is True
        for raw in served:
            raw.send(Pingreq())
            raw.next(Pingresp)
