"""The service REST API without TLS and SDK: authorization, statuses, errors, and responses after commits."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from twinship.simulator import sas
from twinship.simulator.edge_hub.methods import MethodAnswer, MethodRequest, NoAnswer, NotConnected
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import Presence
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.service_api import edge_agent
from twinship.simulator.service_api import edge_agent as edge_agent_api
from twinship.simulator.service_api.app import service_api
from twinship.simulator.store import Store

HUB = "127.16.0.1"
KEY = base64.b64encode(b"p" * 32).decode()
NOW = 1000.0
EDGE = Identity("edge")


@dataclass
class Methods:
    """A stub of edgeHub: its answer to a method call, and the recorded calls."""

    outcome: MethodAnswer | Exception = field(default_factory=lambda: MethodAnswer(200, None))
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    seen: dict[Identity, Presence] = field(default_factory=dict)

    def presence(self, identity: Identity) -> Presence:
        return self.seen.get(identity, Presence(connected=identity.module == "camera"))

    async def invoke_method(self, target: Identity, call: MethodRequest) -> MethodAnswer:
        self.calls.append(
            (str(target), call.name, call.payload, call.response_timeout_s, call.connect_timeout_s)
        )
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@dataclass(frozen=True)
class Answer:
    """A response: status, JSON (None for an empty body), and the name in the error header."""

    status: int
    body: Any
    error: str | None


Call = Callable[..., Coroutine[Any, Any, Answer]]


class Service:
    """The application on a loopback socket; `run` passes a function for signed calls to a coroutine."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.methods = Methods()

    def run(self, conversation: Callable[[Call], Awaitable[None]]) -> None:
        async def serve() -> None:
            application = service_api(self.registry, self.methods, {"iothubowner": [KEY]})
            async with TestClient(TestServer(application)) as client:

                async def call(
                    method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
                ) -> Answer:
                    sent = {name.replace("_", "-"): value for name, value in headers.items()}
                    sent["Authorization"] = service_token() if token is None else token
                    url = path if "?" in path else f"{path}?api-version=2021-04-12"
                    data = body if isinstance(body, bytes | io.BytesIO) else json.dumps(body)
                    async with client.request(method, url, data=data, headers=sent) as answer:
                        text = await answer.text()
                        error = answer.headers.get("iothub-errorcode")
                        return Answer(answer.status, json.loads(text) if text else None, error)

                await conversation(call)

        asyncio.run(serve())

    def once(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        answers: list[Answer] = []

        async def conversation(call: Call) -> None:
            answers.append(await call(method, path, body, **options))

        self.run(conversation)
        return answers[0]


def service_token(
    *, host: str = f"{HUB}:8443", key: str = KEY, expiry: int = 2000, policy: str = "iothubowner"
) -> str:
    return sas.sign(key, host, expiry, policy)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    store = Store(tmp_path / "hub.sqlite")
    registry = Registry(store, HUB, lambda: NOW)
    registry.create(EDGE, {"capabilities": {"iotEdge": True}})
    registry.create(Identity("edge", "camera"))
    yield Service(registry)
    asyncio.run(store.close())


# who may call


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (service_token(), 200),
        (service_token(host=HUB.upper()), 200),
        (service_token().replace("%3A", "%3a"), 401),  # the text is what was signed
        (service_token(expiry=999), 401),
        (service_token(key=base64.b64encode(b"q" * 32).decode()), 401),
        (service_token(host="127.16.0.2"), 401),
        (service_token(policy="stranger"), 401),
        (sas.sign(KEY, HUB, 2000), 401),
        ("", 401),
        ("Bearer x", 401),
        ("SharedAccessSignature sr=\xff&sig=a&se=9999", 401),
    ],
)
def test_only_a_valid_token_of_a_policy_is_accepted(service: Service, token: str, status: int) -> None:
    """Audience without its port, key of the policy that skn names, not expired (ref 5.1, statement 85)."""
    answer = service.once("GET", "/devices/edge", token=token)
    assert answer.status == status
    assert answer.error == (None if status == 200 else "IotHubUnauthorizedAccess")
    assert KEY not in str(answer.body)


def test_a_header_that_is_not_text_is_401(service: Service) -> None:
    """A header may contain any byte; such a token is invalid."""

    async def run() -> bytes:
        server = TestServer(service_api(service.registry, service.methods, {"iothubowner": [KEY]}))
        await server.start_server()
        reader, writer = await asyncio.open_connection(server.host, server.port)
        token = b"SharedAccessSignature sr=127.16.0.1\xff&sig=YQ%3D%3D&se=9999&skn=iothubowner"
        writer.write(
            b"GET /devices/edge?api-version=1 HTTP/1.1\r\nHost: x\r\nAuthorization: " + token + b"\r\n\r\n"
        )
        line = await reader.readline()
        writer.close()
        await server.close()
        return line

    assert asyncio.run(run()) == b"HTTP/1.1 401 Unauthorized\r\n"


def test_a_device_token_is_valid_for_its_modules_only(service: Service) -> None:
    """Without skn only `/devices/{d}/modules/*` of that device is allowed (statement 92)."""
    keys = service.registry.keys(EDGE)
    assert keys is not None
    tokens = [sas.sign(key, f"{HUB}/devices/edge", 2000) for key in keys]
    version = "?api-version=2020-05-31-preview"
    service.registry.create(Identity("other"))

    async def conversation(call: Call) -> None:
        for token in tokens:
            assert (await call("GET", f"/devices/edge/modules/$edgeHub{version}", token=token)).status == 200
        assert (await call("GET", f"/devices/edge/modules{version}", token=tokens[0])).status == 200
        for path in (
            "/devices/edge",
            "/devices",
            "/twins/edge",
            "/devices/other/modules",
            "/edge-agent/edge",
        ):
            assert (await call("GET", path, token=tokens[0])).status == 401, path

    service.run(conversation)


def test_the_api_version_is_required(service: Service) -> None:
    """Any value is accepted; a missing one is an error."""
    assert service.once("GET", "/devices/edge?x=1").error == "InvalidProtocolVersion"


# statuses and errors


def test_success_has_the_exact_status_that_the_sdk_accepts(service: Service) -> None:
    """200 for a device (201 raises) and a module; 204 without a body for deletes and deployments (78)."""
    content = {
        "modulesContent": {
            "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1"}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1"}},
        }
    }

    async def conversation(call: Call) -> None:
        assert (await call("PUT", "/devices/new", {"deviceId": "new"})).status == 200
        assert (await call("PUT", "/devices/new/modules/m", {"moduleId": "m"})).status == 200
        assert await call("DELETE", "/devices/new/modules/m") == Answer(204, None, None)
        assert await call("DELETE", "/devices/new", If_Match='"*"') == Answer(204, None, None)
        applied = await call("POST", "/devices/edge/applyConfigurationContent", content)
        assert applied == Answer(204, None, None)

    service.run(conversation)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/devices/ghost", None, 404, "DeviceNotFound"),
        ("GET", "/devices/edge/modules/ghost", None, 404, "ModuleNotFound"),
        ("GET", "/devices/ghost/modules/m", None, 404, "DeviceNotFound"),
        ("GET", "/twins/edge/modules/ghost", None, 404, "ModuleNotFound"),
        ("POST", "/twins/ghost/methods", {"methodName": "x"}, 404, "DeviceNotFound"),
        ("PUT", "/devices/edge", {"deviceId": "edge"}, 409, "DeviceAlreadyExists"),
        ("PUT", "/devices/edge/modules/camera", {}, 409, "ModuleAlreadyExistsOnDevice"),
        ("PUT", "/devices/edge", {"deviceId": "another"}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/a%2Fb", {}, 400, "ArgumentInvalid"),
        ("PUT", "/devices/x", b"{", 400, "ArgumentInvalid"),
        ("PUT", "/devices/x", b"[1]", 400, "ArgumentInvalid"),
        ("PATCH", "/twins/edge", b'{"tags": {"a": NaN}}', 400, "ArgumentInvalid"),
        ("POST", "/twins/edge/methods", b'{"methodName": "x", "payload": NaN}', 400, "ArgumentInvalid"),
        ("PATCH", "/twins/edge", b"[" * 100_000, 400, "ArgumentInvalid"),
        ("PATCH", "/twins/edge", {"properties": 7}, 400, "ArgumentInvalid"),
        ("PATCH", "/twins/edge", {"properties": {"desired": {"a": "x" * 5000}}}, 400, "ArgumentInvalid"),
        ("DELETE", "/devices/edge/modules/$edgeHub", None, 403, "SystemModuleModifyUnauthorizedAccess"),
        ("POST", "/devices/edge/applyConfigurationContent", {}, 400, "ArgumentInvalid"),
        (
            "POST",
            "/devices/edge/applyConfigurationContent",
            {"modulesContent": {}},
            400,
            "InvalidConfigurationContent",
        ),
        ("GET", "/devices?api-version=1&top=0", None, 400, "ArgumentInvalid"),
        ("GET", f"/devices?api-version=1&top={'9' * 5000}", None, 400, "ArgumentInvalid"),
        ("GET", "/edge-agent/edge?api-version=1&after=-1", None, 400, "ArgumentInvalid"),
        ("PUT", "/devices/x", {"authentication": {"type": "certificateAuthority"}}, 501, "NotImplemented"),
        ("POST", "/devices/query", {"query": "SELECT * FROM there"}, 400, "ArgumentInvalid"),
        ("GET", "/configurations/x", None, 404, "ConfigurationNotFound"),
        ("GET", "/statistics/devices", None, 501, "NotImplemented"),
        ("POST", "/jobs/create", {}, 501, "NotImplemented"),
        ("GET", "/digitaltwins/edge", None, 501, "NotImplemented"),
        ("DELETE", "/messages/serviceBound/feedback/lock", None, 501, "NotImplemented"),
        ("GET", "/nonsense", None, 404, "GenericNotFound"),
        ("POST", "/edge-agent/edge", {}, 404, "GenericNotFound"),
    ],
)
def test_errors_have_the_services_format(
    service: Service, method: str, path: str, body: Any, status: int, error: str
) -> None:
    """Status, the name in the header, and the name in Message (ref 5.1, 5.4)."""
    answer = service.once(method, path, body)
    assert (answer.status, answer.error) == (status, error)
    assert answer.body["Message"].startswith(f"ErrorCode:{error};")
    assert answer.body["ExceptionMessage"].startswith("Tracking ID:")


def test_a_body_that_is_too_large_is_refused(service: Service) -> None:
    """413 before parsing."""
    answer = service.once("PATCH", "/twins/edge", io.BytesIO(b"x" * 3_000_000))
    assert (answer.status, answer.error) == (413, "MessageTooLarge")


def test_unsupported_features_are_named(service: Service) -> None:
    """501 names the feature."""
    assert "not in this simulator: jobs" in service.once("POST", "/jobs/create", {}).body["Message"]


# etags


@pytest.mark.parametrize("quote", ['"', ""])
def test_etags_are_accepted_with_and_without_quotes(service: Service, quote: str) -> None:
    """Statement 83, for devices and twins; an old etag is 412 (statement 80)."""

    async def conversation(call: Call) -> None:
        for path in ("/devices/edge", "/twins/edge"):
            method = "PUT" if path.startswith("/devices") else "PATCH"
            etag = (await call("GET", path)).body["etag"]
            changed = await call(method, path, {}, If_Match=f"{quote}{etag}{quote}")
            assert (changed.status, changed.body["etag"] != etag) == (200, True)
            stale = await call(method, path, {}, If_Match=f"{quote}{etag}{quote}")
            assert (stale.status, stale.error) == (412, "PreconditionFailed")
            assert (await call(method, path, {}, If_Match=f"{quote}*{quote}")).status == 200

    service.run(conversation)


# what is shown


def test_identities_have_all_fields(service: Service) -> None:
    """Devices and modules with keys, status, capabilities, and edgeHub's connection state (ref 5.3)."""

    async def conversation(call: Call) -> None:
        device = (await call("GET", "/devices/edge")).body
        assert (
            device["authentication"]["symmetricKey"]["primaryKey"] == service.registry.get(EDGE).primary_key
        )
        assert (device["status"], device["capabilities"]) == ("enabled", {"iotEdge": True})
        assert device["connectionState"] == "Disconnected"
        modules = (await call("GET", "/devices/edge/modules")).body
        assert [module["moduleId"] for module in modules] == ["$edgeAgent", "$edgeHub", "camera"]
        assert modules[2]["connectionState"] == "Connected"
        assert [each["deviceId"] for each in (await call("GET", "/devices?api-version=1&top=1")).body] == [
            "edge"
        ]

    service.run(conversation)


def test_twins_merge_and_replace(service: Service) -> None:
    """PATCH merges and deletes nulls; PUT removes fields that it does not contain (statement 81)."""

    async def conversation(call: Call) -> None:
        path = "/twins/edge/modules/camera"
        first = {"properties": {"desired": {"a": 1, "b": {"c": 2}}}, "tags": {"floor": 1}}
        twin = (await call("PATCH", path, first)).body
        assert twin["properties"]["desired"]["$version"] == 2
        assert twin["properties"]["desired"]["$metadata"]["b"]["c"]["$lastUpdatedVersion"] == 2
        twin = (await call("PATCH", path, {"properties": {"desired": {"a": None, "d": 3}}})).body
        assert {key: twin["properties"]["desired"][key] for key in ("b", "d")} == {"b": {"c": 2}, "d": 3}
        assert "a" not in twin["properties"]["desired"]
        twin = (await call("PUT", path, {"properties": {"desired": {"d": 4}}})).body
        assert [key for key in twin["properties"]["desired"] if not key.startswith("$")] == ["d"]
        assert (twin["tags"], twin["deviceId"], twin["moduleId"]) == ({"floor": 1}, "edge", "camera")
        assert await call("GET", path) == Answer(200, twin, None)

    service.run(conversation)


@pytest.mark.parametrize("name", ["a b", "$edgeAgent", "x%25y", "q:r.s_t-U", "p+q"])
def test_ids_are_decoded(service: Service, name: str) -> None:
    """With and without percent-encoding, also `$` and `+` (ref 5.2)."""
    from urllib.parse import quote

    async def conversation(call: Call) -> None:
        if name != "$edgeAgent":
            assert (await call("PUT", f"/devices/edge/modules/{quote(name)}", {})).status == 200
        for quoted in (quote(name), quote(name, safe="$:+")):
            answer = await call("GET", f"/devices/edge/modules/{quoted}")
            assert answer.body["moduleId"] == name

    service.run(conversation)


# queries


def test_a_query_is_answered_in_pages(service: Service) -> None:
    """x-ms-max-item-count limits the rows; rows are twins or columns; a bad count or page is refused."""

    async def conversation(call: Call) -> None:
        body = {"query": "SELECT deviceId, moduleId FROM devices.modules"}
        answer = await call("POST", "/devices/query", body, x_ms_max_item_count="2")
        assert [row["moduleId"] for row in answer.body] == ["$edgeAgent", "$edgeHub"]
        assert len((await call("POST", "/devices/query", body)).body) == 3
        twins = await call("POST", "/devices/query", {"query": "SELECT * FROM devices"})
        assert twins.body == [(await call("GET", "/twins/edge")).body]
        for headers in ({"x_ms_max_item_count": "0"}, {"x_ms_continuation": "x"}):
            assert (await call("POST", "/devices/query", body, **headers)).error == "ArgumentInvalid"
        refused = await call("POST", "/devices/query", {"query": "SELECT * FROM devices WHERE tag.x = 1"})
        assert "column 29: a twin has no 'tag'" in refused.body["Message"]
        assert (await call("POST", "/devices/query", {})).status == 400

    service.run(conversation)


def test_jobs_and_feedback_are_empty(service: Service) -> None:
    """An object and an empty response, the formats that the SDK accepts (statement 86)."""
    assert service.once("GET", "/jobs/v2/query").body["items"] == []
    assert service.once("GET", "/messages/serviceBound/feedback") == Answer(204, None, None)


# configurations


def test_a_configuration_is_created_shown_and_deleted(service: Service) -> None:
    """Every id that IoT Hub allows works; metrics count the rows of their queries."""

    async def conversation(call: Call) -> None:
        path = "/configurations/a%25b%23c%3Fd$1"
        content = {"modulesContent": {"camera": {"properties.desired.x": 1}}}
        metrics = {"queries": {"edges": "SELECT deviceId FROM devices WHERE capabilities.iotEdge = true"}}
        body = {"content": content, "targetCondition": "deviceId = 'edge'", "metrics": metrics}
        assert (await call("PUT", path, {**body, "id": "other"})).error == "ArgumentInvalid"
        made = await call("PUT", path, body)
        assert (made.status, made.body["id"], made.body["content"]) == (200, "a%b#c?d$1", content)
        assert made.body["metrics"]["results"] == {"edges": 1}
        results = made.body["systemMetrics"]["results"]
        assert (results["targetedCount"], results["appliedCount"]) == (1, 0)  # a layer without a base
        assert (await call("PUT", path, body)).error == "ConfigurationAlreadyExists"
        assert (await call("GET", "/configurations?api-version=1&top=5")).body == [made.body]
        assert (await call("DELETE", path, If_Match="stale")).error == "PreconditionFailed"
        assert (await call("DELETE", path, If_Match=made.body["etag"])).status == 204
        assert (await call("GET", path)).error == "ConfigurationNotFound"

    service.run(conversation)


def test_an_automatic_deployment_is_applied_before_the_response(service: Service) -> None:
    """A change of tags applies it at once; a deployment to the device alone then has no effect."""

    async def conversation(call: Call) -> None:
        content = {
            "$edgeAgent": {"properties.desired": {"modules": {}}},
            "$edgeHub": {"properties.desired": {"routes": {}}},
            "camera": {"properties.desired": {"x": 1}},
        }
        body = {"content": {"modulesContent": content}, "targetCondition": "tags.on"}
        assert (await call("PUT", "/configurations/c", body)).status == 200
        await call("PATCH", "/twins/edge", {"tags": {"on": True}})
        twin = (await call("GET", "/twins/edge")).body
        assert twin["configurations"] == {"c": {"status": "Applied"}}
        own = {"modulesContent": {**content, "camera": {"properties.desired": {"x": 2}}}}
        assert (await call("POST", "/devices/edge/applyConfigurationContent", own)).status == 204
        assert service.registry.twin(Identity("edge", "camera")).desired == {"x": 1}
        await call("PATCH", "/twins/edge", {"tags": {"on": False}})
        assert "configurations" not in (await call("GET", "/twins/edge")).body
        assert (await call("POST", "/devices/edge/applyConfigurationContent", own)).status == 204
        assert service.registry.twin(Identity("edge", "camera")).desired == {"x": 2}

    service.run(conversation)


# bulk


def test_a_bulk_call_tries_every_entry(service: Service) -> None:
    """The result lists the failed entries with the service's error names (ref 5.2)."""
    service.registry.create(Identity("old"))
    entries = [
        {"id": "new", "importMode": "create", "tags": {"floor": 2}},
        {"id": "new", "moduleId": "m", "importMode": "createOrUpdate"},
        {"id": "edge", "importMode": "create"},
        {"id": "edge", "importMode": "updateTwin", "properties": {"desired": {"a": 1}}},
        {"id": "old", "importMode": "deleteIfMatchETag", "eTag": "stale"},
        {"id": "old", "importMode": "explode"},
        {"id": "old", "importMode": {"create": 1}},
        {"id": "bad", "importMode": "create", "tags": {"a": "x" * 5000}},
    ]
    answer = service.once("POST", "/devices", entries)
    assert answer.status == 400
    assert not answer.body["isSuccessful"]
    failed = [(error["deviceId"], error["errorCode"]) for error in answer.body["errors"]]
    assert failed == [
        ("edge", "DeviceAlreadyExists"),
        ("old", "PreconditionFailed"),
        ("old", "ArgumentInvalid"),
        ("old", "ArgumentInvalid"),
        ("bad", "ArgumentInvalid"),
    ]
    assert [str(document.identity) for document in service.registry.devices()] == ["edge", "new", "old"]
    assert service.registry.twin(Identity("new")).tags == {"floor": 2}
    assert service.registry.twin(EDGE).desired == {"a": 1}


def test_a_bulk_call_without_failures_is_200(service: Service) -> None:
    """isSuccessful is true."""
    answer = service.once("POST", "/devices", [{"id": "edge", "importMode": "delete"}])
    assert (answer.status, answer.body) == (200, {"isSuccessful": True, "errors": [], "warnings": []})


# methods


def test_a_method_call_is_forwarded_and_answered(service: Service) -> None:
    """Name, payload and time-outs (default 30 s and 0 s) arrive; an empty text is a payload (76)."""
    service.methods.outcome = MethodAnswer(207, [1, None])
    path = "/twins/edge/modules/camera/methods"
    answer = service.once("POST", path, {"methodName": "pause", "payload": ""})
    assert (answer.status, answer.body) == (200, {"status": 207, "payload": [1, None]})
    given = {
        "methodName": "x",
        "payload": {"a": 1},
        "responseTimeoutInSeconds": 5,
        "connectTimeoutInSeconds": 300,
    }
    service.once("POST", path, given)
    assert service.methods.calls == [
        ("edge/camera", "pause", "", 30, 0),
        ("edge/camera", "x", {"a": 1}, 5, 300),
    ]


@pytest.mark.parametrize(
    ("outcome", "status", "error", "code"),
    [
        (NotConnected("x"), 404, "DeviceNotOnline", 404103),
        (NoAnswer("x"), 504, "GatewayTimeout", 504101),
    ],
)
def test_a_failed_method_has_its_error_in_message(
    service: Service, outcome: Exception, status: int, error: str, code: int
) -> None:
    """Direct methods put JSON with errorCode into Message (ref 5.1, statement 88)."""
    service.methods.outcome = outcome
    answer = service.once("POST", "/twins/edge/modules/camera/methods", {"methodName": "x"})
    assert (answer.status, answer.error) == (status, error)
    assert json.loads(answer.body["Message"])["errorCode"] == code


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"methodName": "x" * 101},
        {"methodName": "x", "payload": "y" * 131_071},
        {"methodName": "x", "responseTimeoutInSeconds": 4},
        {"methodName": "x", "responseTimeoutInSeconds": 301},
        {"methodName": "x", "connectTimeoutInSeconds": "soon"},
    ],
)
def test_a_method_call_beyond_a_limit_is_refused(service: Service, body: dict[str, Any]) -> None:
    """100 characters, 128 KiB of JSON, 5 to 300 s (ref 5.4); no method is called."""
    answer = service.once("POST", "/twins/edge/modules/camera/methods", body)
    assert (answer.status, answer.error, service.methods.calls) == (400, "ArgumentInvalid", [])


def test_the_largest_payload_passes(service: Service) -> None:
    """131,072 bytes of JSON are allowed (statement 74)."""
    body = {"methodName": "x" * 100, "payload": "y" * 131_070}
    assert service.once("POST", "/twins/edge/modules/camera/methods", body).status == 200


# order of things


def test_a_change_is_answered_after_the_commit(service: Service) -> None:
    """No response leaves before the store has committed."""
    store, after_commit = service.registry.store, service.registry.store.after_commit
    order: list[str] = []

    def watched(callback: Callable[[], None]) -> None:
        def committed() -> None:
            order.append("committed")
            callback()

        after_commit(committed)

    store.after_commit = watched  # type: ignore[method-assign]

    async def conversation(call: Call) -> None:
        await call("PATCH", "/twins/edge", {"tags": {"a": 1}})
        order.append("answered")
        await call("GET", "/twins/edge")

    service.run(conversation)
    assert order == ["committed", "answered"]


# edgeAgent's own routes


def test_the_agent_waits_for_a_deployment(service: Service) -> None:
    """A request for a later version is answered as soon as there is one."""

    async def conversation(call: Call) -> None:
        agent = Identity("edge", "$edgeAgent")
        service.registry.patch_twin(agent, desired={"modules": {}})
        assert (await call("GET", "/edge-agent/edge?api-version=1&after=1")).body == {
            "modules": {},
            "$version": 2,
        }
        waiting = asyncio.create_task(call("GET", "/edge-agent/edge?api-version=1&after=2"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        service.registry.patch_twin(EDGE, desired={"unrelated": 1})
        await asyncio.sleep(0.05)
        assert not waiting.done()
        service.registry.patch_twin(agent, desired={"a": 1})
        assert (await waiting).body == {"modules": {}, "a": 1, "$version": 3}

    service.run(conversation)


@pytest.mark.parametrize("path", ["/edge-agent/edge?after=9&", "/edge-agent/edge/methods?"])
def test_a_waiting_agent_does_not_delay_the_shutdown(service: Service, path: str) -> None:
    """At shutdown every waiting request gets 204."""

    async def run() -> None:
        server = TestServer(service_api(service.registry, service.methods, {"iothubowner": [KEY]}))
        await server.start_server()
        async with aiohttp.ClientSession() as session:
            url = server.make_url(f"{path}api-version=1")
            call = session.get(url, headers={"Authorization": service_token()})
            waiting = asyncio.ensure_future(call)
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await server.close()
            async with await waiting as answer:
                assert answer.status == 204

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 45  # the time-out of the call itself is a minute


def test_the_agent_fetches_its_method_calls_and_answers_them(service: Service) -> None:
    """Each call is fetched once; an answer without a waiting caller is accepted and ignored."""

    async def conversation(call: Call) -> None:
        path, fetch = "/twins/edge/modules/$edgeAgent/methods", "/edge-agent/edge/methods"
        first = asyncio.create_task(call("POST", path, {"methodName": "ping", "payload": [1]}))
        given = (await call("GET", fetch)).body
        waiting = asyncio.create_task(call("GET", fetch))
        second = asyncio.create_task(call("POST", path, {"methodName": "GetModuleLogs"}))
        other = (await waiting).body
        assert [(each["name"], each["payload"]) for each in (given, other)] == [
            ("ping", [1]),
            ("GetModuleLogs", None),
        ]
        for each, answer in ((other, {"status": 400, "payload": "no"}), (given, {"status": 200})):
            assert (await call("POST", f"{fetch}/{each['id']}", answer)).status == 204
        assert (await first).body == {"status": 200, "payload": None}
        assert (await second).body == {"status": 400, "payload": "no"}
        assert (await call("POST", f"{fetch}/{given['id']}", {"status": 200})).status == 204
        assert (await call("POST", f"{fetch}/x", {"status": "200"})).status == 400
        assert (await call("GET", "/edge-agent/ghost/methods")).status == 404
        assert service.methods.calls == []

    service.run(conversation)


def test_an_agent_that_fetches_nothing_is_not_online(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """404103; the call is dropped, and a later agent does not get it."""
    monkeypatch.setattr(edge_agent, "FETCHED_WITHIN_S", 0.01)
    monkeypatch.setattr(edge_agent_api, "WAIT_S", 0.01)

    async def conversation(call: Call) -> None:
        path = "/twins/edge/modules/$edgeAgent/methods"
        assert (await call("POST", path, {"methodName": "ping"})).error == "DeviceNotOnline"
        assert (await call("GET", "/edge-agent/edge/methods")).status == 204

    service.run(conversation)


def test_the_agent_reports(service: Service) -> None:
    """PATCH merges into the reported properties of `$edgeAgent`; an invalid body is refused."""

    async def conversation(call: Call) -> None:
        assert (await call("PATCH", "/edge-agent/edge", {"version": {"version": "1"}})).status == 204
        assert (await call("PATCH", "/edge-agent/edge", b"{")).status == 400
        assert (await call("PATCH", "/edge-agent/edge", {"a": "x" * 5000})).status == 400
        assert (await call("PATCH", "/edge-agent/ghost", {})).status == 404

    service.run(conversation)
    assert service.registry.twin(Identity("edge", "$edgeAgent")).reported == {"version": {"version": "1"}}
