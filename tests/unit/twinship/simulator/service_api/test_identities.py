"""Identities and twins over the service REST API: empty sections, scopes, bulk, and names for refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.twinship.simulator.service_api.test_app import HUB, NOW, Call, Service
from twinship.simulator import sas
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import Presence
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.store import Store

EDGE, LEAF = Identity("edge"), Identity("leaf")
TWIN = {"tags": {"floor": 1}, "properties": {"desired": {"fps": 5, "in": {"x": 1}}}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    store = Store(tmp_path / "hub.sqlite")
    registry = Registry(store, HUB, lambda: NOW)
    registry.create(EDGE, {"capabilities": {"iotEdge": True}})
    registry.create(LEAF)
    yield Service(registry)
    asyncio.run(store.close())


class TestEmptySections:
    @pytest.mark.parametrize("headers", [{}, {"If_Match": "*"}, {"If_Match": '"*"'}])
    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    def test_null_empties_the_desired_properties_and_the_device_hears_of_it(
        self, service: Service, method: str, headers: Mapping[str, str]
    ) -> None:
        """Each name is removed in the patch for the device; tags stay."""
        heard: list[Any] = []
        service.registry.on_desired.append(lambda identity, patch: heard.append((identity, patch)))

        async def talk(call: Call) -> None:
            await call("PATCH", "/twins/leaf", TWIN)
            answer = await call(method, "/twins/leaf", {"properties": {"desired": None}}, **headers)
            desired = answer.body["properties"]["desired"]
            assert answer.status == 200
            assert {name for name in desired if name[0] != "$"} == set()
            assert (desired["$version"], answer.body["tags"]) == (3, {"floor": 1})

        service.run(talk)
        assert heard[1:] == [(LEAF, {"fps": None, "in": None, "$version": 3})]

    def test_null_empties_the_tags_and_keeps_the_desired_properties(self, service: Service) -> None:
        """Both sections of one body are one change: here tags end and a desired property changes."""

        async def talk(call: Call) -> None:
            await call("PATCH", "/twins/leaf", TWIN)
            body = {"tags": None, "properties": {"desired": {"fps": 6}}}
            after = (await call("PATCH", "/twins/leaf", body)).body
            assert (after["tags"], after["properties"]["desired"]["fps"]) == ({}, 6)
            assert after["properties"]["desired"]["in"] == {"x": 1}

        service.run(talk)

    def test_a_section_that_is_not_in_the_body_stays(self, service: Service) -> None:
        """A body without sections changes nothing but the version."""

        async def talk(call: Call) -> None:
            before = (await call("PATCH", "/twins/leaf", TWIN)).body
            after = (await call("PATCH", "/twins/leaf", {"properties": {}})).body
            assert (after["tags"], after["properties"]) == (before["tags"], before["properties"])

        service.run(talk)

    def test_another_etag_refuses_to_empty_a_section(self, service: Service) -> None:
        """412, and the section is as before."""

        async def talk(call: Call) -> None:
            await call("PATCH", "/twins/leaf", TWIN)
            refused = await call("PATCH", "/twins/leaf", {"tags": None}, If_Match='"AAAA"')
            assert refused.status == 412
            assert (await call("GET", "/twins/leaf")).body["tags"] == {"floor": 1}

        service.run(talk)


class TestScopes:
    def test_an_edge_device_has_a_scope_of_its_own_and_another_device_has_none(
        self, service: Service
    ) -> None:
        """The scope names the edge device, differs after it is created anew, and no PUT changes it."""

        async def talk(call: Call) -> None:
            device = (await call("GET", "/devices/edge")).body
            scope = device["deviceScope"]
            assert scope.startswith("ms-azure-iot-edge://edge-")
            assert (await call("GET", "/twins/edge")).body["deviceScope"] == scope
            assert "deviceScope" not in (await call("GET", "/devices/leaf")).body
            changed = {**device, "deviceScope": "ms-azure-iot-edge://another-1"}
            after = (await call("PUT", "/devices/edge", changed, If_Match="*")).body
            assert after["deviceScope"] == scope
            assert "parentScopes" not in after
            await call("DELETE", "/devices/edge")
            anew = await call("PUT", "/devices/edge", {"capabilities": {"iotEdge": True}})
            assert anew.body["deviceScope"] != scope

        service.run(talk)

    @pytest.mark.parametrize("given", [("deviceScope",), ("parentScopes",), ("deviceScope", "parentScopes")])
    def test_a_leaf_gets_a_parent_and_is_listed_as_its_child(
        self, service: Service, given: tuple[str, ...]
    ) -> None:
        """`az iot hub device-identity parent set`, `children list` and `parent remove` in their requests."""

        async def talk(call: Call) -> None:
            scope = (await call("GET", "/devices/edge")).body["deviceScope"]
            parents = {"deviceScope": scope, "parentScopes": [scope]}
            leaf = (await call("GET", "/devices/leaf")).body | {name: parents[name] for name in given}
            for found in (
                (await call("PUT", "/devices/leaf", leaf, If_Match=leaf["etag"])).body,
                (await call("GET", "/devices/leaf")).body,
                (await call("GET", "/twins/leaf")).body,
            ):
                assert {name: found[name] for name in parents} == parents
            text = f"select deviceId from devices where array_contains(parentScopes, '{scope}')"
            assert (await call("POST", "/devices/query", {"query": text})).body == [{"deviceId": "leaf"}]
            leaf = (await call("GET", "/devices/leaf")).body | {"deviceScope": "", "parentScopes": []}
            await call("PUT", "/devices/leaf", leaf, If_Match="*")
            assert (await call("POST", "/devices/query", {"query": text})).body == []

        service.run(talk)

    def test_an_edge_device_keeps_its_own_scope_beside_that_of_its_parent(self, service: Service) -> None:
        """A PUT without scopes keeps the parent."""

        async def talk(call: Call) -> None:
            scope = (await call("GET", "/devices/edge")).body["deviceScope"]
            child = await call(
                "PUT", "/devices/child", {"capabilities": {"iotEdge": True}, "parentScopes": [scope]}
            )
            assert child.body["parentScopes"] == [scope] != [child.body["deviceScope"]]
            after = await call("PUT", "/devices/child", {"status": "disabled"}, If_Match="*")
            assert after.body["parentScopes"] == [scope]

        service.run(talk)

    @pytest.mark.parametrize(
        "body",
        [{"deviceScope": 1}, {"parentScopes": "x"}, {"parentScopes": [1]}, {"parentScopes": ["x"] * 9}],
    )
    def test_a_scope_that_is_no_text_is_refused(self, service: Service, body: Mapping[str, Any]) -> None:
        """400, and nothing changes."""
        before = service.registry.get(LEAF)
        assert service.once("PUT", "/devices/leaf", dict(body), If_Match="*").status == 400
        assert service.registry.get(LEAF) == before


class TestAddresses:
    @pytest.mark.parametrize("path", ["/devices", "/devices/"])
    def test_devices_are_listed_with_and_without_a_slash(self, service: Service, path: str) -> None:
        """The Node SDK sends the slash; a device named by the empty text does not exist."""
        answer = service.once("GET", path)
        assert [device["deviceId"] for device in answer.body] == ["edge", "leaf"]

    @pytest.mark.parametrize("mode", ["create", "Create", "CREATE"])
    def test_the_import_mode_has_any_letter_case(self, service: Service, mode: str) -> None:
        """The Node SDK writes `Create`, others `create`."""
        answer = service.once("POST", "/devices", [{"id": "new", "importMode": mode}])
        assert answer.body["isSuccessful"]
        assert service.registry.get(Identity("new"))

    def test_an_unknown_import_mode_is_an_error_of_its_entry(self, service: Service) -> None:
        """The letter case is free, the word is not."""
        answer = service.once("POST", "/devices", [{"id": "new", "importMode": "Creates"}])
        assert answer.body["errors"][0]["errorCode"] == "ArgumentInvalid"

    @pytest.mark.parametrize(
        ("method", "path", "name"),
        [
            ("POST", "/devices/leaf/files", "file upload"),
            ("POST", "/devices/leaf/files/notifications", "file upload"),
            ("POST", "/devices/leaf/messages/events", "device messages over HTTPS"),
            ("GET", "/devices/leaf/messages/deviceBound", "device messages over HTTPS"),
        ],
    )
    def test_what_a_device_may_not_do_here_is_refused_by_name(
        self, service: Service, method: str, path: str, name: str
    ) -> None:
        """501 with the name for the device's own token; the token of another device is still 401."""
        keys = service.registry.keys(LEAF)
        assert keys is not None
        own = sas.sign(keys[0], LEAF.resource(HUB), 2000)
        refused = service.once(method, path, token=own)
        assert (refused.status, refused.error) == (501, "NotImplemented")
        assert name in refused.body["Message"]
        assert service.once(method, path.replace("leaf", "edge"), token=own).status == 401
        assert service.once("GET", "/devices/leaf", token=own).status == 401


class TestPresence:
    def test_identity_and_twin_tell_when_a_device_was_seen(self, service: Service) -> None:
        """State, its time, the last activity and the model id; a device never seen has none of them."""
        service.methods.seen[LEAF] = Presence(True, 1.0, 2.0, "dtmi:com:example;1")

        async def talk(call: Call) -> None:
            device = (await call("GET", "/devices/leaf")).body
            assert device["connectionState"] == "Connected"
            assert device["connectionStateUpdatedTime"] == "1970-01-01T00:00:01.000000Z"
            assert device["lastActivityTime"] == "1970-01-01T00:00:02.000000Z"
            twin = (await call("GET", "/twins/leaf")).body
            assert twin["connectionState"] == "Connected"
            assert twin["lastActivityTime"] == "1970-01-01T00:00:02.000000Z"
            assert twin["modelId"] == "dtmi:com:example;1"
            never = (await call("GET", "/twins/edge")).body
            assert (never["connectionState"], never["modelId"]) == ("Disconnected", "")
            assert never["lastActivityTime"] == "0001-01-01T00:00:00Z"

        service.run(talk)
