"""Direct methods towards modules: matched by rid, waited for, timed out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.unit.twinship.simulator.edge import EDGE, Edge, RawClient
from twinship.simulator.edge_hub.edge_hub import MethodAnswer, NoAnswer, NotConnected
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid

A = Identity(EDGE, "a")
METHODS = "$iothub/methods/POST/#"


def in_a_loop(folder: Path, test: Callable[[Edge], Awaitable[None]]) -> None:
    """Run a test in a loop, with an edge whose calls go out at once after a late connection."""

    async def run() -> None:
        edge = Edge(folder, EdgeHubSettings(method_connect_grace_s=0.0))
        edge.create("a", "b")
        await test(edge)
        await edge.store.close()

    asyncio.run(run())


def call(
    edge: Edge, name: str = "do it", payload: object = None, *, wait_s: float = 5.0, connect_s: float = 0.0
) -> asyncio.Task[MethodAnswer]:
    """A call that is under way."""
    asked = edge.hub.invoke_method(A, name, payload, response_timeout_s=wait_s, connect_timeout_s=connect_s)
    return asyncio.create_task(asked)


async def turns() -> None:
    """Let everything that is ready run, commits included."""
    for _ in range(5):
        await asyncio.sleep(0)


def answer(client: RawClient, index: int, status: object, body: bytes) -> None:
    """Answer the index-th request that the client has."""
    rid = client.messages[index].topic.partition("$rid=")[2]
    client.publish(f"$iothub/methods/res/{status}/?$rid={rid}", body)


def test_concurrent_calls_are_matched_by_rid(tmp_path: Path) -> None:
    """Answered in the other order (ref statement 77); the name goes unescaped (75)."""

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


def test_who_is_not_there_is_not_connected(tmp_path: Path) -> None:
    """Absent, without the subscription, or gone again (ref 3)."""

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
    """Until it subscribes, or returns with its subscription (ref statement 71)."""

    async def test(edge: Edge) -> None:
        for step in ("subscribes", "returns"):
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


def test_silence_is_no_answer(tmp_path: Path) -> None:
    """504 at the caller (ref statement 72); what comes later is dropped."""

    async def test(edge: Edge) -> None:
        a = edge.connect("a")
        a.subscribe(METHODS)
        await turns()
        with pytest.raises(NoAnswer):
            await call(edge, wait_s=0.01)
        answer(a, 0, 200, b"1")

    in_a_loop(tmp_path, test)


def test_only_the_target_answers(tmp_path: Path) -> None:
    """Another module that guesses a rid is not heard."""

    async def test(edge: Edge) -> None:
        a, b = edge.connect("a"), edge.connect("b")
        a.subscribe(METHODS)
        await turns()
        asked = call(edge)
        await turns()
        rid = a.messages[0].topic.partition("$rid=")[2]
        b.publish(f"$iothub/methods/res/200/?$rid={rid}", b'"forged"')
        answer(a, 0, 200, b'"true"')
        assert (await asked).payload == "true"

    in_a_loop(tmp_path, test)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        ("nonsense", b"1", MethodAnswer(400_000, 1)),
        ("200", b"{", MethodAnswer(200, "{")),
        ("-1", b"[]", MethodAnswer(-1, [])),
    ],
)
def test_what_a_module_answers_badly_ends_no_one(
    tmp_path: Path, status: str, body: bytes, expected: MethodAnswer
) -> None:
    """An undecodable status is 400000 (ref 3), a body that is no JSON comes as text."""

    async def test(edge: Edge) -> None:
        a = edge.connect("a")
        a.subscribe(METHODS)
        await turns()
        asked = call(edge)
        await turns()
        answer(a, 0, status, body)
        assert await asked == expected

    in_a_loop(tmp_path, test)


@pytest.mark.parametrize("name", ["RefreshDeviceScopeIdentityCache", "refreshdevicescopeidentitycache"])
def test_edge_hub_answers_for_itself(tmp_path: Path, name: str) -> None:
    """Its one method takes device ids and needs no connection (ref 3); what else is asked is refused."""

    async def test(edge: Edge) -> None:
        async def ask(method: str, payload: object) -> MethodAnswer:
            target = Identity(EDGE, "$edgeHub")
            return await edge.hub.invoke_method(
                target, method, payload, response_timeout_s=5, connect_timeout_s=0
            )

        assert await ask(name, {"deviceIds": ["d1", "d2"]}) == MethodAnswer(200, None)
        for payload in (None, {}, {"deviceIds": "d1"}, {"deviceIds": [1]}):
            with pytest.raises(ArgumentInvalid, match="deviceIds"):
                await ask(name, payload)
        with pytest.raises(NotConnected, match="Refresh"):
            await ask("ping", None)

    in_a_loop(tmp_path, test)
