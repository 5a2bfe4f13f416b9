"""edgeHub's HTTPS API without TLS and SDK: authorization, and the HTTP status of each result."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from twinship.simulator import sas
from twinship.simulator.edge_hub.methods import MethodAnswer, MethodRequest, NoAnswer, NotConnected
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import Presence
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.service_api.module_methods import edge_https
from twinship.simulator.store import Store

HUB, GATEWAY, LOOPBACK = "127.16.0.1", "127.16.0.2", "127.16.7.8"
NOW = 1000.0
B = "/twins/edge/modules/b/methods"


class Methods:
    """A stub of edgeHub."""

    def __init__(self) -> None:
        self.outcome: MethodAnswer | Exception = MethodAnswer(207, [1])
        self.targets: list[str] = []

    def presence(self, identity: Identity) -> Presence:
        return Presence(connected=True)

    async def invoke_method(self, target: Identity, call: MethodRequest) -> MethodAnswer:
        self.targets.append(str(target))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Edge:
    """The application of device `edge`; there is another edge device too."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.methods = Methods()

    def request(
        self, path: str, body: Any = None, *, method: str = "POST", host: str = HUB, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON of the response to module `a`."""
        return asyncio.run(self._request(path, body, method, self._headers(host) | headers))

    async def _request(self, path: str, body: Any, method: str, headers: dict[str, str]) -> tuple[int, Any]:
        application = edge_https(
            self.registry, self.methods, gateway="edge", edges={"edge": GATEWAY, "other": "127.16.0.3"}
        )
        data = io.BytesIO(body) if isinstance(body, bytes) else json.dumps(body or {"methodName": "m"})
        async with TestClient(TestServer(application, host=LOOPBACK)) as client:
            url = URL(f"{path}?api-version=2019-10-01", encoded=True)
            async with client.request(method, url, data=data, headers=headers) as answer:
                return answer.status, await answer.json()

    def _headers(self, host: str) -> dict[str, str]:
        keys = self.registry.keys(Identity("edge", "a"))
        assert keys is not None
        token = sas.sign(keys[0], f"{host}/devices/edge/modules/a", 2000)
        return {"x-ms-edge-moduleId": "edge/a", "Authorization": token}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    store = Store(tmp_path / "hub.sqlite")
    registry = Registry(store, HUB, lambda: NOW)
    registry.create(Identity("edge"), {"capabilities": {"iotEdge": True}})
    registry.create(Identity("edge", "a"))
    yield Edge(registry)
    asyncio.run(store.close())


@pytest.mark.parametrize("host", [HUB, f"{HUB}:8443", GATEWAY])
def test_a_token_names_the_hub_or_the_gateway(edge: Edge, host: str) -> None:
    """As over MQTT (ref 4.2); HTTP's status is 200, the body has the method's status."""
    assert edge.request(B, host=host) == (200, {"status": 207, "payload": [1]})
    assert edge.request(B, host="127.16.0.9")[0] == 401


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (B, "edge/b"),
        ("/twins/leaf/methods", "leaf"),
        ("/twins/a+b/modules/c%2Bd%20e/methods", "a b/c+d e"),
        ("/twins/edge/modules/%24m%25/methods", "edge/$m%"),
    ],
)
def test_ids_are_decoded_once_with_plus_as_a_space(edge: Edge, path: str, target: str) -> None:
    """The SDK encodes a space as '+' (ref 3)."""
    assert edge.request(path)[0] == 200
    assert edge.methods.targets == [target]


@pytest.mark.parametrize(
    ("outcome", "status", "message"),
    [
        (NotConnected("Client edge/b not found"), 404, "Client edge/b not found"),
        (NoAnswer("x", "id-1"), 504, "Timed out waiting for device to respond to method request id-1"),
    ],
)
def test_failures_have_a_status_and_a_text(edge: Edge, outcome: Exception, status: int, message: str) -> None:
    """404 and 504 with edgeHub's texts."""
    edge.methods.outcome = outcome
    assert edge.request(B) == (status, {"message": message})


@pytest.mark.parametrize("path", ["/twins/other/modules/b/methods", "/twins/edge/modules/x%2Fy/methods"])
def test_unknown_targets_are_not_found(edge: Edge, path: str) -> None:
    """A module of another edge device, and an invalid id, are 404 without a call to edgeHub."""
    status, body = edge.request(path)
    assert (status, body["message"].endswith("not found"), edge.methods.targets) == (404, True, [])


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"methodName": 1}', b'{"methodName":"m","payload":NaN}'])
def test_an_invalid_body_is_refused(edge: Edge, body: bytes) -> None:
    """400 with a text; no method is called."""
    status, said = edge.request(B, body)
    assert (status, bool(said["message"]), edge.methods.targets) == (400, True, [])


def test_a_large_body_is_refused(edge: Edge) -> None:
    """400 before parsing."""
    assert edge.request(B, b"x" * 1_100_000)[0] == 400


def test_a_removed_caller_is_refused(edge: Edge) -> None:
    """An identity without keys cannot call."""
    assert edge.request(B, **{"x-ms-edge-moduleId": "edge/gone"})[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/devices/edge/files", 404), ("GET", B, 404)],
)
def test_unsupported_routes_are_named(edge: Edge, method: str, path: str, status: int) -> None:
    """MQTT over WebSocket is 501; blob upload, which edgeHub does not have, is 404 (ref 3)."""
    got, said = edge.request(path, b"", method=method)
    assert (got, said["message"].startswith(f"{method} {path}: ")) == (status, True)
