"""IoT Hub's service REST API (ref 5): the application, and the handlers for devices, modules and twins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from twinship.simulator.edge_hub.methods import (
    MethodAnswer,
    MethodRequest,
    MethodRequestInvalid,
    NoAnswer,
    NotConnected,
)
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.configuration import check_content
from twinship.simulator.iot_hub.deployments import Deployments
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid, Presence, Unsupported
from twinship.simulator.iot_hub.registry import EDGE_AGENT, Registry
from twinship.simulator.iot_hub.twin_views import TwinViews
from twinship.simulator.service_api import errors
from twinship.simulator.service_api.bulk import apply_bulk
from twinship.simulator.service_api.configurations import ConfigurationsApi
from twinship.simulator.service_api.edge_agent import AgentCalls, EdgeAgentApi
from twinship.simulator.service_api.errors import ServiceError
from twinship.simulator.service_api.middleware import (
    MAX_BODY_BYTES,
    Policies,
    authorization,
    error_responses,
    respond_after_commit,
)
from twinship.simulator.service_api.queries import QueryApi
from twinship.simulator.service_api.requests import (
    Route,
    if_match,
    json_array,
    json_object,
    path_identity,
    twin_sections,
    whole_number,
)

logger = logging.getLogger(__name__)

MOST_DEVICES = 1000

# Features of IoT Hub that the simulator refuses by name, with 501.
NOT_SUPPORTED = (
    ("GET", "/statistics/service", "statistics"),
    ("GET", "/statistics/devices", "statistics"),
    ("*", "/jobs{rest:.*}", "jobs"),
    ("*", "/messages/{rest:.*}", "feedback and cloud-to-device messages"),
    ("*", "/digitaltwins{rest:.*}", "digital twins"),
    ("*", "/devices/{device}/files{rest:.*}", "file upload"),
    ("*", "/devices/{device}/messages/{rest:.*}", "device messages over HTTPS"),
)


class EdgeHubMethods(Protocol):
    """The part of edgeHub that the service API uses."""

    def presence(self, identity: Identity) -> Presence: ...

    async def invoke_method(self, target: Identity, call: MethodRequest) -> MethodAnswer: ...


def service_api(registry: Registry, edge_hub: EdgeHubMethods, policies: Policies) -> web.Application:
    """The application. A policy may call everything, a device's token only its own modules."""
    application = web.Application(
        middlewares=[
            error_responses(registry),
            authorization(registry, policies),
            respond_after_commit(registry.store),
        ],
        client_max_size=MAX_BODY_BYTES,
    )
    deployments = Deployments(registry, lambda update: asyncio.get_running_loop().call_soon(update))
    views = TwinViews(registry, edge_hub.presence, deployments.statuses)
    agent = EdgeAgentApi(registry)
    service = _Service(registry, edge_hub, agent.calls, views, deployments)
    others = (*QueryApi(views).routes(), *ConfigurationsApi(deployments, views).routes())
    for method, path, handler in (*service.routes(), *agent.routes(), *others):
        application.router.add_route(method, path, handler)
    for method, path, name in NOT_SUPPORTED:
        application.router.add_route(method, path, _not_supported(name))
    application.router.add_route("*", "/{rest:[\\s\\S]*}", _no_such_address)
    application.on_shutdown.append(agent.release)
    return application


@dataclass(frozen=True)
class _Service:
    registry: Registry
    edge_hub: EdgeHubMethods
    agent_calls: AgentCalls
    views: TwinViews
    deployments: Deployments

    def routes(self) -> list[Route]:
        routes: list[Route] = [
            ("GET", "/devices", self.get_devices),
            ("GET", "/devices/", self.get_devices),  # the Node SDK
            ("POST", "/devices", self.bulk),
            ("GET", "/devices/{device}/modules", self.get_modules),
            ("POST", "/devices/{device}/applyConfigurationContent", self.apply_configuration),
        ]
        for path in ("{device}", "{device}/modules/{module}"):
            routes += [
                ("GET", f"/devices/{path}", self.get_identity),
                ("PUT", f"/devices/{path}", self.put_identity),
                ("DELETE", f"/devices/{path}", self.delete_identity),
                ("GET", f"/twins/{path}", self.get_twin),
                ("PATCH", f"/twins/{path}", self.patch_twin),
                ("PUT", f"/twins/{path}", self.put_twin),
                ("POST", f"/twins/{path}/methods", self.invoke_method),
            ]
        return routes

    async def get_devices(self, request: web.Request) -> web.Response:
        top = whole_number(request, "top", default=MOST_DEVICES)
        if not 0 < top <= MOST_DEVICES:
            raise ArgumentInvalid(f"top must be 1 to {MOST_DEVICES}")
        devices = self.registry.devices()[:top]
        return web.json_response([self._shown(document.identity) for document in devices])

    async def bulk(self, request: web.Request) -> web.Response:
        entries = await json_array(request)
        result = apply_bulk(self.registry, entries)
        return web.json_response(result, status=200 if result["isSuccessful"] else 400)

    async def get_modules(self, request: web.Request) -> web.Response:
        modules = self.registry.modules(path_identity(request).device)
        return web.json_response([self._shown(document.identity) for document in modules])

    async def apply_configuration(self, request: web.Request) -> web.Response:
        content = (await json_object(request)).get("modulesContent")
        if not isinstance(content, dict):
            raise ArgumentInvalid("the body has no 'modulesContent' object")
        device = path_identity(request).device
        if self.deployments.governs(device):  # automatic deployments win and would overwrite it
            check_content(content)
            logger.warning(
                "%s: this deployment has no effect, because automatic deployments target the device",
                device,
            )
        else:
            self.registry.apply_configuration(device, content)
        return web.Response(status=204)

    async def get_identity(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(path_identity(request)))

    async def put_identity(self, request: web.Request) -> web.Response:
        """Create; with If-Match, update. Always 200: the SDK accepts nothing else for a device (ref 5.2)."""
        identity, body = path_identity(request), await json_object(request)
        _check_names(identity, body)
        if (etag := if_match(request)) is None:
            self.registry.create(identity, body)
        else:
            self.registry.update(identity, body, if_match=etag)
        return web.json_response(self._shown(identity))

    async def delete_identity(self, request: web.Request) -> web.Response:
        self.registry.delete(path_identity(request), if_match=if_match(request))
        return web.Response(status=204)

    async def get_twin(self, request: web.Request) -> web.Response:
        return web.json_response(self.views.of(path_identity(request)))

    async def patch_twin(self, request: web.Request) -> web.Response:
        return await self._write_twin(request, replace=False)

    async def put_twin(self, request: web.Request) -> web.Response:
        return await self._write_twin(request, replace=True)

    async def _write_twin(self, request: web.Request, *, replace: bool) -> web.Response:
        identity, sections = path_identity(request), twin_sections(await json_object(request))
        self.registry.patch_twin(identity, **sections, if_match=if_match(request), replace=replace)
        return web.json_response(self.views.of(identity))

    async def invoke_method(self, request: web.Request) -> web.Response:
        identity = path_identity(request)
        self.registry.get(identity)
        try:
            call = MethodRequest.parse(await json_object(request))
        except MethodRequestInvalid as error:
            raise ArgumentInvalid(str(error)) from None
        answer = await self._invoke(identity, call)
        return web.json_response({"status": answer.status, "payload": answer.payload})

    async def _invoke(self, identity: Identity, call: MethodRequest) -> MethodAnswer:
        try:
            if identity.module == EDGE_AGENT:
                return await self.agent_calls.invoke(identity.device, call)
            return await self.edge_hub.invoke_method(identity, call)
        except NotConnected:
            text = "The operation failed because the requested device isn't online or has no method handler."
            raise ServiceError(errors.DEVICE_NOT_ONLINE, text, nested=True) from None
        except NoAnswer:
            text = "Timed out waiting for the response from device."
            raise ServiceError(errors.GATEWAY_TIMEOUT, text, nested=True) from None

    def _shown(self, identity: Identity) -> dict[str, Any]:
        return self.registry.get(identity).for_service(self.edge_hub.presence(identity))


def _check_names(identity: Identity, body: Mapping[str, Any]) -> None:
    named = (body.get("deviceId", identity.device), body.get("moduleId", identity.module))
    if named != (identity.device, identity.module):
        raise ArgumentInvalid(f"the body has another identity than the address, {str(identity)!r}")


def _not_supported(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def refuse(request: web.Request) -> web.Response:
        raise Unsupported(name)

    return refuse


async def _no_such_address(request: web.Request) -> web.Response:
    raise ServiceError(errors.NO_SUCH_ADDRESS, f"IoT Hub has no {request.method} {request.path}")
