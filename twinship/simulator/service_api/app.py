"""IoT Hub's service REST API (ref 5): who may call, which handler answers, when the answer may leave.

Handlers of single resources are here, a bulk call's in bulk.py, edgeAgent's own routes in
edge_agent_api.py. Knows no rule of the registry or of twins, opens no socket: hub.py serves the application.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from twinship.simulator import sas
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
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid, Unsupported
from twinship.simulator.iot_hub.registry import EDGE_AGENT, Registry
from twinship.simulator.iot_hub.twin import TwinDocument
from twinship.simulator.iot_hub.twin_views import TwinViews
from twinship.simulator.service_api import errors
from twinship.simulator.service_api.bulk import apply_bulk, etag_of
from twinship.simulator.service_api.configurations import ConfigurationsApi
from twinship.simulator.service_api.edge_agent import AgentCalls, EdgeAgentApi
from twinship.simulator.service_api.errors import ServiceError
from twinship.simulator.service_api.queries import QueryApi
from twinship.simulator.service_api.requests import json_array, json_object, whole_number
from twinship.simulator.store import Store

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 * 1024 * 1024  # a bulk call's hundred entries; everything else is far smaller
MOST_DEVICES = 1000

Policies = Mapping[str, Sequence[str]]  # name of a shared access policy -> its base64 keys

# What IoT Hub has and this simulator has not: refused by name, so that nobody takes silence for an answer.
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
    """What is needed of edgeHub here: who is connected, and direct methods."""

    def connected(self, identity: Identity) -> bool: ...

    async def invoke_method(
        self,
        target: Identity,
        name: str,
        payload: Any,
        *,
        response_timeout_s: float,
        connect_timeout_s: float,
    ) -> MethodAnswer: ...


def service_api(registry: Registry, edge_hub: EdgeHubMethods, policies: Policies) -> web.Application:
    """The application to serve over TLS. A policy may call everything, a device's token its modules only."""
    application = web.Application(
        middlewares=[_errors(registry), _authorized(registry, policies), _stored(registry.store)],
        client_max_size=MAX_BODY_BYTES,
    )
    deployments = Deployments(registry, lambda look: asyncio.get_running_loop().call_soon(look))
    views = TwinViews(registry, edge_hub.connected, deployments.statuses)
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


class _Service:
    def __init__(
        self,
        registry: Registry,
        edge_hub: EdgeHubMethods,
        agent_calls: AgentCalls,
        views: TwinViews,
        deployments: Deployments,
    ) -> None:
        self._registry = registry
        self._edge_hub = edge_hub
        self._agent_calls = agent_calls
        self._views = views
        self._deployments = deployments

    def routes(self) -> list[tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]]:
        device, module = "/devices/{device}", "/devices/{device}/modules/{module}"
        device_twin, module_twin = "/twins/{device}", "/twins/{device}/modules/{module}"
        return [
            ("GET", "/devices", self.get_devices),
            ("POST", "/devices", self.bulk),
            ("GET", f"{device}/modules", self.get_modules),
            ("POST", f"{device}/applyConfigurationContent", self.apply_configuration),
            *(
                (method, path, handler)
                for path in (device, module)
                for method, handler in (
                    ("GET", self.get_identity),
                    ("PUT", self.put_identity),
                    ("DELETE", self.delete_identity),
                )
            ),
            *(
                (method, path, handler)
                for path in (device_twin, module_twin)
                for method, handler in (
                    ("GET", self.get_twin),
                    ("PATCH", self.patch_twin),
                    ("PUT", self.put_twin),
                )
            ),
            ("POST", f"{device_twin}/methods", self.invoke_method),
            ("POST", f"{module_twin}/methods", self.invoke_method),
        ]

    async def get_devices(self, request: web.Request) -> web.Response:
        top = whole_number(request, "top", default=MOST_DEVICES)
        if not 0 < top <= MOST_DEVICES:
            raise ArgumentInvalid(f"top must be 1 to {MOST_DEVICES}")
        devices = self._registry.devices()[:top]
        return web.json_response([self._shown(document.identity) for document in devices])

    async def bulk(self, request: web.Request) -> web.Response:
        entries = await json_array(request)
        result = apply_bulk(self._registry, entries)
        return web.json_response(result, status=200 if result["isSuccessful"] else 400)

    async def get_modules(self, request: web.Request) -> web.Response:
        modules = self._registry.modules(_identity(request).device)
        return web.json_response([self._shown(document.identity) for document in modules])

    async def apply_configuration(self, request: web.Request) -> web.Response:
        content = (await json_object(request)).get("modulesContent")
        if not isinstance(content, dict):
            raise ArgumentInvalid("the body has no 'modulesContent' object")
        device = _identity(request).device
        if self._deployments.governs(device):  # it would be overwritten: automatic deployments win
            check_content(content)
            logger.warning("%s: automatic deployments target it; a deployment to it alone is void", device)
        else:
            self._registry.apply_configuration(device, content)
        return web.Response(status=204)

    async def get_identity(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(_identity(request)))

    async def put_identity(self, request: web.Request) -> web.Response:
        """Create, or with If-Match update. Always 200: the SDK takes nothing else for a device (ref 5.2)."""
        identity, body = _identity(request), await json_object(request)
        if_match = etag_of(request.headers.get("If-Match"))
        _check_names(identity, body)
        if if_match is None:
            self._registry.create(identity, body)
        else:
            self._registry.update(identity, body, if_match=if_match)
        return web.json_response(self._shown(identity))

    async def delete_identity(self, request: web.Request) -> web.Response:
        self._registry.delete(_identity(request), if_match=etag_of(request.headers.get("If-Match")))
        return web.Response(status=204)

    async def get_twin(self, request: web.Request) -> web.Response:
        return web.json_response(self._views.of(_identity(request)))

    async def patch_twin(self, request: web.Request) -> web.Response:
        return await self._write_twin(request, self._registry.patch_twin)

    async def put_twin(self, request: web.Request) -> web.Response:
        return await self._write_twin(request, self._registry.replace_twin)

    async def _write_twin(self, request: web.Request, write: Callable[..., TwinDocument]) -> web.Response:
        identity, body = _identity(request), await json_object(request)
        properties = body.get("properties") or {}
        if not isinstance(properties, dict):
            raise ArgumentInvalid("properties must be an object")
        if_match = etag_of(request.headers.get("If-Match"))
        write(identity, desired=properties.get("desired"), tags=body.get("tags"), if_match=if_match)
        return web.json_response(self._views.of(identity))

    async def invoke_method(self, request: web.Request) -> web.Response:
        identity = _identity(request)
        self._registry.get(identity)
        try:
            call = MethodRequest.parse(await json_object(request))
        except MethodRequestInvalid as error:
            raise ArgumentInvalid(str(error)) from None
        answer = await self._invoke(identity, call)
        return web.json_response({"status": answer.status, "payload": answer.payload})

    async def _invoke(self, identity: Identity, call: MethodRequest) -> MethodAnswer:
        invoke = (
            partial(self._agent_calls.invoke, identity.device)
            if identity.module == EDGE_AGENT
            else partial(self._edge_hub.invoke_method, identity)
        )
        try:
            return await invoke(
                call.name,
                call.payload,
                response_timeout_s=call.response_timeout_s,
                connect_timeout_s=call.connect_timeout_s,
            )
        except NotConnected:
            text = "The operation failed because the requested device isn't online or has no method handler."
            raise ServiceError(errors.DEVICE_NOT_ONLINE, text, nested=True) from None
        except NoAnswer:
            text = "Timed out waiting for the response from device."
            raise ServiceError(errors.GATEWAY_TIMEOUT, text, nested=True) from None

    def _shown(self, identity: Identity) -> dict[str, Any]:
        return self._registry.get(identity).for_service(connected=self._edge_hub.connected(identity))


def _identity(request: web.Request) -> Identity:
    try:
        return Identity(request.match_info["device"], request.match_info.get("module"))
    except ValueError as error:
        raise ArgumentInvalid(str(error)) from None


def _check_names(identity: Identity, body: Mapping[str, Any]) -> None:
    named = (body.get("deviceId", identity.device), body.get("moduleId", identity.module))
    if named != (identity.device, identity.module):
        raise ArgumentInvalid(f"the body names another identity than the address, which is {str(identity)!r}")


def _errors(registry: Registry) -> Middleware:
    """Every refusal in the service's JSON, with its name in a header and in the log."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            error = ServiceError(errors.TOO_LARGE, f"the body is larger than {MAX_BODY_BYTES} bytes")
        except web.HTTPException:
            raise
        except Exception as raised:
            error = errors.service_error(raised) or _unexpected(raised)
        logger.info(
            "%s %s: %d %s: %s", request.method, request.path, error.kind.status, error.kind.name, error
        )
        headers = {"iothub-errorcode": error.kind.name}
        return web.json_response(error.to_json(registry.now()), status=error.kind.status, headers=headers)

    return middleware


def _unexpected(raised: Exception) -> ServiceError:
    logger.error("a request failed for a reason of the simulator's own", exc_info=raised)
    return ServiceError(errors.SERVER_ERROR, "the simulator failed; its log says why")


def _authorized(registry: Registry, policies: Policies) -> Middleware:
    """A token of a policy, or of a device for its own modules (ref 5.1; statements 85, 92)."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        token = request.headers.get("Authorization", "")
        policy = sas.parse(token).policy
        allowed = (
            _device_keys(registry, request) if policy is None else _policy_keys(registry, policies, policy)
        )
        sas.verify(token, allowed=allowed, now=registry.now())
        if not request.query.get("api-version"):
            raise ServiceError(errors.NO_API_VERSION, "the api-version parameter is missing")
        return await handler(request)

    return middleware


Allowed = list[tuple[str, Sequence[str]]]


def _policy_keys(registry: Registry, policies: Policies, policy: str) -> Allowed:
    return [(registry.hub_name, policies.get(policy, ()))]


def _device_keys(registry: Registry, request: web.Request) -> Allowed:
    resource = request.match_info.route.resource
    if resource is None or not resource.canonical.startswith("/devices/{device}/modules"):
        return []
    device = _identity(request).parent
    keys = registry.keys(device)
    return [] if keys is None else [(device.resource(registry.hub_name), keys)]


def _stored(store: Store) -> Middleware:
    """An answer to what changed the state leaves when the store has committed it, not before."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.method != "GET":
            stored = asyncio.get_running_loop().create_future()
            store.after_commit(lambda: None if stored.done() else stored.set_result(None))
            await stored
        return response

    return middleware


def _not_supported(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def refuse(request: web.Request) -> web.Response:
        raise Unsupported(name)

    return refuse


async def _no_such_address(request: web.Request) -> web.Response:
    raise ServiceError(
        errors.NO_SUCH_ADDRESS, f"{request.method} {request.path} is nothing that IoT Hub answers"
    )
