"""Direct methods: matching by request id, waiting for the target, time-outs, `$edgeHub`'s own method."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.unit.twinship.simulator.edge import EDGE, Edge, RawClient
from twinship.simulator.edge_hub.methods import (
    MethodAnswer,
    MethodRequest,
    MethodRequestInvalid,
    NoAnswer,
    NotConnected,
)
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid

A = Identity(EDGE, "a")
METHODS = "$iothub/methods/POST/#"


def nested(levels: int) -> object:
    """A list in a list, so many levels deep."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def in_a_loop(folder: Path, test: Callable[[Edge], Awaitable[None]]) -> None:
    """Run a test in an event loop, with an edge device that has no grace after a late subscription."""

    async def run() -> None:
        edge = Edge(folder, EdgeHubSettings(method_connect_grace_s=0.0))
        edge.create("a", "b")
        await test(edge)
        await edge.store.close()

    asyncio.run(run())


def call(
    edge: Edge, name: str = "do it", payload: object = None, *, wait_s: float = 5.0, connect_s: float = 0.0
) -> asyncio.Task[MethodAnswer]:
    """Start a call."""
    invocation = edge.hub.invoke_method(A, MethodRequest(name, payload, wait_s, connect_s))
    return asyncio.create_task(invocation)


async def turns() -> None:
    """Let all ready callbacks run, commits included."""
    for _ in range(5):
        await asyncio.sleep(0)


def answer(client: RawClient, index: int, status: object, body: bytes) -> None:
    """Answer the request at this index of the client's messages."""
    rid = client.messages[index].topic.partition("$rid=")[2]
    client.publish(f"$iothub/methods/res/{status}/?$rid={rid}", body)


@pytest.mark.parametrize(
    "body",
    [
        {"methodName": "a\nb"},
        {"methodName": "a\ud800"},
        {"methodName": "a\0"},
        {"methodName": "a", "payload": "x" * 131_071},
        {"methodName": "a", "payload": "\ud800" * 50_000},
        {"methodName": "a", "payload": nested(101)},
    ],
)
def test_a_call_that_breaks_a_limit_is_refused(body: dict[str, object]) -> None:
    """By name; a lone surrogate is three bytes."""
    with pytest.raises(MethodRequestInvalid):
        MethodRequest.parse(body)


@pytest.mark.parametrize("payload", ["\ud800", {"\ud800": 1}, nested(100), "x" * 131_070])
def test_a_call_within_the_limits_is_sent(tmp_path: Path, payload: object) -> None:
    """Also with a lone surrogate, which JSON can contain."""

    async def test(edge: Edge) -> None:
        a = edge.connect("a")
        a.subscribe(METHODS)
        await turns()
        calling = call(edge, payload=MethodRequest.parse({"methodName": "a", "payload": payload}).payload)
        await turns()
        assert json.loads(a.messages[0].body) == payload
        answer(a, 0, 200, b"[" * 101 + b"]" * 101)
        await turns()
        assert (await calling).payload == "[" * 101 + "]" * 101  # too deep: passed on as text

    in_a_loop(tmp_path, test)


def test_concurrent_calls_are_matched_by_request_id(tmp_path: Path) -> None:
    """Answers may come in another order (ref statement 77); the name is not escaped (statement 75)."""

    async def test(edge: Edge) -> None:
        a = edge.connect("a")
        a.subscribe(METHODS)
        await turns()
        one, two = call(edge, "do it/now", {"n": 1}), call(edge, payload=[2])
        await turns()
        assert a.messages[0].topic.startswith("$iothub/methods/POST/do it/now/?$rid=")
        assert [json.loads(body) for body in a.bodies] == [{"n": 1}, [2]]
        answer(a, 1, 200, b'"second"')
        answer(a, 0, 207, b"")
        assert await one == MethodAnswer(207, None)
        assert await two == MethodAnswer(200, "second")

    in_a_loop(tmp_path, test)


def test_an_absent_target_is_not_connected(tmp_path: Path) -> None:
    """Never connected, without the subscription, or disconnected again (ref 3)."""

    async def test(edge: Edge) -> None:
        with pytest.raises(NotConnected):
            await call(edge)
        a = edge.connect("a")
        with pytest.raises(NotConnected):
            await call(edge)
        a.subscribe(METHODS)
        await turns()
        a.drop()
        with pytest.raises(NotConnected):
            await call(edge, connect_s=0.01)

    in_a_loop(tmp_path, test)


def test_a_call_may_wait_for_its_target(tmp_path: Path) -> None:
    """Until it subscribes, or reconnects with its subscription (ref statement 71)."""

    async def test(edge: Edge) -> None:
        for step in ("subscribes", "reconnects"):
            waiting = call(edge, connect_s=5)
            await turns()
            a = edge.connect("a")
            if step == "subscribes":
                a.subscribe(METHODS)
            await turns()
            answer(a, 0, 200, b"null")
            assert await waiting == MethodAnswer(200, None)
            a.drop()

    in_a_loop(tmp_path, test)


def test_a_target_that_does_not_answer_is_a_time_out(tmp_path: Path) -> None:
    """504 for the caller (ref statement 72); a later answer is dropped."""

    async def test(edge: Edge) -> None:
        a = edge.connect("a")
        a.subscribe(METHODS)
        await turns()
        with pytest.raises(NoAnswer):
            await call(edge, wait_s=0.01)
        answer(a, 0, 200, b"1")

    in_a_loop(tmp_path, test)


def test_only_the_target_answers(tmp_path: Path) -> None:
    """The answer of another module that guesses the request id is dropped."""

    async def test(edge: Edge) -> None:
        a, b = edge.connect("a"), edge.connect("b")
        a.subscribe(METHODS)
        await turns()
        pending = call(edge)
        await turns()
        rid = a.messages[0].topic.partition("$rid=")[2]
        b.publish(f"$iothub/methods/res/200/?$rid={rid}", b'"forged"')
        answer(a, 0, 200, b'"true"')
        assert (await pending).payload == "true"

    in_a_loop(tmp_path, test)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        ("nonsense", b"1", MethodAnswer(400_000, 1)),
        ("200", b"{", MethodAnswer(200, "{")),
        ("-1", b"[]", MethodAnswer(-1, [])),
    ],
)
def test_a_malformed_answer_is_passed_on(
    tmp_path: Path, status: str, body: bytes, expected: MethodAnswer
) -> None:
    """A status that is not a number becomes 400000 (ref 3), a body that is not JSON becomes text."""

    async def test(edge: Edge) -> None:
        a = edge.connect("a")
        a.subscribe(METHODS)
        await turns()
        pending = call(edge)
        await turns()
        answer(a, 0, status, body)
        assert await pending == expected

    in_a_loop(tmp_path, test)


@pytest.mark.parametrize("name", ["RefreshDeviceScopeIdentityCache", "refreshdevicescopeidentitycache"])
def test_edge_hub_answers_its_own_method(tmp_path: Path, name: str) -> None:
    """Its one method takes device ids and needs no connection (ref 3); it refuses any other."""

    async def test(edge: Edge) -> None:
        async def invoke(method: str, payload: object) -> MethodAnswer:
            target = Identity(EDGE, "$edgeHub")
            return await edge.hub.invoke_method(target, MethodRequest(method, payload, 5, 0))

        assert await invoke(name, {"deviceIds": ["d1", "d2"]}) == MethodAnswer(200, None)
        for payload in (None, {}, {"deviceIds": "d1"}, {"deviceIds": [1]}):
            with pytest.raises(ArgumentInvalid, match="deviceIds"):
                await invoke(name, payload)
        with pytest.raises(NotConnected, match="Refresh"):
            await invoke("ping", None)

    in_a_loop(tmp_path, test)
