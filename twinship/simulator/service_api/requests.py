"""Reads the path, the body and the query of a request to the service API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid

BODY_WITHIN_S = 30.0

Route = tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]  # method, path, handler


def path_identity(request: web.Request) -> Identity:
    """The device or module in the path; raises ArgumentInvalid."""
    try:
        return Identity(request.match_info["device"], request.match_info.get("module"))
    except ValueError as error:
        raise ArgumentInvalid(str(error)) from None


def if_match(request: web.Request) -> str | None:
    """The etag in the header If-Match."""
    return etag_of(request.headers.get("If-Match"))


def etag_of(text: object) -> str | None:
    """An etag without quotes; the SDK sends it with and without them (ref 5.1)."""
    return text.strip().removeprefix('"').removesuffix('"') if isinstance(text, str) else None


def twin_sections(body: Mapping[str, Any]) -> dict[str, Any]:
    """The `desired` and `tags` that a body has for a twin, null as None; raises ArgumentInvalid."""
    properties = body.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise ArgumentInvalid("properties must be an object")
    return {name: found[name] for name, found in (("desired", properties), ("tags", body)) if name in found}


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body as an object; raises ArgumentInvalid."""
    body = await _parsed(request)
    if not isinstance(body, dict):
        raise ArgumentInvalid("the body must be an object")
    return body


async def json_array(request: web.Request) -> list[Any]:
    """The body as an array; raises ArgumentInvalid."""
    body = await _parsed(request)
    if not isinstance(body, list):
        raise ArgumentInvalid("the body must be an array")
    return body


def whole_number(request: web.Request, name: str, *, default: int) -> int:
    """A query parameter that is a whole number from 0; raises ArgumentInvalid."""
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ArgumentInvalid(f"{name} must be a whole number")
    return int(text)


async def _parsed(request: web.Request) -> Any:
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await request.read()
    except TimeoutError:
        raise ArgumentInvalid(f"the body did not arrive within {BODY_WITHIN_S:g} s") from None
    except (ConnectionError, web.RequestPayloadError):
        raise ArgumentInvalid("the connection ended inside the body") from None
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArgumentInvalid(f"the body is not JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")
