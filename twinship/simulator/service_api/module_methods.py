"""edgeHub's HTTPS API on an edge device (ref 3): a module calls a direct method of another module.

It authenticates the caller, finds the target and maps each result to an HTTP status.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from aiohttp import web

from twinship.simulator.edge_hub.authentication import check_token
from twinship.simulator.edge_hub.methods import (
    MethodAnswer,
    MethodRequest,
    MethodRequestInvalid,
    NoAnswer,
    NotConnected,
)
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.sas import SasRefused
from twinship.simulator.service_api.app import EdgeHubMethods
from twinship.simulator.service_api.requests import json_object

logger = logging.getLogger(__name__)

CALLER_HEADER: Final = "x-ms-edge-moduleId"
MAX_BODY_BYTES: Final = 1024 * 1024  # a payload of 128 KiB with any escaping


class CallerRefused(Exception):
    """The caller may not call methods here: 401."""


class CallerUnnamed(Exception):
    """The header does not name the caller: 400."""


_STATUS: Final[Mapping[type[Exception], int]] = {
    CallerUnnamed: 400,
    MethodRequestInvalid: 400,
    ArgumentInvalid: 400,
    CallerRefused: 401,
    SasRefused: 401,
    NotConnected: 404,
    NoAnswer: 504,
}


def edge_https(
    registry: Registry, edge_hub: EdgeHubMethods, *, gateway: str, edges: Mapping[str, str]
) -> web.Application:
    """The application of the edge device `gateway`; `edges` maps every edge device to its address."""
    calls = _Calls(registry, edge_hub, gateway, edges)
    application = web.Application(client_max_size=MAX_BODY_BYTES)
    for path in ("/twins/{device}/methods", "/twins/{device}/modules/{module}/methods"):
        application.router.add_post(path, calls.invoke)
    application.router.add_route("*", "/{rest:.*}", _no_such_address)
    return application


@dataclass(frozen=True)
class _Calls:
    registry: Registry
    edge_hub: EdgeHubMethods
    gateway: str
    edges: Mapping[str, str]

    async def invoke(self, request: web.Request) -> web.Response:
        """200 with the status of the module in the body, or an error with one sentence."""
        try:
            caller = self._caller(request)
            call = MethodRequest.parse(await json_object(request))
            answer = await self._invoke(_target(request), call)
        except web.HTTPRequestEntityTooLarge:
            return _error(400, f"the body is larger than {MAX_BODY_BYTES} bytes")
        except tuple(_STATUS) as error:
            status = _STATUS[type(error)]
            logger.info("%s %s: %d: %s", request.method, request.path, status, error)
            return _error(status, str(error))
        logger.debug("%s called method %r at %s", caller, call.name, request.path)
        return web.json_response({"status": answer.status, "payload": answer.payload})

    def _caller(self, request: web.Request) -> Identity:
        """The calling module; its token is its own or that of its device."""
        device, slash, module = request.headers.get(CALLER_HEADER, "").partition("/")
        if not (device and slash and module):
            raise CallerUnnamed(f"Invalid header value for {CALLER_HEADER}")
        if device != self.gateway:
            raise CallerRefused("Only modules on the same device can invoke DirectMethods")
        try:
            caller = Identity(device, module)
        except ValueError as error:
            raise CallerRefused(str(error)) from None
        check_token(
            caller,
            request.headers.get("Authorization", ""),
            keys=self.registry.keys,
            hosts=(self.registry.hub_name, self.edges[self.gateway]),
            now=self.registry.now(),
        )
        return caller

    async def _invoke(self, target: Identity, call: MethodRequest) -> MethodAnswer:
        if target.device in self.edges and target.device != self.gateway:
            raise _not_found(str(target))  # another edge device: its clients do not connect here
        try:
            return await self.edge_hub.invoke_method(target, call)
        except NoAnswer as error:
            raise NoAnswer(
                f"Timed out waiting for device to respond to method request {error.request_id}"
            ) from None


def _target(request: web.Request) -> Identity:
    """From the raw path, because edgeHub decodes '+' in it as a space."""
    ids = [unquote_plus(part) for part in request.raw_path.partition("?")[0].split("/")[2::2]]
    try:
        return Identity(*ids)
    except ValueError:
        raise _not_found("/".join(ids)) from None


def _not_found(client: str) -> NotConnected:
    return NotConnected(f"Client {client} not found")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)


async def _no_such_address(request: web.Request) -> web.Response:
    logger.info("%s %s: 404, this address is not in this simulator", request.method, request.path)
    return _error(404, f"{request.method} {request.path}: this address is not in this simulator")
