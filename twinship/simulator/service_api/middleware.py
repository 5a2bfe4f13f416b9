"""The middleware of the service API: error responses, authorization, and responses after the commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from twinship.simulator import sas
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.service_api import errors
from twinship.simulator.service_api.errors import ServiceError
from twinship.simulator.service_api.requests import path_identity
from twinship.simulator.store import StorageFailed, Store

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 * 1024 * 1024  # a bulk call with a hundred entries; other bodies are much smaller

Policies = Mapping[str, Sequence[str]]  # name of a shared access policy -> its base64 keys
# addresses for a device's own token; files and messages are refused by name
_OF_DEVICES = tuple(f"/devices/{{device}}/{name}" for name in ("modules", "files", "messages"))
Allowed = list[tuple[str, Sequence[str]]]


def error_responses(registry: Registry) -> Middleware:
    """Turn every error into the service's JSON, with its name in a header and in the log."""

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
    if isinstance(raised, StorageFailed):  # the hub stops, and has logged the reason
        return ServiceError(errors.SERVER_ERROR, "storage failed; the hub stops")
    logger.error("a request failed because of an error in the simulator", exc_info=raised)
    return ServiceError(errors.SERVER_ERROR, "the simulator failed; its log says why")


def authorization(registry: Registry, policies: Policies) -> Middleware:
    """Require a token of a policy, or of a device for addresses of its own (ref 5.1; statements 85, 92)."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        token = request.headers.get("Authorization", "")
        policy = sas.parse(token).policy
        allowed = (
            _device_keys(registry, request)
            if policy is None
            else [(registry.hub_name, policies.get(policy, ()))]
        )
        sas.verify(token, allowed=allowed, now=registry.now())
        if not request.query.get("api-version"):
            raise ServiceError(errors.NO_API_VERSION, "the api-version parameter is missing")
        return await handler(request)

    return middleware


def _device_keys(registry: Registry, request: web.Request) -> Allowed:
    resource = request.match_info.route.resource
    if resource is None or not resource.canonical.startswith(_OF_DEVICES):
        return []
    device = path_identity(request).parent
    keys = registry.keys(device)
    return [] if keys is None else [(device.resource(registry.hub_name), keys)]


def respond_after_commit(store: Store) -> Middleware:
    """Delay the response to a change until the store has committed it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.method != "GET":
            stored = asyncio.get_running_loop().create_future()
            store.after_commit(lambda: None if stored.done() else stored.set_result(None))
            await stored
        return response

    return middleware
