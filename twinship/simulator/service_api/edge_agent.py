"""Four routes that IoT Hub does not have: what the simulator's agent, another process, needs to be edgeAgent.

    GET   /edge-agent/{device}?after=N   `$edgeAgent`'s desired properties once their $version exceeds N;
                                         204 when nothing changed for a while (ask again)
    PATCH /edge-agent/{device}           merges the body into `$edgeAgent`'s reported properties; 204
    GET   /edge-agent/{device}/methods   the next direct method that `$edgeAgent` is called with: id, name,
                                         payload; 204 when there is none for a while (ask again)
    POST  /edge-agent/{device}/methods/{id}   its answer: status, payload; 204

A real edgeAgent does all this over MQTT as module `$edgeAgent`. The agent calls with the service's key, on
the loopback address of the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from twinship.simulator.edge_hub.methods import MethodAnswer, NoAnswer, NotConnected
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid
from twinship.simulator.iot_hub.registry import EDGE_AGENT, Registry
from twinship.simulator.service_api.requests import json_object, whole_number

FETCHED_WITHIN_S: Final = 2.0  # the agent asks again as soon as it has been answered


@dataclass(frozen=True)
class AgentCall:
    """One call. `payload` is any JSON value."""

    name: str
    payload: Any = field(repr=False)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    fetched: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


class AgentCalls:
    """The calls of every device's agent."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, asyncio.Queue[AgentCall | None]] = defaultdict(asyncio.Queue)
        self._asking: defaultdict[str, int] = defaultdict(int)
        self._asked: dict[str, asyncio.Future[MethodAnswer]] = {}

    async def invoke(
        self,
        device: str,
        name: str,
        payload: Any,
        *,
        response_timeout_s: float,
        connect_timeout_s: float,
    ) -> MethodAnswer:
        """Call a method of the device's agent; raises NotConnected or NoAnswer."""
        call = AgentCall(name, payload)
        answer: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        self._asked[call.id] = answer
        self._waiting[device].put_nowait(call)
        try:
            await _fetched(call, max(connect_timeout_s, FETCHED_WITHIN_S), device)
            async with asyncio.timeout(response_timeout_s):
                return await answer
        except TimeoutError:
            raise NoAnswer(
                f"edgeAgent did not answer {name!r} in {response_timeout_s:g} s", call.id
            ) from None
        finally:
            del self._asked[call.id]
            self._drop_abandoned(device)

    async def fetch(self, device: str, wait_s: float) -> AgentCall | None:
        """The next call for a device's agent; None when there is none for so long."""
        self._asking[device] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    call = await self._next(device)
                if call is not None:
                    call.fetched.set()
                return call
        finally:
            self._asking[device] -= 1
        return None

    def answered(self, call_id: str, answer: MethodAnswer) -> bool:
        """The agent's answer; False for a call that nobody waits for any more."""
        asked = self._asked.get(call_id)
        if asked is None or asked.done():
            return False
        asked.set_result(answer)
        return True

    def release(self) -> None:
        """Let every fetch return."""
        for device, asking in self._asking.items():
            for _ in range(asking):
                self._waiting[device].put_nowait(None)

    def _drop_abandoned(self, device: str) -> None:
        waiting = self._waiting[device]
        for _ in range(waiting.qsize()):
            call = waiting.get_nowait()
            if call is None or call.id in self._asked:
                waiting.put_nowait(call)

    async def _next(self, device: str) -> AgentCall | None:
        while (call := await self._waiting[device].get()) is not None:
            if call.id in self._asked:  # its caller still waits
                break
        return call


async def _fetched(call: AgentCall, within_s: float, device: str) -> None:
    try:
        async with asyncio.timeout(within_s):
            await call.fetched.wait()
    except TimeoutError:
        raise NotConnected(f"Client {device}/$edgeAgent not found") from None


WAIT_S = 30.0


class EdgeAgentApi:
    """Holds the calls that wait for a change."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.calls = AgentCalls()
        self._waiting: set[asyncio.Event] = set()
        registry.on_desired.append(self._changed)

    def routes(self) -> list[tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]]:
        """Method, path and handler of each."""
        return [
            ("GET", "/edge-agent/{device}", self.desired),
            ("PATCH", "/edge-agent/{device}", self.report),
            ("GET", "/edge-agent/{device}/methods", self.next_call),
            ("POST", "/edge-agent/{device}/methods/{id}", self.answer_call),
        ]

    async def desired(self, request: web.Request) -> web.Response:
        """Answers at once when there is something new, else when there is, or after WAIT_S."""
        identity = Identity(request.match_info["device"], EDGE_AGENT)
        after = whole_number(request, "after", default=0)
        if self._registry.twin(identity).desired_version <= after:
            await self._change()
        document = self._registry.twin(identity)
        if document.desired_version <= after:
            return web.Response(status=204)
        return web.json_response(document.for_module()["desired"])

    async def report(self, request: web.Request) -> web.Response:
        """The body is a reported patch of at most what a twin may hold."""
        patch = await json_object(request)
        self._registry.patch_reported(Identity(request.match_info["device"], EDGE_AGENT), patch)
        return web.Response(status=204)

    async def next_call(self, request: web.Request) -> web.Response:
        """Answers at once when a call waits."""
        device = request.match_info["device"]
        self._registry.get(Identity(device, EDGE_AGENT))
        call = await self.calls.fetch(device, WAIT_S)
        if call is None:
            return web.Response(status=204)
        return web.json_response({"id": call.id, "name": call.name, "payload": call.payload})

    async def answer_call(self, request: web.Request) -> web.Response:
        """An answer that comes too late is nobody's mistake."""
        body = await json_object(request)
        status = body.get("status")
        if isinstance(status, bool) or not isinstance(status, int):
            raise ArgumentInvalid("status must be a whole number")
        self.calls.answered(request.match_info["id"], MethodAnswer(status, body.get("payload")))
        return web.Response(status=204)

    async def release(self, _application: web.Application) -> None:
        """Let every waiting call answer, so that the server can stop."""
        for waiting in self._waiting:
            waiting.set()
        self.calls.release()

    def _changed(self, identity: Identity, _patch: Mapping[str, Any]) -> None:
        if identity.module == EDGE_AGENT:
            for waiting in self._waiting:
                waiting.set()

    async def _change(self) -> None:
        changed = asyncio.Event()
        self._waiting.add(changed)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), WAIT_S)
        self._waiting.discard(changed)
