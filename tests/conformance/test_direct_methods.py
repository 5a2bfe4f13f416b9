"""Direct methods between modules and from the service (statements 15, 70 to 77, 88), with unmodified SDKs."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.hub.models import CloudToDeviceMethod
from msrest.exceptions import HttpOperationError

from tests.conformance.peers.iot_hub import IotHub
from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from tests.wire.sdk_module import SdkError, SdkModule
from twinship.simulator import sas
from twinship.simulator.mqtt.packets import Publish, Suback, Subscribe

pytestmark = [pytest.mark.conformance, pytest.mark.e2e]

SPACED = "with space"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy("a", "b", "late", "gone", "raw")
        spaced = {"deviceId": DEVICE, "moduleId": SPACED}
        running.service("PUT", f"/devices/{DEVICE}/modules/with%20space", spaced)
        yield running


@pytest.fixture(scope="module")
def a(hub: HubUnderTest) -> Iterator[SdkModule]:
    """The module that calls; it needs no MQTT connection for that."""
    with hub.module("a") as module:
        yield module


@pytest.fixture(scope="module")
def b(hub: HubUnderTest) -> Iterator[SdkModule]:
    """The module that is called."""
    with hub.module("b") as module:
        module.call("listen", kind="method")
        yield module


def post(
    hub: HubUnderTest,
    body: object,
    *,
    headers: dict[str, str],
    path: str = f"/twins/{DEVICE}/modules/b/methods",
) -> tuple[int, Any]:
    """A POST to the edge device's HTTPS, on any port."""
    context = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))
    port = hub.endpoints()["https_ports"][DEVICE]
    connection = http.client.HTTPSConnection(hub.gateway, port, context=context, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", f"{path}?api-version=2019-10-01", json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def caller(hub: HubUnderTest, module: str = "a", *, key: str | None = None) -> dict[str, str]:
    """The headers that the SDK sends for a module."""
    resource = f"{hub.hub_address}/devices/{DEVICE}/modules/{module}"
    token = sas.sign(key or hub.key(module), resource, int(time.time()) + 60)
    return {"x-ms-edge-moduleId": f"{DEVICE}/{module}", "Authorization": token}


def refusal(error: HttpOperationError) -> tuple[int, int]:
    """The HTTP status, and the error number of direct methods inside Message."""
    return error.response.status_code, json.loads(json.loads(error.response.text)["Message"])["errorCode"]


def test_15_proxies_reach_ports_that_an_sdk_cannot_set(tmp_path: Path) -> None:
    """With `mqtt_proxy` and `https_proxy` a module connects and calls although the hub has no port 443.

    Another process has the port, or this user may not open it. The proxy opens no other tunnel, and it has
    the same port after a restart of the hub, because running modules keep their settings.
    """
    hub = HubUnderTest(tmp_path / "simulator")
    with contextlib.ExitStack() as running:
        with contextlib.suppress(PermissionError):
            running.enter_context(socket.create_server((hub.gateway, 443)))
        hub.start()
        running.callback(hub.close)
        hub.deploy("a", "b")
        proxy = hub.proxy()
        assert proxy is not None
        assert hub.endpoints()["https_ports"][DEVICE] != 443
        proxies = {"mqtt_proxy": proxy, "https_proxy": proxy}
        one = running.enter_context(hub.module("a", hub.simulator_variables("a") | proxies))
        other = running.enter_context(hub.module("b", hub.simulator_variables("b") | proxies))
        other.call("listen", kind="method")
        call = {"methodName": "x", "payload": 1}
        assert one.call("invoke", params=call, device=DEVICE, module="b")["status"] == 207
        log = hub.log()
        for port in (443, 8883):
            assert f"tunnel to {hub.gateway}:{port} opened" in log
        assert tunnel(proxy, f"{hub.hub_address}:8443") == 403
        hub.kill()
        hub.start()
        assert hub.proxy() == proxy


def tunnel(proxy: str, wanted: str) -> int:
    """The status of a CONNECT."""
    host, _, port = proxy.removeprefix("http://").partition(":")
    with contextlib.closing(socket.create_connection((host, int(port)), timeout=60)) as connection:
        connection.sendall(f"CONNECT {wanted} HTTP/1.1\r\nHost: {wanted}\r\n\r\n".encode())
        return int(connection.recv(64).split()[1])


@pytest.mark.parametrize(
    ("status", "payload"),
    [(200, {"a": [1, {"ü": None}]}), (207, None), (-1, "text"), (404, [1, "2", None]), (200, 0), (200, "")],
)
def test_70_status_and_payload_pass_from_module_to_module(
    hub: HubUnderTest, a: SdkModule, status: int, payload: Any
) -> None:
    """invoke_method in A returns the result of B's handler, with any status and any JSON."""
    with hub.module("b") as target:
        target.call("answer_methods", status=status, payload=payload)
        got = a.call("invoke", params={"methodName": "m", "payload": {"q": 1}}, device=DEVICE, module="b")
    assert got == {"status": status, "payload": payload}


def test_71_an_absent_target_is_not_found_after_the_connect_timeout(hub: HubUnderTest, a: SdkModule) -> None:
    """404 without a connect time-out; with 8 s the call is sent 3 s after the target has subscribed."""
    call: dict[str, Any] = {"methodName": "m", "responseTimeoutInSeconds": 5}
    with pytest.raises(SdkError, match=r"ClientError caused by ServiceError: .*404"):
        a.call("invoke", params=call, device=DEVICE, module="late")
    with hub.module("late") as late:
        a.begin("invoke", params={**call, "connectTimeoutInSeconds": 8}, device=DEVICE, module="late")
        wait_for(lambda: f"{DEVICE}/late: a method call waits up to 8 s" in hub.log(), "the call")
        before = time.monotonic()
        late.call("answer_methods", status=200, payload="here")
        late.next("method")
        assert time.monotonic() - before >= 3
        assert a.finish() == {"status": 200, "payload": "here"}


def test_72_a_silent_target_times_out(hub: HubUnderTest, a: SdkModule) -> None:
    """504 after the response time-out, before the SDK's own 10 s; the text names the request."""
    call = {"methodName": "m", "responseTimeoutInSeconds": 5}
    with hub.module("late") as silent:
        silent.call("answer_methods", silent=True)
        began = time.monotonic()
        with pytest.raises(SdkError, match=r"ClientError caused by ServiceError: .*504"):
            a.call("invoke", params=call, device=DEVICE, module="late")
        assert time.monotonic() - began >= 5
        path = f"/twins/{DEVICE}/modules/late/methods"
        status, body = post(hub, call, headers=caller(hub), path=path)
    assert status == 504
    assert body["message"].startswith("Timed out waiting for device to respond to method request ")
    assert len(body["message"].split()[-1]) == 36


def test_73_a_caller_needs_its_name_and_token_of_this_device(hub: HubUnderTest, b: SdkModule) -> None:
    """400 without the header or its slash; 401 for another device and for a token of another identity.

    A token of the device is valid for its modules, as over MQTT.
    """
    call = {"methodName": "m"}
    good = caller(hub)
    token = {"Authorization": good["Authorization"]}
    assert post(hub, call, headers=token) == (
        400,
        {"message": "Invalid header value for x-ms-edge-moduleId"},
    )
    assert post(hub, call, headers={**token, "x-ms-edge-moduleId": DEVICE})[0] == 400
    assert post(hub, call, headers=stranger(hub))[0] == 401
    assert post(hub, call, headers={**token, "x-ms-edge-moduleId": f"{DEVICE}/b"})[0] == 401
    assert post(hub, call, headers={"x-ms-edge-moduleId": f"{DEVICE}/a"})[0] == 401
    assert post(hub, call, headers=caller(hub, key="d3Jvbmc="))[0] == 401
    assert b.heard_nothing("method")
    assert post(hub, call, headers=good)[0] == 200
    shown = hub.service("GET", f"/devices/{DEVICE}")
    key = shown["authentication"]["symmetricKey"]["primaryKey"]
    device = sas.sign(key, f"{hub.hub_address}/devices/{DEVICE}", int(time.time()) + 60)
    assert post(hub, call, headers={**good, "Authorization": device})[0] == 200
    for _ in range(2):
        b.next("method")


def stranger(hub: HubUnderTest) -> dict[str, str]:
    """The valid headers of a module on another device."""
    hub.service("PUT", "/devices/other", {"deviceId": "other"})
    body = {"deviceId": "other", "moduleId": "a"}
    shown = hub.service("PUT", "/devices/other/modules/a", body)
    key = shown["authentication"]["symmetricKey"]["primaryKey"]
    token = sas.sign(key, f"{hub.hub_address}/devices/other/modules/a", int(time.time()) + 60)
    return {"x-ms-edge-moduleId": "other/a", "Authorization": token}


def test_74_payload_and_name_have_limits(hub: HubUnderTest, a: SdkModule, b: SdkModule) -> None:
    """131,072 bytes of JSON and 100 characters are accepted, one more is 400; so are bad time-outs."""

    def invoke(**params: Any) -> Any:
        return a.call("invoke", params={"methodName": "m", **params}, device=DEVICE, module="b")

    largest = "x" * 131_070  # and two quotation marks
    invoke(payload=largest)
    assert b.next("method")["payload"] == largest
    invoke(methodName="n" * 100)
    assert b.next("method")["name"] == "n" * 100
    for beyond in (
        {"payload": largest + "x"},
        {"methodName": "n" * 101},
        {"responseTimeoutInSeconds": 4},
        {"responseTimeoutInSeconds": 301},
        {"connectTimeoutInSeconds": 301},
    ):
        with pytest.raises(SdkError, match=r"ClientError caused by ServiceError: .*400"):
            invoke(**beyond)
    assert b.heard_nothing("method")


def test_75_names_are_not_encoded_and_ids_may_have_a_space(hub: HubUnderTest, a: SdkModule) -> None:
    """A name is not encoded on the wire: a raw client gets `do it/now` as it was sent.

    The SDK reads only the part before the first `/` as the name, and answers the call; it also decodes a
    percent sign that was not an encoding. So the statement holds for the edge, and `/` is unusable in names
    of SDK modules.
    """
    with hub.module(SPACED, spaced_variables(hub)) as spaced:
        spaced.call("answer_methods", status=200, payload="spaced")
        for name, seen in (("do it", "do it"), ("do it/now", "do it"), ("do%20it", "do it")):
            got = a.call("invoke", params={"methodName": name}, device=DEVICE, module=SPACED)
            assert got == {"status": 200, "payload": "spaced"}
            assert spaced.next("method")["name"] == seen
    with contextlib.closing(RawModule(hub)) as raw:
        raw.connect("raw")
        raw.send(Subscribe(1, (("$iothub/methods/POST/#", 1),)))
        raw.next(Suback)
        a.begin("invoke", params={"methodName": "do it/now"}, device=DEVICE, module="raw")
        topic, rid = raw.next(Publish).topic.split("?$rid=")
        assert topic == "$iothub/methods/POST/do it/now/"
        raw.send(Publish(f"$iothub/methods/res/200/?$rid={rid}", b"1", 0, None))
        assert a.finish() == {"status": 200, "payload": 1}


def spaced_variables(hub: HubUnderTest) -> dict[str, str]:
    """simulator_variables for the module with a space in its id."""
    shown = hub.service("GET", f"/devices/{DEVICE}/modules/with%20space")
    return hub.simulator_variables(SPACED, key=shown["authentication"]["symmetricKey"]["primaryKey"])


@pytest.mark.verified
def test_76_no_payload_from_the_service_is_an_empty_text(iot_hub: IotHub) -> None:
    """azure-iot-hub sends `""` for None, and the module gets it."""
    call = CloudToDeviceMethod(method_name="m", payload=None)
    with iot_hub.module("76") as module:
        module.call("listen", kind="method")
        assert iot_hub.registry.invoke_device_module_method(iot_hub.device_id, "76", call).status == 207
        assert module.next("method")["payload"] == ""


def test_77_concurrent_calls_to_one_module_are_both_answered(
    hub: HubUnderTest, a: SdkModule, b: SdkModule
) -> None:
    """Two callers at once, each gets the answer to its own request."""
    with hub.module("gone") as other:
        for round_ in range(5):
            for who, name in ((a, "one"), (other, "two")):
                who.begin("invoke", params={"methodName": name, "payload": round_}, device=DEVICE, module="b")
            for who, name in ((a, "one"), (other, "two")):
                assert who.finish() == {"status": 207, "payload": {"name": name, "got": round_}}
    heard = {(method["name"], method["payload"]) for method in (b.next("method") for _ in range(10))}
    assert heard == {(name, round_) for name in ("one", "two") for round_ in range(5)}


@pytest.mark.verified
def test_88_the_service_gets_errors_for_absent_and_silent_modules(iot_hub: IotHub) -> None:
    """404 with 404103 inside Message, and 504 with 504101."""
    call = CloudToDeviceMethod(method_name="m", response_timeout_in_seconds=5)
    with iot_hub.module("88") as silent:
        with pytest.raises(HttpOperationError) as absent:
            iot_hub.registry.invoke_device_module_method(iot_hub.device_id, "88", call)
        assert refusal(absent.value) == (404, 404103)
        silent.call("answer_methods", silent=True)
        with pytest.raises(HttpOperationError) as timed_out:
            iot_hub.registry.invoke_device_module_method(iot_hub.device_id, "88", call)
    assert refusal(timed_out.value) == (504, 504101)
