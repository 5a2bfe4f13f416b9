"""Statements 78 to 87 of the protocol reference: the unmodified azure-iot-hub SDK against the hub's API."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest
import requests
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.iothub_http_runtime_manager import IoTHubHttpRuntimeManager
from azure.iot.hub.iothub_job_manager import IoTHubJobManager
from azure.iot.hub.models import (
    Configuration,
    ConfigurationContent,
    ConfigurationMetrics,
    ConfigurationQueriesTestInput,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

from tests.wire.hub_under_test import DEVICE, ROUTES, HubUnderTest, running_hub, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.conformance]

VERSION = "?api-version=2021-04-12"


class Service:
    """The SDK's managers on one connection string, and plain HTTPS where the SDK hides the answer."""

    def __init__(self, connection_string: str, running: contextlib.ExitStack) -> None:
        self.parts = dict(part.split("=", 1) for part in connection_string.split(";"))
        self.registry, self.configurations, self.jobs, self.runtime = (
            self._manager(kind, connection_string, running)
            for kind in (
                IoTHubRegistryManager,
                IoTHubConfigurationManager,
                IoTHubJobManager,
                IoTHubHttpRuntimeManager,
            )
        )

    def call(self, method: str, path: str, body: object = None, **options: Any) -> requests.Response:
        """One call; `token` and `headers` may be given."""
        token = options.pop("token", None) or self.token()
        headers = {"Authorization": token, **options.pop("headers", {})}
        address = f"https://{self.parts['HostName']}{path}{VERSION}"
        return requests.request(method, address, json=body, headers=headers, timeout=60)

    def token(self, resource: str | None = None, *, lower: bool = False) -> str:
        """Signed here, by the rule of the reference and not by the simulator's own code."""
        quoted = quote(resource or self.parts["HostName"], safe="")
        quoted = quoted.lower() if lower else quoted
        expiry = int(time.time()) + 60
        key = base64.b64decode(self.parts["SharedAccessKey"])
        digest = hmac.new(key, f"{quoted}\n{expiry}".encode(), hashlib.sha256).digest()
        signature = quote(base64.b64encode(digest), safe="")
        policy = self.parts["SharedAccessKeyName"]
        return f"SharedAccessSignature sr={quoted}&sig={signature}&se={expiry}&skn={policy}"

    def query(self, text: str, *page: Any) -> Any:
        """`page`: continuation and the most rows."""
        return self.registry.query_iot_hub(QuerySpecification(query=text), *page)

    @staticmethod
    def _manager(kind: Any, connection_string: str, running: contextlib.ExitStack) -> Any:
        manager = kind.from_connection_string(connection_string)
        running.callback(manager.protocol.close)
        return manager


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("service")) as running:
        running.deploy("module")
        yield running


@pytest.fixture(scope="module")
def service(hub: HubUnderTest) -> Iterator[Service]:
    lines = (hub.folder / "service.env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    with (
        mock.patch.dict(os.environ, {"REQUESTS_CA_BUNDLE": variables["REQUESTS_CA_BUNDLE"]}),
        contextlib.ExitStack() as running,
    ):
        yield Service(variables["IOTHUB_CONNECTION_STRING"], running)


def refused(error: pytest.ExceptionInfo[HttpOperationError]) -> tuple[int, str]:
    """Status and the name of the error."""
    response = error.value.response
    return response.status_code, response.headers["iothub-errorcode"]


def own(section: dict[str, Any]) -> dict[str, Any]:
    """A twin's section without what the hub adds."""
    return {key: value for key, value in section.items() if not key.startswith("$")}


def content(*modules: str, routes: Any = ROUTES, **twins: dict[str, Any]) -> dict[str, Any]:
    """A whole modulesContent; `routes` is all of `$edgeHub`'s desired properties."""
    specified = {name: {"type": "docker", "settings": {"image": name}} for name in modules}
    return {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": specified}},
        "$edgeHub": {"properties.desired": routes},
        **{name: {"properties.desired": desired} for name, desired in twins.items()},
    }


def test_78_each_call_is_answered_with_the_status_that_the_sdk_accepts(service: Service) -> None:
    """Creating is 200 and not 201, deleting 204 with nothing in it, applying a configuration 204."""
    assert service.registry.create_device_with_sas("d78", "", "", "enabled", iot_edge=True).device_id == "d78"
    assert service.registry.create_module_with_sas("d78", "m", "", "", "").module_id == "m"
    service.configurations.apply_configuration_on_edge_device(
        "d78", ConfigurationContent(modules_content=content("a"))
    )
    service.registry.delete_module("d78", "m")
    service.registry.delete_device("d78")
    body = {"deviceId": "d78", "capabilities": {"iotEdge": True}}
    assert service.call("PUT", "/devices/d78", body).status_code == 200
    assert service.call("PUT", "/devices/d78/modules/m", {}).status_code in (200, 201)
    applied = service.call("POST", "/devices/d78/applyConfigurationContent", {"modulesContent": content("a")})
    assert (applied.status_code, applied.content) == (204, b"")
    for path in ("/devices/d78/modules/m", "/devices/d78"):
        deleted = service.call("DELETE", path)
        assert (deleted.status_code, deleted.content) == (204, b"")


def test_79_an_unknown_device_is_404_and_a_second_create_409(service: Service) -> None:
    """With the service's names for it inside Message."""
    with pytest.raises(HttpOperationError) as unknown:
        service.registry.get_device("nobody")
    assert refused(unknown) == (404, "DeviceNotFound")
    assert "ErrorCode:DeviceNotFound" in json.loads(unknown.value.response.text)["Message"]
    service.registry.create_device_with_sas("d79", "", "", "enabled")
    with pytest.raises(HttpOperationError) as second:
        service.registry.create_device_with_sas("d79", "", "", "enabled")
    assert refused(second) == (409, "DeviceAlreadyExists")


def test_80_a_stale_etag_is_412_and_the_present_one_passes(service: Service) -> None:
    """So does `*`; each change gives a new etag and raises the version by one."""
    service.registry.create_device_with_sas("d80", "", "", "enabled")
    first = service.registry.get_twin("d80")
    second = service.registry.update_twin("d80", Twin(tags={"a": 1}), first.etag)
    third = service.registry.update_twin("d80", Twin(tags={"a": 2}), "*")
    assert [second.version, third.version] == [first.version + 1, first.version + 2]
    assert len({first.etag, second.etag, third.etag}) == 3
    with pytest.raises(HttpOperationError) as stale:
        service.registry.update_twin("d80", Twin(tags={"a": 3}), first.etag)
    assert refused(stale) == (412, "PreconditionFailed")
    assert service.registry.get_twin("d80").tags == {"a": 2}


def test_81_update_merges_replace_drops_and_both_reach_the_module(
    hub: HubUnderTest, service: Service
) -> None:
    """A null deletes; what a replacement does not mention goes; the connected module hears of either."""
    with hub.module("module") as module:
        module.call("listen", kind="patch")
        patches = []
        for write, desired in (
            (service.registry.replace_module_twin, {"a": 1, "b": {"c": 1, "d": 1}}),
            (service.registry.update_module_twin, {"a": None, "b": {"c": 2}}),
            (service.registry.replace_module_twin, {"e": 5}),
        ):
            twin = write(DEVICE, "module", Twin(properties=TwinProperties(desired=desired)))
            patches.append(module.next("patch")["patch"])
    assert own(twin.properties.desired) == {"e": 5}
    assert [own(patch) for patch in patches[1:]] == [{"a": None, "b": {"c": 2}}, {"b": None, "e": 5}]
    assert patches[-1]["$version"] == twin.properties.desired["$version"]


def test_82_queries_come_in_pages_and_projections_as_additional_properties(service: Service) -> None:
    """Every page but the last has a continuation; a row of any shape is forced into the SDK's Twin."""
    for number in range(5):
        service.registry.create_device_with_sas(f"d82-{number}", "", "", "enabled")
        service.registry.update_twin(f"d82-{number}", Twin(tags={"topic": "82", "floor": number}))
    text = "SELECT deviceId, tags.floor AS floor FROM devices WHERE tags.topic = '82' AND tags.floor > 0"
    pages, continuation = [], None
    while True:
        result = service.query(text, continuation, 3)
        pages.append([(row.device_id, row.additional_properties["floor"]) for row in result.items])
        continuation = result.continuation_token
        if continuation is None:
            break
    assert pages == [[("d82-1", 1), ("d82-2", 2), ("d82-3", 3)], [("d82-4", 4)]]
    assert result.type == "raw"
    last = service.call("POST", "/devices/query", {"query": text})
    assert "x-ms-continuation" not in last.headers
    whole = service.query("SELECT * FROM devices WHERE deviceId = 'd82-0'")
    assert (whole.type, whole.items[0].tags["floor"], whole.items[0].status) == ("twin", 0, "enabled")
    modules = service.query(
        f"SELECT * FROM devices.modules WHERE deviceId = '{DEVICE}' AND moduleId IN ['module']"
    )
    assert [(row.device_id, row.module_id) for row in modules.items] == [(DEVICE, "module")]
    counted = service.query("SELECT COUNT() AS n FROM devices WHERE is_defined(tags.topic)")
    assert counted.items[0].additional_properties == {"n": 5}
    with pytest.raises(HttpOperationError) as wrong:
        service.query("SELECT * FROM devices WHERE tag.topic = '82'")
    assert refused(wrong) == (400, "ArgumentInvalid")
    assert "column 29: a twin has no 'tag'" in json.loads(wrong.value.response.text)["Message"]


def test_83_if_match_may_be_quoted_or_not(service: Service) -> None:
    """For devices, twins and configurations; the SDK quotes the first two and not the third."""
    service.registry.create_device_with_sas("d83", "", "", "enabled")
    configuration = {"id": "c83", "content": {"modulesContent": content("a")}, "targetCondition": ""}
    service.call("PUT", "/configurations/c83", configuration).raise_for_status()
    for path, body in (
        ("/devices/d83", {"deviceId": "d83"}),
        ("/twins/d83", {"tags": {"a": 1}}),
        ("/configurations/c83", configuration),
    ):
        for form in ('"{}"', "{}"):
            etag = service.call("GET", path).json()["etag"]
            changed = service.call("PUT", path, body, headers={"If-Match": form.format(etag)})
            assert (changed.status_code, changed.json()["etag"] != etag) == (200, True)
            stale = service.call("PUT", path, body, headers={"If-Match": form.format(etag)})
            assert stale.status_code == 412
    made = service.configurations.get_configuration("c83")
    made.priority = 7
    assert service.configurations.update_configuration(made, made.etag).priority == 7
    service.configurations.delete_configuration("c83")


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
def test_84_no_get_is_ever_answered_with_500(service: Service, path: str) -> None:
    """What is not there is 404, what is not done 501: the SDK would try four times over a 500."""
    assert service.call("GET", path).status_code != 500


def test_85_a_policys_token_is_verified_with_the_port_in_it(service: Service) -> None:
    """sr holds %3A and the port, in either letter case of the escape; a wrong key or policy is 401."""
    path = f"/devices/{DEVICE}"
    assert "%3A8443" in service.token()
    for lower in (False, True):
        assert service.call("GET", path, token=service.token(lower=lower)).status_code == 200
    for wrong in (
        service.token("elsewhere:8443"),
        service.token().replace("skn=iothubowner", "skn=nobody"),
        service.token().replace("se=", "se=1"),
    ):
        answer = service.call("GET", path, token=wrong)
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess")


def test_86_scheduled_jobs_are_an_object_and_feedback_is_empty(service: Service) -> None:
    """The SDK raises over an array of jobs, and throws the feedback away whatever it is."""
    assert service.jobs.query_scheduled_jobs("scheduleUpdateTwin", "running").items == []
    assert service.runtime.receive_feedback_notification() is None
    assert service.call("GET", "/messages/serviceBound/feedback").status_code in (200, 204)


def test_87_a_configuration_changes_routes_and_twins_of_connected_modules(
    hub: HubUnderTest, service: Service
) -> None:
    """By applying it to one device, and by automatic deployments: priority, layers, condition, fall-back.

    A device that an automatic deployment targets is not changed by a content that is applied to it alone.
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


def automatic(service: Service, id: str, modules: dict[str, Any], condition: str, priority: int) -> None:
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


def statuses(service: Service, **expected: str) -> None:
    """Check `configurations` in the twins of the device and of `$edgeAgent`; both are connected."""
    wanted = {id: {"status": status} for id, status in expected.items()}
    for twin in (service.registry.get_twin(DEVICE), service.registry.get_module_twin(DEVICE, "$edgeAgent")):
        assert (twin.additional_properties["configurations"], twin.connection_state) == (wanted, "Connected")
