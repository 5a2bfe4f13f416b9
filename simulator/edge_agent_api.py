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
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from simulator.agent_calls import AgentCalls
from simulator.identity import Identity
from simulator.identity_document import ArgumentInvalid
from simulator.methods import MethodAnswer
from simulator.registry import EDGE_AGENT, Registry
from simulator.request_parts import json_object, whole_number

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
