"""The unmodified SDK over WebSockets: at IoT Hub and at an edge device, on port 443 and through a proxy."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.wire.hub_under_test import DEVICE, HubUnderTest, wait_for
from tests.wire.sdk_module import SdkModule
from twinship.simulator.identity import Identity

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=["port 443", "proxy"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    """A hub with a leaf device; for the proxy another program has port 443, or this user may not open it."""
    hub = HubUnderTest(tmp_path_factory.mktemp("hub") / "simulator")
    with contextlib.ExitStack() as running:
        if request.param == "proxy":
            for address in (hub.hub_address, hub.gateway):
                with contextlib.suppress(PermissionError):
                    running.enter_context(socket.create_server((address, 443)))
        hub.start()
        running.callback(hub.close)
        if request.param == "port 443" and hub.endpoints()["hub_proxy"] is not None:
            pytest.skip("this user may not open port 443")
        hub.deploy("sender", routes={"schemaVersion": "1.1", "routes": {"up": "FROM /* INTO $upstream"}})
        hub.create(Identity("leaf"))
        yield hub


@contextlib.contextmanager
def client(hub: HubUnderTest, patch: pytest.MonkeyPatch, *, at_edge: bool) -> Iterator[SdkModule]:
    endpoints = hub.endpoints()
    proxy = endpoints["proxies"].get(DEVICE) if at_edge else endpoints["hub_proxy"]
    if proxy is not None:
        patch.setenv("mqtt_proxy", proxy)
    with hub.device("leaf", gateway=hub.gateway if at_edge else None, websockets=True) as leaf:
        yield leaf


@pytest.mark.parametrize("at_edge", [False, True])
def test_messages_twin_and_methods_pass(
    hub: HubUnderTest, monkeypatch: pytest.MonkeyPatch, at_edge: bool
) -> None:
    """A message goes upstream, a report and a desired patch arrive, a direct method is answered."""
    before = len(hub.upstream())
    with client(hub, monkeypatch, at_edge=at_edge) as leaf:
        leaf.send(None, b"hello", {"k": "v"})
        wait_for(lambda: len(hub.upstream()) == before + 1, "a line upstream")
        assert hub.upstream()[-1]["Properties"] == {"k": "v"}
        leaf.send(None, b"x" * 200_000)
        leaf.call("report", patch={"at_edge": at_edge})
        twin = hub.service("GET", "/twins/leaf")
        assert twin["properties"]["reported"]["at_edge"] is at_edge
        assert twin["connectionState"] == "Connected"
        leaf.call("listen", kind="patch")
        leaf.call("listen", kind="method")
        hub.service("PATCH", "/twins/leaf", {"properties": {"desired": {"at_edge": at_edge}}})
        assert leaf.next("patch")["patch"]["at_edge"] is at_edge
        call = {"methodName": "m", "payload": 1, "responseTimeoutInSeconds": 30}
        assert hub.service("POST", "/twins/leaf/methods", call)["status"] == 207


@pytest.mark.parametrize("at_edge", [False, True])
def test_the_sdk_connects_again_after_a_kill_of_the_hub(
    hub: HubUnderTest, monkeypatch: pytest.MonkeyPatch, at_edge: bool
) -> None:
    """The message sent after the kill arrives."""
    with client(hub, monkeypatch, at_edge=at_edge) as leaf:
        leaf.call("connect")
        hub.kill()
        hub.start()
        before = len(hub.upstream())
        leaf.send(None, b"after")
        wait_for(lambda: len(hub.upstream()) > before, "a line upstream")


def test_the_connection_string_has_a_port_only_without_443(hub: HubUnderTest) -> None:
    """Clients put its HostName into connection strings of devices, which know 443 and 8883 only."""
    text = (hub.folder / "service.env").read_text()
    port = "" if 443 in hub.endpoints()["rest_ports"] else ":8443"
    assert f"IOTHUB_CONNECTION_STRING=HostName={hub.hub_address}{port};SharedAccessKeyName=" in text
