"""Statements 78 to 87 of the protocol reference: the unmodified azure-iot-hub SDK against the hub's API."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from azure.iot.hub.models import (
    Configuration,
    ConfigurationContent,
    ConfigurationMetrics,
    ConfigurationQueriesTestInput,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

from tests.conformance.peers.iot_hub import IotHub, simulated
from tests.wire.hub_under_test import DEVICE, ROUTES, HubUnderTest, running_hub, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.conformance]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("service")) as running:
        running.deploy("module")
        yield running


@pytest.fixture(scope="module")
def service(hub: HubUnderTest) -> Iterator[IotHub]:
    """The service API of the hub with the edge device."""
    with simulated(hub) as iot_hub:
        yield iot_hub


def refused(error: pytest.ExceptionInfo[HttpOperationError]) -> tuple[int, str]:
    """The status and the name of the error."""
    response = error.value.response
    return response.status_code, response.headers["iothub-errorcode"]


def own(section: dict[str, Any]) -> dict[str, Any]:
    """A section of a twin without $version and $metadata."""
    return {key: value for key, value in section.items() if not key.startswith("$")}


def content(*modules: str, routes: Any = ROUTES, **twins: dict[str, Any]) -> dict[str, Any]:
    """A whole modulesContent; `routes` is all of `$edgeHub`'s desired properties."""
    system = {"type": "docker", "settings": {"image": "system"}}
    specified = {name: {"type": "docker", "settings": {"image": name}} for name in modules}
    return {
        "$edgeAgent": {
            "properties.desired": {
                "schemaVersion": "1.1",
                "runtime": {"type": "docker", "settings": {}},
                "systemModules": {"edgeAgent": system, "edgeHub": system},
                "modules": specified,
            }
        },
        "$edgeHub": {"properties.desired": routes},
        **{name: {"properties.desired": desired} for name, desired in twins.items()},
    }


@pytest.mark.verified
def test_78_each_call_is_answered_with_the_status_that_the_sdk_accepts(iot_hub: IotHub) -> None:
    """A creation is 200 and not 201, a deletion 204 without a body, applying a configuration 204."""
    device = iot_hub.id(78)
    registry, configurations = iot_hub.registry, iot_hub.configurations
    assert registry.create_device_with_sas(device, "", "", "enabled", iot_edge=True).device_id == device
    assert registry.create_module_with_sas(device, "m", "", "", "").module_id == "m"
    configurations.apply_configuration_on_edge_device(
        device, ConfigurationContent(modules_content=content("a"))
    )
    registry.delete_module(device, "m")
    registry.delete_device(device)
    path, body = f"/devices/{device}", {"deviceId": device, "capabilities": {"iotEdge": True}}
    assert iot_hub.call("PUT", path, body).status_code == 200
    module = {"deviceId": device, "moduleId": "m"}
    assert iot_hub.call("PUT", f"{path}/modules/m", module).status_code in (200, 201)
    applied = iot_hub.call("POST", f"{path}/applyConfigurationContent", {"modulesContent": content("a")})
    assert (applied.status_code, applied.content) == (204, b"")
    for each in (f"{path}/modules/m", path):
        deleted = iot_hub.call("DELETE", each, headers={"If-Match": "*"})
        assert (deleted.status_code, deleted.content) == (204, b"")


@pytest.mark.verified
def test_79_an_unknown_device_is_404_and_a_second_create_409(iot_hub: IotHub) -> None:
    """With the name of the error inside Message."""
    with pytest.raises(HttpOperationError) as unknown:
        iot_hub.registry.get_device(iot_hub.id("nobody"))
    assert refused(unknown) == (404, "DeviceNotFound")
    assert "ErrorCode:DeviceNotFound" in json.loads(unknown.value.response.text)["Message"]
    device = iot_hub.id(79)
    iot_hub.registry.create_device_with_sas(device, "", "", "enabled")
    with pytest.raises(HttpOperationError) as second:
        iot_hub.registry.create_device_with_sas(device, "", "", "enabled")
    assert refused(second) == (409, "DeviceAlreadyExists")


@pytest.mark.verified
def test_80_a_stale_etag_is_412_and_the_present_one_is_accepted(iot_hub: IotHub) -> None:
    """`*` is accepted too; each change sets a new etag and raises the version by one."""
    device, registry = iot_hub.id(80), iot_hub.registry
    registry.create_device_with_sas(device, "", "", "enabled")
    first = registry.get_twin(device)
    second = registry.update_twin(device, Twin(tags={"a": 1}), first.etag)
    third = registry.update_twin(device, Twin(tags={"a": 2}), "*")
    assert [second.version, third.version] == [first.version + 1, first.version + 2]
    assert len({first.etag, second.etag, third.etag}) == 3
    with pytest.raises(HttpOperationError) as stale:
        registry.update_twin(device, Twin(tags={"a": 3}), first.etag)
    assert refused(stale) == (412, "PreconditionFailed")
    assert registry.get_twin(device).tags == {"a": 2}


@pytest.mark.verified
def test_81_update_merges_and_replace_removes_and_both_reach_the_module(iot_hub: IotHub) -> None:
    """A null deletes; a replacement removes the other names; the connected module gets both as patches."""
    with iot_hub.module("81") as module:
        module.call("listen", kind="patch")
        patches = []
        for write, desired in (
            (iot_hub.registry.replace_module_twin, {"a": 1, "b": {"c": 1, "d": 1}}),
            (iot_hub.registry.update_module_twin, {"a": None, "b": {"c": 2}}),
            (iot_hub.registry.replace_module_twin, {"e": 5}),
        ):
            twin = write(iot_hub.device_id, "81", Twin(properties=TwinProperties(desired=desired)))
            patches.append(module.next("patch")["patch"])
    assert own(twin.properties.desired) == {"e": 5}
    assert [own(patch) for patch in patches[1:]] == [{"a": None, "b": {"c": 2}}, {"b": None, "e": 5}]
    assert patches[-1]["$version"] == twin.properties.desired["$version"]


@pytest.mark.verified
def test_82_queries_come_in_pages_and_projections_as_additional_properties(iot_hub: IotHub) -> None:
    """Every page but the last has a continuation; the SDK reads each row as a Twin."""
    devices = [iot_hub.id(f"82-{number}") for number in range(5)]
    topic = devices[0]
    for number, device in enumerate(devices):
        iot_hub.registry.create_device_with_sas(device, "", "", "enabled")
        iot_hub.registry.update_twin(device, Twin(tags={"topic": topic, "floor": number}))
    text = (
        f"SELECT deviceId, tags.floor AS floor FROM devices WHERE tags.topic = '{topic}' AND tags.floor > 0"
    )
    # a real hub answers queries from a copy that lags behind
    wait_for(lambda: len(iot_hub.query(text).items) == 4, "the query to see the devices")
    pages, continuation = [], None
    while True:
        result = iot_hub.query(text, continuation, 3)
        pages.append([(row.device_id, row.additional_properties["floor"]) for row in result.items])
        continuation = result.continuation_token
        if continuation is None:
            break
    assert [len(page) for page in pages] == [3, 1]
    assert sorted(pages[0] + pages[1]) == [(device, number) for number, device in enumerate(devices)][1:]
    assert result.type == "raw"
    last = iot_hub.call("POST", "/devices/query", {"query": text})
    assert "x-ms-continuation" not in last.headers
    whole = iot_hub.query(f"SELECT * FROM devices WHERE deviceId = '{topic}'")
    assert (whole.type, whole.items[0].tags["floor"], whole.items[0].status) == ("twin", 0, "enabled")
    iot_hub.registry.create_module_with_sas(topic, "module", "", "", "")
    modules = f"SELECT * FROM devices.modules WHERE deviceId = '{topic}' AND moduleId IN ['module']"
    wait_for(lambda: bool(iot_hub.query(modules).items), "the query to see the module")
    assert [(row.device_id, row.module_id) for row in iot_hub.query(modules).items] == [(topic, "module")]
    counted = iot_hub.query(f"SELECT COUNT() AS n FROM devices WHERE tags.topic = '{topic}'")
    assert counted.items[0].additional_properties == {"n": 5}
    with pytest.raises(HttpOperationError) as wrong:
        iot_hub.query("SELECT * FROM devices WHERE tag.topic = '82'")
    assert refused(wrong) == (400, "ArgumentInvalid")


@pytest.mark.verified
def test_83_if_match_may_be_quoted_or_not(iot_hub: IotHub) -> None:
    """For devices, twins and configurations; the SDK quotes the first two and not the last."""
    device, id = iot_hub.id(83), iot_hub.id(83, "configurations")
    iot_hub.registry.create_device_with_sas(device, "", "", "enabled")
    configuration = {"id": id, "content": {"modulesContent": content("a")}, "targetCondition": ""}
    iot_hub.service("PUT", f"/configurations/{id}", configuration)
    for path, body in (
        (f"/devices/{device}", {"deviceId": device}),
        (f"/twins/{device}", {"tags": {"a": 1}}),
        (f"/configurations/{id}", configuration),
    ):
        for form in ('"{}"', "{}"):
            etag = iot_hub.call("GET", path).json()["etag"]
            changed = iot_hub.call("PUT", path, body, headers={"If-Match": form.format(etag)})
            assert (changed.status_code, changed.json()["etag"] != etag) == (200, True)
            stale = iot_hub.call("PUT", path, body, headers={"If-Match": form.format(etag)})
            assert stale.status_code == 412
    made = iot_hub.configurations.get_configuration(id)
    made.priority = 7
    assert iot_hub.configurations.update_configuration(made, made.etag).priority == 7
    iot_hub.configurations.delete_configuration(id)


@pytest.mark.parametrize(
    "path",
    [
        "/devices",
        "/devices/nobody",
        "/devices/no%2Fbody",
        f"/devices/{DEVICE}/modules",
        f"/twins/{DEVICE}/modules/nobody",
        "/configurations",
        "/configurations/nobody",
        "/statistics/devices",
        "/statistics/service",
        "/jobs",
        "/jobs/v2/query",
        "/messages/serviceBound/feedback",
        "/digitaltwins/nobody",
        "/nonsense",
    ],
)
@pytest.mark.verified
def test_84_no_get_is_ever_answered_with_500(iot_hub: IotHub, path: str) -> None:
    """A missing item is 404, an unsupported call 501: after a 500 the SDK would try four times."""
    assert iot_hub.call("GET", path).status_code != 500


@pytest.mark.verified
def test_85_the_token_of_a_policy_may_contain_a_port(iot_hub: IotHub) -> None:
    """sr is the host, with %3A and the port if there is one, in either letter case of the escape.

    Another host, an unknown policy or a changed expiry is 401.
    """
    path = f"/devices/{iot_hub.id(85)}"
    assert f"sr={quote(iot_hub.parts['HostName'], safe='')}&" in iot_hub.token()
    for lower in (False, True):
        assert iot_hub.call("GET", path, token=iot_hub.token(lower=lower)).status_code == 404
    for wrong in (
        iot_hub.token("elsewhere:8443"),
        iot_hub.token().replace(f"skn={iot_hub.parts['SharedAccessKeyName']}", "skn=nobody"),
        iot_hub.token().replace("se=", "se=1"),
    ):
        answer = iot_hub.call("GET", path, token=wrong)
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess")


def test_86_scheduled_jobs_are_an_object_and_feedback_is_empty(service: IotHub) -> None:
    """The SDK raises for an array of jobs, and ignores any feedback."""
    assert service.jobs.query_scheduled_jobs("scheduleUpdateTwin", "running").items == []
    assert service.runtime.receive_feedback_notification() is None
    assert service.call("GET", "/messages/serviceBound/feedback").status_code in (200, 204)


def test_87_a_configuration_changes_routes_and_twins_of_connected_modules(
    hub: HubUnderTest, service: IotHub
) -> None:
    """Applied to one device, and as automatic deployments with priority, layers, condition and fall-back.

    A device that an automatic deployment targets refuses a content that is applied to it alone.
    """
    service.registry.create_module_with_sas(DEVICE, "sender", "", "", "")
    silent = {**ROUTES, "routes": {}}
    quiet = content("extra", routes=silent, module={"level": 1}, sender={})
    with hub.module("sender") as sender, hub.module("module") as module:
        module.call("listen", kind="patch")
        service.configurations.apply_configuration_on_edge_device(
            DEVICE, ConfigurationContent(modules_content=quiet)
        )
        assert own(module.next("patch")["patch"])["level"] == 1
        sender.send("cloud", b"nobody")
        automatic(service, "base", content(routes=ROUTES, module={"level": 2}), "*", 1)
        assert own(module.next("patch")["patch"]) == {"level": 2}
        sender.send("cloud", b"somebody")
        wait_for(lambda: bool(hub.upstream()), "the message upstream")
        assert [line["Body"] for line in hub.upstream()] == [base64.b64encode(b"somebody").decode()]
        layer = {"module": {"properties.desired.shown.colour": "red"}}
        automatic(service, "layer", layer, "tags.layered = true", 2)
        service.registry.update_twin(DEVICE, Twin(tags={"layered": True}))
        assert own(module.next("patch")["patch"]) == {"shown": {"colour": "red"}}
        service.configurations.apply_configuration_on_edge_device(
            DEVICE, ConfigurationContent(modules_content=quiet)
        )
        twin = service.registry.get_module_twin(DEVICE, "module")
        assert own(twin.properties.desired) == {"level": 2, "shown": {"colour": "red"}}
        statuses(service, base="Applied", layer="Applied")
        service.registry.update_twin(DEVICE, Twin(tags={"layered": None}))
        assert own(module.next("patch")["patch"]) == {"shown": None}
        statuses(service, base="Applied")
    metrics = service.configurations.get_configuration("base").system_metrics.results
    assert (metrics["targetedCount"], metrics["appliedCount"]) == (1, 1)
    assert service.configurations.get_configuration("layer").system_metrics.results["appliedCount"] == 0
    assert service.configurations.get_configuration("layer").metrics.results == {"edges": 1}
    assert [each.id for each in service.configurations.get_configurations(10)] == ["base", "layer"]
    tested = service.configurations.test_configuration_queries(
        ConfigurationQueriesTestInput(target_condition="tag = 1", custom_metric_queries={"m": "SELECT"})
    )
    assert "column 1" in tested.target_condition_error
    assert "column 7" in tested.custom_metric_query_errors["m"]
    for id in ("layer", "base"):
        service.configurations.delete_configuration(id)
    with pytest.raises(HttpOperationError) as gone:
        service.configurations.get_configuration("base")
    assert refused(gone) == (404, "ConfigurationNotFound")


def automatic(service: IotHub, id: str, modules: dict[str, Any], condition: str, priority: int) -> None:
    """Create an automatic deployment."""
    queries = {
        "edges": "SELECT deviceId FROM devices WHERE capabilities.iotEdge = true AND deviceId = 'edge'"
    }
    service.configurations.create_configuration(
        Configuration(
            id=id,
            content=ConfigurationContent(modules_content=modules),
            target_condition=condition,
            priority=priority,
            labels={"topic": "87"},
            metrics=ConfigurationMetrics(queries=queries),
        )
    )


def statuses(service: IotHub, **expected: str) -> None:
    """Check `configurations` in the twins of the device and of `$edgeAgent`; both are connected."""
    wanted = {id: {"status": status} for id, status in expected.items()}
    for twin in (service.registry.get_twin(DEVICE), service.registry.get_module_twin(DEVICE, "$edgeAgent")):
        assert (twin.additional_properties["configurations"], twin.connection_state) == (wanted, "Connected")
