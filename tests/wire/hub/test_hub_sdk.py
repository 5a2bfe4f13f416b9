"""The unmodified device SDK against the real hub process: connect, messages, twins, methods, refusals."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub, wait_for
from tests.wire.sdk_module import SdkError
from twinship.simulator.certificates import Authority

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy("sender", "receiver", "solo")
        yield running


def test_a_message_travels_from_output_to_input(hub: HubUnderTest) -> None:
    """Body and properties arrive as sent, with the sender's name and without the output's."""
    body, properties = bytes(range(256)), {"plain": "1", "odd": "a=b&c/d%e+ü", "empty": ""}
    fields = {
        "message_id": "m/1",
        "correlation_id": "c 1",
        "user_id": "u",
        "content_type": "application/octet-stream",
        "content_encoding": "binary",
    }
    with hub.module("receiver") as receiver, hub.module("sender") as sender:
        receiver.call("listen", kind="message")
        sender.send("work", body, properties, **fields)
        got = receiver.next("message")
    assert base64.b64decode(got.pop("data")) == body
    # the SDK's own reading: all after a second '=' is lost, and this one is escaped
    assert got.pop("properties") == {**properties, "$.cdid": DEVICE, "$.cmid": "sender"}
    assert got == {**fields, "input_name": "work"}


def test_a_module_with_the_edge_agents_variables_connects_through_its_workload_socket(
    hub: HubUnderTest,
) -> None:
    """The IOTEDGE_* variables are enough: its socket gives the trust bundle and the signature."""
    with hub.module("solo", hub.edge_agent_variables("solo")) as module:
        assert module.call("connect") is True


def test_a_twin_is_read_and_its_reported_properties_are_patched(hub: HubUnderTest) -> None:
    """GET has both sections with versions and without metadata; a patch merges (ref 4.9)."""
    with hub.module("solo") as module:
        module.call("report", patch={"a": 1, "b": {"c": 2}})
        before = module.call("get_twin")
        module.call("report", patch={"a": None, "b": {"d": 3}})
        after = module.call("get_twin")
    assert set(after) == {"desired", "reported"}
    assert isinstance(after["desired"]["$version"], int)
    assert after["reported"] == {"b": {"c": 2, "d": 3}, "$version": before["reported"]["$version"] + 1}


def test_a_reported_patch_beyond_a_limit_is_refused(hub: HubUnderTest) -> None:
    """A text of 4,097 bytes raises ClientError (status 400), one byte less is accepted (ref statement 62)."""
    with hub.module("solo") as module:
        with pytest.raises(SdkError, match=r"ClientError caused by ServiceError: .*400"):
            module.call("report", patch={"text": "x" * 4097})
        module.call("report", patch={"text": "x" * 4096})
        module.call("report", patch={"text": None})


def test_a_desired_change_reaches_the_subscribed_module_once(hub: HubUnderTest) -> None:
    """The patch contains the change and the new $version (ref statement 65, statement 66)."""
    with hub.module("receiver", ensure_desired_properties=False) as module:
        module.call("listen", kind="patch")
        version = module.call("get_twin")["desired"]["$version"]
        path = f"/twins/{DEVICE}/modules/receiver"
        hub.service("PATCH", path, {"properties": {"desired": {"fps": 5}}})
        assert module.next("patch")["patch"] == {"fps": 5, "$version": version + 1}
        module.call("get_twin")
        assert module.heard_nothing("patch")


def test_a_direct_method_is_answered_by_the_module(hub: HubUnderTest) -> None:
    """The caller gets the handler's status and payload; a space in a name is not encoded (statement 75)."""
    with hub.module("solo") as module:
        module.call("listen", kind="method")
        path = f"/twins/{DEVICE}/modules/solo/methods"
        got = hub.service("POST", path, {"methodName": "do it", "payload": [1, None]})
    assert got == {"status": 207, "payload": {"name": "do it", "got": [1, None]}}


def test_a_wrong_key_is_a_credential_error(hub: HubUnderTest) -> None:
    """CONNACK 5, which the SDK does not retry (ref statement 6); a device's key is valid (statement 8)."""
    wrong = hub.simulator_variables("solo", key=base64.b64encode(b"wrong" * 8).decode())
    with hub.module("solo", wrong) as module, pytest.raises(SdkError, match="CredentialError"):
        module.call("connect")


def test_another_authority_is_a_tls_error(hub: HubUnderTest, tmp_path: Path) -> None:
    """A client that trusts another root refuses the hub's certificate."""
    other = tmp_path / "other.pem"
    other.write_text(Authority.create().ca_pem)
    variables = {**hub.simulator_variables("solo"), "EdgeModuleCACertificateFile": str(other)}
    with hub.module("solo", variables) as module, pytest.raises(SdkError, match="TlsExchangeAuthError"):
        module.call("connect")


def test_a_message_upstream_is_one_line(hub: HubUnderTest) -> None:
    """A JSON body is an object in it; the sender is in the system properties (ref 6)."""
    fields = {"message_id": "up-1", "content_type": "application/json", "content_encoding": "utf-8"}
    with hub.module("sender") as sender:
        sender.send("cloud", b'{"label": "7"}', {"camera": "c"}, **fields)
    wait_for(lambda: bool(hub.upstream()), "a line upstream")
    (line,) = hub.upstream()
    assert (line["Body"], line["Properties"]) == ({"label": "7"}, {"camera": "c"})
    system = line["SystemProperties"]
    assert system.pop("enqueuedTime") == line["EnqueuedTimeUtc"]
    assert system == {
        "connectionDeviceId": DEVICE,
        "connectionModuleId": "sender",
        "messageId": "up-1",
        "contentType": "application/json",
        "contentEncoding": "utf-8",
    }
