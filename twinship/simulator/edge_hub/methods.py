"""Direct methods towards modules (ref 3): ask, wait for the answer, match it by its rid. Knows no HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from twinship.simulator.edge_hub import topics
from twinship.simulator.edge_hub.sessions import Session
from twinship.simulator.edge_hub.topics import Subscription
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid

MAX_NAME_CHARACTERS = 100
MAX_PAYLOAD_BYTES = 128 * 1024


class MethodRequestInvalid(ValueError):
    """The call breaks a limit: status 400."""


@dataclass(frozen=True)
class MethodRequest:
    """Name, payload (any JSON value; None when left out), and how long to wait for answer and connection."""

    name: str
    payload: Any = field(repr=False)
    response_timeout_s: float
    connect_timeout_s: float

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> MethodRequest:
        """Read the JSON body of the call; raises MethodRequestInvalid."""
        name = body.get("methodName")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
            raise MethodRequestInvalid(f"methodName must be text of 1 to {MAX_NAME_CHARACTERS} characters")
        payload = body.get("payload")
        size = len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())
        if size > MAX_PAYLOAD_BYTES:
            raise MethodRequestInvalid(f"payload is {size} bytes, at most {MAX_PAYLOAD_BYTES}")
        return cls(
            name=name,
            payload=payload,
            response_timeout_s=_seconds(body, "responseTimeoutInSeconds", least=5, default=30),
            connect_timeout_s=_seconds(body, "connectTimeoutInSeconds", least=0, default=0),
        )


def _seconds(body: Mapping[str, Any], name: str, *, least: int, default: int) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 300:
        raise MethodRequestInvalid(f"{name} must be {least} to 300")
    return value


logger = logging.getLogger(__name__)


class NotConnected(Exception):
    """The target is not there, or listens to no methods: 404, after the time it was given to connect."""


class NoAnswer(Exception):
    """The target has the request, named by `request_id`, and did not answer in time: 504."""

    def __init__(self, text: str, request_id: str = "") -> None:
        super().__init__(text)
        self.request_id = request_id


@dataclass(frozen=True)
class MethodAnswer:
    """What a module's handler returned; `payload` is any JSON value."""

    status: int
    payload: Any


class Methods:
    """Calls that wait for an answer, and calls that wait for their target."""

    def __init__(self, session: Callable[[Identity], Session | None], connect_grace_s: float) -> None:
        self._session = session
        self._connect_grace_s = connect_grace_s
        self._asked: dict[str, tuple[Identity, asyncio.Future[MethodAnswer]]] = {}
        self._absent: dict[Identity, set[asyncio.Future[None]]] = {}

    async def invoke(
        self,
        target: Identity,
        name: str,
        payload: Any,
        *,
        response_timeout_s: float,
        connect_timeout_s: float,
    ) -> MethodAnswer:
        """Call a method; raises NotConnected or NoAnswer. Several calls to one target may be under way."""
        await self._present(target, connect_timeout_s)
        rid = str(uuid.uuid4())
        answer: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        self._asked[rid] = (target, answer)
        try:
            self._ask(target, name, rid, payload)
            async with asyncio.timeout(response_timeout_s):
                return await answer
        except TimeoutError:
            raise NoAnswer(
                f"{target} did not answer method {name!r} in {response_timeout_s:g} s", rid
            ) from None
        finally:
            del self._asked[rid]

    def answered(self, sender: Identity, response: topics.MethodResponse, body: bytes) -> None:
        """A module's answer; one that nobody waits for, or from somebody else, is dropped and logged."""
        target, answer = self._asked.get(response.rid, (None, None))
        if answer is None or target != sender:
            logger.warning("%s: an answer to a method call that nobody waits for, dropped", sender)
        elif not answer.done():
            answer.set_result(MethodAnswer(response.status, _payload(sender, body)))

    def subscribed(self, identity: Identity) -> None:
        """A module now listens to methods: calls that waited for it go on."""
        for waiting in self._absent.pop(identity, ()):
            if not waiting.done():
                waiting.set_result(None)

    async def _present(self, target: Identity, connect_timeout_s: float) -> None:
        if self._is_present(target):
            return
        arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._absent.setdefault(target, set()).add(arrival)
        logger.info("%s: a method call waits %g s for it to listen", target, connect_timeout_s)
        try:
            async with asyncio.timeout(connect_timeout_s):
                await arrival
        except TimeoutError:
            self._absent.get(target, set()).discard(arrival)
            raise _not_connected(target) from None
        await asyncio.sleep(self._connect_grace_s)

    def _is_present(self, target: Identity) -> bool:
        session = self._session(target)
        return session is not None and session.ready_for(Subscription.METHODS)

    def _ask(self, target: Identity, name: str, rid: str, payload: Any) -> None:
        session = self._session(target)
        body = json.dumps(payload, separators=(",", ":")).encode()
        topic = topics.method_request(name, rid)
        if session is None or session.publish(Subscription.METHODS, topic, body) is None:
            raise _not_connected(target)


def _not_connected(target: Identity) -> NotConnected:
    return NotConnected(f"Client {target} not found")  # or without a subscription to methods: edgeHub's words


def _payload(sender: Identity, body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        logger.warning("%s: the answer to a method call is not JSON; passed on as text", sender)
        return body.decode(errors="replace")


REFRESH: Final = "RefreshDeviceScopeIdentityCache"


def invoke(name: str, payload: Any) -> MethodAnswer:
    """Answer at once. Raises ArgumentInvalid for a payload, NotConnected for a method that it does not know.

    The simulated edgeHub reads the registry itself, so there is no cache that could be stale.
    """
    if name.casefold() != REFRESH.casefold():
        raise NotConnected(f"Method {name} is not one of $edgeHub's, which has {REFRESH}")
    devices = payload.get("deviceIds") if isinstance(payload, dict) else None
    if not isinstance(devices, list) or not all(isinstance(device, str) for device in devices):
        raise ArgumentInvalid(f"{REFRESH} takes an object with 'deviceIds', an array of text")
    return MethodAnswer(200, None)
