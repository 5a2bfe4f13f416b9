"""Four routes that IoT Hub does not have; the simulator's agent, another process, needs them to be edgeAgent.

    GET   /edge-agent/{device}?after=N   the desired properties of `$edgeAgent` when their $version exceeds N;
                                         204 if nothing changed for WAIT_S (then call again)
    PATCH /edge-agent/{device}           merges the body into the reported properties of `$edgeAgent`; 204
    GET   /edge-agent/{device}/methods   the next direct method call for `$edgeAgent`: id, name, payload;
                                         204 if there is none for WAIT_S (then call again)
    POST  /edge-agent/{device}/methods/{id}   the answer to a call: status, payload; 204

A real edgeAgent does this over MQTT as module `$edgeAgent`. The agent uses the service's key and the loopback
address of the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from twinship.simulator.edge_hub.methods import MethodAnswer, MethodRequest, NoAnswer, NotConnected
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid
from twinship.simulator.iot_hub.registry import EDGE_AGENT, Registry
from twinship.simulator.service_api.requests import Route, json_object, whole_number

WAIT_S: Final = 30.0
FETCHED_WITHIN_S: Final = 2.0  # the agent fetches again as soon as it has a response


class EdgeAgentApi:
    """The handlers. GET requests wait for a change."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.calls = AgentCalls()
        self._waiting: set[asyncio.Event] = set()
        registry.on_desired.append(self._desired_changed)

    def routes(self) -> list[Route]:
        """Method, path and handler of each route."""
        return [
            ("GET", "/edge-agent/{device}", self.desired),
            ("PATCH", "/edge-agent/{device}", self.report),
            ("GET", "/edge-agent/{device}/methods", self.next_call),
            ("POST", "/edge-agent/{device}/methods/{id}", self.answer_call),
        ]

    async def desired(self, request: web.Request) -> web.Response:
        """Responds when there is a newer version, or after WAIT_S."""
        identity = Identity(request.match_info["device"], EDGE_AGENT)
        after = whole_number(request, "after", default=0)
        if self._registry.twin(identity).desired_version <= after:
            await self._wait_for_change()
        document = self._registry.twin(identity)
        if document.desired_version <= after:
            return web.Response(status=204)
        return web.json_response(document.for_module()["desired"])

    async def report(self, request: web.Request) -> web.Response:
        """The body is a reported patch; the limits of twins apply."""
        patch = await json_object(request)
        self._registry.patch_reported(Identity(request.match_info["device"], EDGE_AGENT), patch)
        return web.Response(status=204)

    async def next_call(self, request: web.Request) -> web.Response:
        """Responds when there is a call, or after WAIT_S."""
        device = request.match_info["device"]
        self._registry.get(Identity(device, EDGE_AGENT))
        call = await self.calls.fetch(device, WAIT_S)
        if call is None:
            return web.Response(status=204)
        return web.json_response({"id": call.id, "name": call.request.name, "payload": call.request.payload})

    async def answer_call(self, request: web.Request) -> web.Response:
        """A late answer is not an error."""
        body = await json_object(request)
        status = body.get("status")
        if isinstance(status, bool) or not isinstance(status, int):
            raise ArgumentInvalid("status must be a whole number")
        self.calls.answered(request.match_info["id"], MethodAnswer(status, body.get("payload")))
        return web.Response(status=204)

    async def release(self, _application: web.Application) -> None:
        """End every waiting request, so that the server can stop."""
        for waiting in self._waiting:
            waiting.set()
        self.calls.release()

    def _desired_changed(self, identity: Identity, _patch: Mapping[str, Any]) -> None:
        if identity.module == EDGE_AGENT:
            for waiting in self._waiting:
                waiting.set()

    async def _wait_for_change(self) -> None:
        changed = asyncio.Event()
        self._waiting.add(changed)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), WAIT_S)
        self._waiting.discard(changed)


@dataclass(frozen=True)
class AgentCall:
    """One direct method call."""

    request: MethodRequest
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    fetched: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


class AgentCalls:
    """The direct method calls to the agents of all devices."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, asyncio.Queue[AgentCall | None]] = defaultdict(asyncio.Queue)
        self._fetching: defaultdict[str, int] = defaultdict(int)  # waiting fetch() calls of each device
        self._pending: dict[str, asyncio.Future[MethodAnswer]] = {}  # call id -> the caller's future

    async def invoke(self, device: str, request: MethodRequest) -> MethodAnswer:
        """Call a method of the device's agent; raises NotConnected or NoAnswer."""
        call = AgentCall(request)
        answer: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        self._pending[call.id] = answer
        self._queues[device].put_nowait(call)
        try:
            await _wait_until_fetched(call, max(request.connect_timeout_s, FETCHED_WITHIN_S), device)
            async with asyncio.timeout(request.response_timeout_s):
                return await answer
        except TimeoutError:
            raise NoAnswer(request.unanswered("edgeAgent"), call.id) from None
        finally:
            del self._pending[call.id]
            self._drop_abandoned(device)

    async def fetch(self, device: str, wait_s: float) -> AgentCall | None:
        """The next call for a device's agent; None if there is none within `wait_s`."""
        self._fetching[device] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    call = await self._next(device)
                if call is not None:
                    call.fetched.set()
                return call
        finally:
            self._fetching[device] -= 1
        return None

    def answered(self, call_id: str, answer: MethodAnswer) -> bool:
        """Pass the agent's answer to the caller; False if the caller no longer waits."""
        pending = self._pending.get(call_id)
        if pending is None or pending.done():
            return False
        pending.set_result(answer)
        return True

    def release(self) -> None:
        """Let every fetch() return."""
        for device, fetching in self._fetching.items():
            for _ in range(fetching):
                self._queues[device].put_nowait(None)

    def _drop_abandoned(self, device: str) -> None:
        queue = self._queues[device]
        for _ in range(queue.qsize()):
            call = queue.get_nowait()
            if call is None or call.id in self._pending:
                queue.put_nowait(call)

    async def _next(self, device: str) -> AgentCall | None:
        while (call := await self._queues[device].get()) is not None:
            if call.id in self._pending:  # the caller still waits
                break
        return call


async def _wait_until_fetched(call: AgentCall, within_s: float, device: str) -> None:
    try:
        async with asyncio.timeout(within_s):
            await call.fetched.wait()
    except TimeoutError:
        raise NotConnected(f"Client {device}/$edgeAgent not found") from None
