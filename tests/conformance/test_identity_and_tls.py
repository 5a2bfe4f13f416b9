"""Statements 1 to 14: identities, tokens and TLS."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conformance.peers.tap import Tap, Workload, recorded_workload, tapping
from tests.wire.hub_under_test import DEVICE, REST_PORT, HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from tests.wire.sdk_module import PATIENCE_S, SdkError
from twinship.simulator import sas
from twinship.simulator.identity import Identity
from twinship.simulator.mqtt.packets import (
    NOT_AUTHORIZED,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
)
from twinship.simulator.workload.workload import API_VERSION, socket_folder, socket_path

pytestmark = [pytest.mark.conformance, pytest.mark.e2e]

SOLO = Identity(DEVICE, "solo")
ODD_NAMES = ("with space", "$dollar", "Upper.dot-dash_under:colon")
EDGE_VARIABLES = (
    "IOTEDGE_MODULEID",
    "IOTEDGE_DEVICEID",
    "IOTEDGE_IOTHUBHOSTNAME",
    "IOTEDGE_GATEWAYHOSTNAME",
    "IOTEDGE_APIVERSION",
    "IOTEDGE_MODULEGENERATIONID",
    "IOTEDGE_WORKLOADURI",
)
# a source cannot contain a space, a condition can
TO_ITSELF = (
    "FROM /messages/* WHERE $connectionModuleId = '{0}' INTO BrokeredEndpoint('/modules/{0}/inputs/in')"
)
ROUTES = {
    "schemaVersion": "1.1",
    "routes": {
        "work": 'FROM /messages/modules/sender/* INTO BrokeredEndpoint("/modules/solo/inputs/work")',
        **{f"odd{number}": TO_ITSELF.format(name) for number, name in enumerate(ODD_NAMES)},
    },
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy("solo", "sender", routes=ROUTES)
        for name in ODD_NAMES:
            running.create(Identity(DEVICE, name))
        yield running


@pytest.fixture
def tap(hub: HubUnderTest) -> Iterator[Tap]:
    with tapping(hub) as tap:
        yield tap


@pytest.fixture
def workload(hub: HubUnderTest) -> Iterator[Workload]:
    with recorded_workload(_socket(hub)) as recorder:
        yield recorder


def test_01_a_connection_string_and_a_ca_file_are_enough(hub: HubUnderTest) -> None:
    """The SDK connects with only iotedgehubdev's two variables; TLS 1.2, the gateway in the SAN."""
    variables = hub.simulator_variables("solo")
    with hub.module("solo", variables) as module:
        assert module.call("connect") is True
    with contextlib.closing(RawModule(hub, ssl.TLSVersion.TLSv1_2)) as raw:
        assert raw.alternative_names() == (("IP Address", hub.gateway),)
    del variables["EdgeModuleCACertificateFile"]
    with pytest.raises(SdkError, match="OSError"):
        hub.module("solo", variables)


@pytest.mark.parametrize("over", ["http", "unix"])
def test_02_the_edge_agents_variables_are_enough(
    hub: HubUnderTest, tap: Tap, over: str, tmp_path: Path
) -> None:
    """One GET of the trust bundle and one sign request before CONNECT, over TCP or a unix socket."""
    unix = tmp_path / "w.sock" if over == "unix" else None
    with recorded_workload(_socket(hub), unix=unix) as workload:
        with hub.module("solo", _variables(hub, workload.uri, tap.address)) as module:
            assert [verb for verb, _, _ in workload.requests] == ["GET", "POST"]
            assert tap.seen == []
            assert module.call("connect") is True
            tap.wait_for(Connect, 1)
        generation = hub.service("GET", f"/devices/{DEVICE}/modules/solo")["generationId"]
        assert [path for _, path, _ in workload.requests] == [
            f"/trust-bundle?api-version={API_VERSION}",
            f"/modules/solo/genid/{generation}/sign?api-version={API_VERSION}",
        ]


@pytest.mark.parametrize("missing", EDGE_VARIABLES)
def test_03_if_one_of_them_is_missing_the_connection_string_is_used(
    hub: HubUnderTest, workload: Workload, missing: str
) -> None:
    """The workload API gets no request and there is no warning; with neither there is no client."""
    variables = _variables(hub, workload.uri)
    del variables[missing]
    with hub.module("solo", {**variables, **hub.simulator_variables("solo")}) as module:
        assert module.call("connect") is True
    assert workload.requests == []
    with pytest.raises(SdkError, match="OSError"):
        hub.module("solo", variables)


def test_04_the_audience_of_the_token_is_the_hub(hub: HubUnderTest, tap: Tap, workload: Workload) -> None:
    """The quoted resource, a newline and the expiry are signed; `sr` names IoT Hub, not the gateway."""
    with hub.module("solo", _variables(hub, workload.uri, tap.address)) as module:
        module.call("connect")
        connect = tap.wait_for(Connect, 1)
    (body,) = (body for verb, _, body in workload.requests if verb == "POST")
    request = json.loads(body)
    resource, expiry = base64.b64decode(request["data"]).decode().split("\n")
    assert resource == quote(SOLO.resource(hub.hub_address), safe="")
    assert (request["keyId"], request["algo"]) == ("primary", "HMACSHA256")
    assert connect.password is not None
    token = sas.parse(connect.password.decode())
    assert (token.resource, token.expiry) == (SOLO.resource(hub.hub_address), int(expiry))
    assert f"sr={resource}&".encode() in connect.password
    assert tap.address.encode() not in connect.password


def test_05_a_certificate_for_another_name_is_refused_by_the_sdk(hub: HubUnderTest, tap: Tap) -> None:
    """ClientError, and no byte of MQTT; with the right name in the SAN it connects."""
    with tapping(hub, [hub.gateway]) as wrong:
        with (
            hub.module("solo", _through(hub, wrong)) as module,
            pytest.raises(SdkError, match="ClientError caused by TlsExchangeAuthError"),
        ):
            module.call("connect")
        assert wrong.seen == []
    with hub.module("solo", _through(hub, tap)) as module:
        assert module.call("connect") is True


def test_06_a_wrong_key_is_a_credential_error(hub: HubUnderTest, tap: Tap) -> None:
    """CONNACK 5 on the first connect; the right key connects."""
    wrong = base64.b64encode(b"wrong" * 8).decode()
    with (
        hub.module("solo", _through(hub, tap, wrong)) as module,
        pytest.raises(SdkError, match="CredentialError"),
    ):
        module.call("connect")
    assert tap.packets(Connack) == [Connack(NOT_AUTHORIZED)]
    with hub.module("solo", _through(hub, tap)) as module:
        assert module.call("connect") is True


def test_07_the_secondary_key_is_valid_too(hub: HubUnderTest) -> None:
    """That of the module itself; another module's secondary key is refused."""
    with hub.module("solo", hub.simulator_variables("solo", key=hub.keys(SOLO)[1])) as module:
        assert module.call("connect") is True
    other = hub.simulator_variables("solo", key=hub.keys(Identity(DEVICE, "sender"))[1])
    with hub.module("solo", other) as module, pytest.raises(SdkError, match="CredentialError"):
        module.call("connect")


def test_08_a_token_of_the_device_is_valid_for_its_modules(hub: HubUnderTest) -> None:
    """With the device's audience and key; another device's token or another key is refused."""
    stranger = Identity("stranger")
    strangers_key, devices_key = hub.create(stranger)[0], hub.keys(SOLO.parent)[0]
    assert _connect(hub, SOLO, devices_key, signer=SOLO.parent).code == 0
    assert _connect(hub, SOLO, strangers_key, signer=stranger).code == NOT_AUTHORIZED
    assert _connect(hub, SOLO, hub.keys(SOLO)[0], signer=SOLO.parent).code == NOT_AUTHORIZED
    assert _connect(hub, SOLO.parent, hub.keys(SOLO)[0], signer=SOLO).code == NOT_AUTHORIZED


def test_09_a_token_is_valid_until_it_expires(hub: HubUnderTest) -> None:
    """Later it is refused; when it expires the connection ends, unless the client has renewed it."""
    key, ttl_s = hub.keys(SOLO)[0], 3
    assert _connect(hub, SOLO, key, ttl_s=-1).code == NOT_AUTHORIZED
    sender = Identity(DEVICE, "sender")
    with (
        contextlib.closing(RawModule(hub)) as left_alone,
        contextlib.closing(RawModule(hub)) as first,
        contextlib.closing(RawModule(hub)) as renewed,
    ):
        assert left_alone.connect_as(sender, hub.keys(sender)[0], ttl_s=ttl_s).code == 0
        assert first.connect_as(SOLO, key, ttl_s=ttl_s).code == 0
        assert renewed.connect_as(SOLO, key, ttl_s=60).code == 0
        left_alone.wait_closed()
        renewed.send(Pingreq())
        renewed.next(Pingresp)
    wait_for(lambda: "its token has expired" in hub.log(), "the reason in the log")


def test_10_any_api_version_is_accepted_and_none_is_refused(hub: HubUnderTest, tap: Tap) -> None:
    """A Plug and Play model id changes it; without an api-version the answer is CONNACK 5."""
    model = "dtmi:twinship:test;1"
    with hub.module("solo", _through(hub, tap), product_info=model) as module:
        assert module.call("connect") is True
    username = tap.wait_for(Connect, 1).username
    assert username is not None
    assert "api-version=2020-09-30" in username
    assert f"&model-id={quote(model, safe='')}" in username
    bare = username.replace("api-version=2020-09-30&", "")
    assert bare != username
    assert _connect(hub, SOLO, hub.keys(SOLO)[0], username=bare).code == NOT_AUTHORIZED
    assert _connect(hub, SOLO, hub.keys(SOLO)[0], username=username).code == 0


def test_11_the_client_id_matches_the_user_name(hub: HubUnderTest) -> None:
    """Another module, the device, another device, another letter case: all refused."""
    key = hub.keys(SOLO)[0]
    for client_id in (f"{DEVICE}/sender", DEVICE, "another/solo", f"{DEVICE}/SOLO"):
        assert _connect(hub, SOLO, key, client_id=client_id).code == NOT_AUTHORIZED
    assert _connect(hub, SOLO, key, client_id=str(SOLO)).code == 0


def test_12_a_renewed_token_costs_no_message(hub: HubUnderTest, tap: Tap) -> None:
    """DISCONNECT and a new CONNECT 120 s before expiry, no SUBSCRIBE; no message around it is lost.

    Messages arrive once, except for those that the SDK sends again with DUP because its DISCONNECT overtook
    the PUBACK: delivery is at least once, and the hub detects repeats no more than edgeHub does.
    """
    begin, sent = time.monotonic(), 0
    with (
        hub.module("solo") as receiver,
        hub.module("sender", _through(hub, tap, module="sender"), sastoken_ttl=130) as sender,
    ):
        receiver.call("listen", kind="message")
        sender.call("listen", kind="method")
        while len(tap.packets(Connack)) < 2 or sent % 100:
            assert time.monotonic() - begin < PATIENCE_S, "no renewal"
            sender.send("out", b"%d" % sent)
            sent += 1
            time.sleep(0.005)
        bodies = [receiver.next_body() for _ in tap.packets(Publish)]
        assert receiver.heard_nothing("message")
        answer = hub.service("POST", f"/twins/{DEVICE}/modules/sender/methods", {"methodName": "m"})
        assert answer["status"] == 207
    published = [packet for packet in tap.packets(Publish) if packet.topic.startswith("devices/")]
    assert sorted(bodies) == sorted(packet.body for packet in published)
    assert [int(packet.body) for packet in published if not packet.dup] == list(range(sent))
    first, second = tap.packets(Connect)[:2]
    assert (first.client_id, first.clean_session) == (second.client_id, False)
    assert first.password != second.password
    assert len(tap.packets(Disconnect, 1)) == 1
    assert tap.packets(Subscribe, 2) == []
    assert tap.packets(Connack, 2) == [Connack(0, True)]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_13_odd_names_are_not_escaped(hub: HubUnderTest, tap: Tap, name: str) -> None:
    """In the client id and in every topic: a message to itself, its twin, a method; also for a device."""
    with hub.module(name, _through(hub, tap, module=name)) as module:
        module.call("listen", kind="message")
        module.call("listen", kind="method")
        module.send("out", b"x")
        assert module.next_body() == b"x"
        module.call("report", patch={"a": 1})
        assert module.call("get_twin")["reported"]["a"] == 1
        path = f"/twins/{DEVICE}/modules/{quote(name)}/methods"
        assert hub.service("POST", path, {"methodName": "m", "payload": 1})["status"] == 207
    assert tap.wait_for(Connect, 1).client_id == f"{DEVICE}/{name}"
    assert f"devices/{DEVICE}/modules/{name}/inputs/#" in [
        each.filters[0][0] for each in tap.packets(Subscribe)
    ]
    hub.create(Identity(name))
    with hub.device(name) as device:
        device.call("report", patch={"a": 1})
        assert device.call("get_twin")["reported"]["a"] == 1


def test_14_the_host_name_may_have_a_port(hub: HubUnderTest, tap: Tap) -> None:
    """It is in the user name and, as %3A, in the audience; another host's audience is refused."""
    with_port = f"{hub.hub_address}:{REST_PORT}"
    with hub.module("solo", _through(hub, tap, host=with_port)) as module:
        assert module.call("connect") is True
    connect = tap.wait_for(Connect, 1)
    assert (connect.username or "").startswith(f"{with_port}/")
    assert f"sr={hub.hub_address}%3A{REST_PORT}%2F".encode() in (connect.password or b"")
    with (
        hub.module("solo", _through(hub, tap, host=f"elsewhere:{REST_PORT}")) as module,
        pytest.raises(SdkError, match="CredentialError"),
    ):
        module.call("connect")


def _socket(hub: HubUnderTest) -> Path:
    return socket_path(socket_folder(hub.folder), SOLO)


def _variables(hub: HubUnderTest, workload: str, gateway: str | None = None) -> dict[str, str]:
    """The variables that edgeAgent sets for module solo (ref 1.1)."""
    shown = hub.service("GET", f"/devices/{DEVICE}/modules/solo")
    return {
        "IOTEDGE_WORKLOADURI": workload,
        "IOTEDGE_MODULEGENERATIONID": shown["generationId"],
        "IOTEDGE_IOTHUBHOSTNAME": hub.hub_address,
        "IOTEDGE_GATEWAYHOSTNAME": gateway or hub.gateway,
        "IOTEDGE_DEVICEID": DEVICE,
        "IOTEDGE_MODULEID": "solo",
        "IOTEDGE_APIVERSION": API_VERSION,
    }


def _through(
    hub: HubUnderTest, tap: Tap, key: str | None = None, *, module: str = "solo", host: str | None = None
) -> dict[str, str]:
    """The variables that iotedgehubdev sets, with the tap as the gateway."""
    return {
        "EdgeHubConnectionString": f"HostName={host or hub.hub_address};GatewayHostName={tap.address};"
        f"DeviceId={DEVICE};ModuleId={module};SharedAccessKey={key or hub.key(module)}",
        "EdgeModuleCACertificateFile": str(hub.folder / "ca.pem"),
    }


def _connect(
    hub: HubUnderTest,
    identity: Identity,
    key: str,
    *,
    ttl_s: int = 60,
    signer: Identity | None = None,
    username: str | None = None,
    client_id: str | None = None,
) -> Connack:
    """The answer to a raw CONNECT; a refusal must also end the connection."""
    with contextlib.closing(RawModule(hub)) as raw:
        answer = raw.connect_as(
            identity, key, ttl_s=ttl_s, signer=signer, username=username, client_id=client_id
        )
        if answer.code != 0:
            raw.wait_closed()
        return answer
