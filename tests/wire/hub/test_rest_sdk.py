"""The unmodified azure-iot-hub SDK against the REST API of the real hub process, over TLS."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    ConfigurationContent,
    ExportImportDevice,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

from tests.wire.hub_under_test import DEVICE, ROUTES, HubUnderTest, running_hub

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("rest")) as running:
        running.deploy("module")
        yield running


@pytest.fixture(scope="module")
def connection_string(hub: HubUnderTest) -> Iterator[str]:
    """The service's connection string; `requests` trusts the hub's authority."""
    lines = (hub.folder / "service.env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    with mock.patch.dict(os.environ, {"REQUESTS_CA_BUNDLE": variables["REQUESTS_CA_BUNDLE"]}):
        yield variables["IOTHUB_CONNECTION_STRING"]


@pytest.fixture(scope="module")
def registry(connection_string: str) -> Iterator[Any]:
    manager = IoTHubRegistryManager.from_connection_string(connection_string)
    yield manager
    manager.protocol.close()


def refusal(error: HttpOperationError) -> tuple[int, str]:
    """The status and the name of the error."""
    return error.response.status_code, error.response.headers["iothub-errorcode"]


def test_devices_are_created_read_changed_and_deleted(registry: Any) -> None:
    """Every call of the SDK accepts the status of its answer (statement 78, statement 79)."""
    made = registry.create_device_with_sas("d1", "", "", "enabled", iot_edge=True)
    assert (made.device_id, made.capabilities.iot_edge) == ("d1", True)
    assert registry.get_device("d1").authentication.symmetric_key.primary_key
    with pytest.raises(HttpOperationError) as twice:
        registry.create_device_with_sas("d1", "", "", "enabled")
    assert refusal(twice.value) == (409, "DeviceAlreadyExists")
    changed = registry.update_device_with_sas("d1", made.etag, "", "", "disabled", status_reason="why")
    assert (changed.status, changed.status_reason, changed.etag != made.etag) == ("disabled", "why", True)
    with pytest.raises(HttpOperationError) as stale:
        registry.update_device_with_sas("d1", made.etag, "", "", "enabled")
    assert refusal(stale.value) == (412, "PreconditionFailed")
    assert "d1" in [device.device_id for device in registry.get_devices(10)]
    registry.delete_device("d1")
    with pytest.raises(HttpOperationError) as gone:
        registry.get_device("d1")
    assert refusal(gone.value) == (404, "DeviceNotFound")
    assert "ErrorCode:DeviceNotFound" in json.loads(gone.value.response.text)["Message"]


def test_modules_are_created_read_changed_and_deleted(registry: Any) -> None:
    """As devices; an edge device has its system modules at once (statement 91 needs their keys)."""
    made = registry.create_module_with_sas(DEVICE, "extra", "me", "", "")
    assert (made.managed_by, made.device_id) == ("me", DEVICE)
    modules = {module.module_id: module for module in registry.get_modules(DEVICE)}
    assert {"$edgeAgent", "$edgeHub", "extra"} <= modules.keys()
    assert modules["$edgeHub"].authentication.symmetric_key.primary_key
    key = modules["$edgeHub"].authentication.symmetric_key.primary_key
    changed = registry.update_module_with_sas(DEVICE, "extra", "me", made.etag, key, key)
    assert changed.authentication.symmetric_key.primary_key == key
    assert registry.get_module(DEVICE, "extra").etag == changed.etag
    registry.delete_module(DEVICE, "extra")
    with pytest.raises(HttpOperationError) as gone:
        registry.get_module(DEVICE, "extra")
    assert refusal(gone.value) == (404, "ModuleNotFound")


def test_twins_merge_replace_and_check_their_etag(registry: Any) -> None:
    """PATCH deletes nulls, PUT replaces, a stale etag is 412 (statement 80, statement 81)."""
    registry.create_device_with_sas("d2", "", "", "enabled")
    first = registry.update_twin(
        "d2", Twin(tags={"floor": 1}, properties=TwinProperties(desired={"a": 1, "b": 2}))
    )
    second = registry.update_twin("d2", Twin(properties=TwinProperties(desired={"a": None})), first.etag)
    assert (second.version, second.etag != first.etag) == (first.version + 1, True)
    assert second.properties.desired["$version"] == first.properties.desired["$version"] + 1
    assert "a" not in second.properties.desired
    assert second.properties.desired["b"] == 2
    with pytest.raises(HttpOperationError) as stale:
        registry.update_twin("d2", Twin(tags={"floor": 2}), first.etag)
    assert refusal(stale.value) == (412, "PreconditionFailed")
    third = registry.replace_twin("d2", Twin(properties=TwinProperties(desired={"c": 3})))
    assert "b" not in third.properties.desired
    assert registry.get_twin("d2").tags == {"floor": 1}


@pytest.mark.client("azure-iot-hub (Python)", "HTTPS")
@pytest.mark.uses("connect", "twin")
def test_a_twin_change_reaches_the_connected_module(hub: HubUnderTest, registry: Any) -> None:
    """As a patch with `$version`, and null for removed names (statement 65, statement 81)."""
    with hub.module("module") as module:
        module.call("listen", kind="patch")
        registry.update_module_twin(
            DEVICE, "module", Twin(properties=TwinProperties(desired={"a": 1, "b": 1}))
        )
        registry.replace_module_twin(DEVICE, "module", Twin(properties=TwinProperties(desired={"b": 2})))
        patches = [module.next("patch")["patch"] for _ in range(2)]
        ordered = sorted(patches, key=lambda patch: int(patch["$version"]))
        versions = [patch.pop("$version") for patch in ordered]
        assert ordered == [{"a": 1, "b": 1}, {"a": None, "b": 2}]
        assert versions[1] == versions[0] + 1
        module.call("report", patch={"seen": versions[1]})
        twin = registry.get_module_twin(DEVICE, "module")
        assert (twin.properties.reported["seen"], twin.connection_state) == (versions[1], "Connected")
        assert registry.get_module(DEVICE, "module").connection_state == "Connected"


@pytest.mark.client("azure-iot-hub (Python)", "HTTPS")
@pytest.mark.uses("method")
def test_methods_are_answered_by_the_module(hub: HubUnderTest, registry: Any) -> None:
    """The caller gets status and payload; None arrives as an empty text (statement 70, statement 76)."""
    with hub.module("module") as module:
        module.call("listen", kind="method")
        call = CloudToDeviceMethod(method_name="echo", payload=None)
        result = registry.invoke_device_module_method(DEVICE, "module", call)
    assert (result.status, result.payload) == (207, {"name": "echo", "got": ""})


def test_an_absent_module_is_not_online(registry: Any) -> None:
    """404 with 404103 inside Message (statement 88)."""
    registry.create_module_with_sas(DEVICE, "absent", "", "", "")
    with pytest.raises(HttpOperationError) as absent:
        registry.invoke_device_module_method(DEVICE, "absent", CloudToDeviceMethod(method_name="x"))
    assert refusal(absent.value) == (404, "DeviceNotOnline")
    assert json.loads(json.loads(absent.value.response.text)["Message"])["errorCode"] == 404103


def test_a_deployment_changes_routes_and_twins(registry: Any, connection_string: str) -> None:
    """Modules exist after the call, routes apply, desired properties are replaced (statement 87)."""
    configurations = IoTHubConfigurationManager.from_connection_string(connection_string)
    registry.create_module_with_sas(DEVICE, "deployed", "", "", "")
    registry.update_module_twin(DEVICE, "deployed", Twin(properties=TwinProperties(desired={"old": 1})))
    settings = {"image": "x", "createOptions": "{}"}
    content = {
        "$edgeAgent": {
            "properties.desired": {
                "schemaVersion": "1.1",
                "modules": {name: {"settings": settings} for name in ("deployed", "fresh")},
            }
        },
        "$edgeHub": {"properties.desired": ROUTES},
        "deployed": {"properties.desired": {"new": 2}},
    }
    configurations.apply_configuration_on_edge_device(DEVICE, ConfigurationContent(modules_content=content))
    assert {"deployed", "fresh"} <= {module.module_id for module in registry.get_modules(DEVICE)}
    desired = registry.get_module_twin(DEVICE, "deployed").properties.desired
    assert {key: value for key, value in desired.items() if not key.startswith("$")} == {"new": 2}
    reported = registry.get_module_twin(DEVICE, "$edgeHub").properties.reported
    assert reported["lastDesiredStatus"]["code"] == 200


def test_bulk_calls_report_each_failure(registry: Any) -> None:
    """The SDK reads the result of both outcomes."""
    good = registry.bulk_create_or_update_devices([ExportImportDevice(id="b1", import_mode="create")])
    assert good.is_successful
    bad = registry.bulk_create_or_update_devices([ExportImportDevice(id="b1", import_mode="create")])
    assert (bad.is_successful, bad.errors[0].error_code) == (False, "DeviceAlreadyExists")


def test_an_unsupported_call_is_refused_by_name(registry: Any) -> None:
    """501 at once: after a 500 the SDK would try again (statement 84)."""
    for call in (
        registry.get_device_registry_statistics,
        registry.get_service_statistics,
    ):
        with pytest.raises(HttpOperationError) as refused:
            call()
        assert refusal(refused.value) == (501, "NotImplemented")


def test_a_wrong_key_is_unauthorized(connection_string: str) -> None:
    """401, and the answer does not contain the key."""
    parts = connection_string.rpartition("SharedAccessKey=")
    wrong = f"{parts[0]}SharedAccessKey=AAAA"
    with pytest.raises(HttpOperationError) as refused:
        IoTHubRegistryManager.from_connection_string(wrong).get_device(DEVICE)
    assert refusal(refused.value) == (401, "IotHubUnauthorizedAccess")
    assert "AAAA" not in refused.value.response.text


def test_a_kill_loses_no_answered_change(tmp_path: Path) -> None:
    """A change is stored before its answer, so kill -9 right after it loses nothing."""
    with running_hub(tmp_path) as hub:
        hub.deploy("module")
        twin = hub.service("PATCH", f"/twins/{DEVICE}/modules/module", {"properties": {"desired": {"a": 1}}})
        key = hub.key("module")
        hub.kill()
        hub.start()
        assert hub.service("GET", f"/twins/{DEVICE}/modules/module") == twin
        assert hub.key("module") == key
