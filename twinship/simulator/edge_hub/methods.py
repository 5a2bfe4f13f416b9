"""Direct methods of modules and of `$edgeHub` itself (ref 3): limits of a call, request, matching answer."""

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

logger = logging.getLogger(__name__)

MAX_NAME_CHARACTERS: Final = 100
MAX_PAYLOAD_BYTES: Final = 128 * 1024
MAX_PAYLOAD_DEPTH: Final = 100  # every process on its way must be able to parse it
MAX_TIMEOUT_S: Final = 300
REFRESH: Final = "RefreshDeviceScopeIdentityCache"


class MethodRequestInvalid(ValueError):
    """The call breaks a limit: status 400."""


class NotConnected(Exception):
    """The target was not connected, or not subscribed to methods, within the connect time-out: status 404."""


class NoAnswer(Exception):
    """The target received request `request_id` and did not answer in time: status 504."""

    def __init__(self, text: str, request_id: str = "") -> None:
        super().__init__(text)
        self.request_id = request_id


@dataclass(frozen=True)
class MethodRequest:
    """A checked call. `payload` is any JSON value, None when the caller sent none."""

    name: str
    payload: Any = field(repr=False)
    response_timeout_s: float
    connect_timeout_s: float

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> MethodRequest:
        """Read the JSON body of a call; raises MethodRequestInvalid."""
        name = body.get("methodName")
        # the name is part of an MQTT topic, which takes no control character and no lone surrogate
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
            raise MethodRequestInvalid(
                f"methodName must be text of 1 to {MAX_NAME_CHARACTERS} printable characters"
            )
        payload = body.get("payload")
        if _is_deeper(payload, MAX_PAYLOAD_DEPTH):
            raise MethodRequestInvalid(f"payload is deeper than {MAX_PAYLOAD_DEPTH} levels")
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode(errors="surrogatepass"))  # JSON can contain a lone surrogate
        if size > MAX_PAYLOAD_BYTES:
            raise MethodRequestInvalid(f"payload is {size} bytes, at most {MAX_PAYLOAD_BYTES}")
        return cls(
            name=name,
            payload=payload,
            response_timeout_s=_seconds(body, "responseTimeoutInSeconds", least=5, default=30),
            connect_timeout_s=_seconds(body, "connectTimeoutInSeconds", least=0, default=0),
        )

    def unanswered(self, target: str) -> str:
        """The text of NoAnswer."""
        return f"{target} did not answer method {self.name!r} in {self.response_timeout_s:g} s"


@dataclass(frozen=True)
class MethodAnswer:
    """The result of a module's handler; `payload` is any JSON value."""

    status: int
    payload: Any


class Methods:
    """Calls to modules: those that wait for an answer, and those that wait for their target to subscribe.

    `connect_grace_s`: how long after the target's subscription a waiting call is sent.
    """

    def __init__(self, session: Callable[[Identity], Session | None], connect_grace_s: float) -> None:
        self._session = session
        self._connect_grace_s = connect_grace_s
        self._pending: dict[str, tuple[Identity, asyncio.Future[MethodAnswer]]] = {}  # by request id
        self._arrivals: dict[Identity, set[asyncio.Future[None]]] = {}

    async def invoke(self, target: Identity, call: MethodRequest) -> MethodAnswer:
        """Call a method; raises NotConnected or NoAnswer. Calls to one target may overlap."""
        await self._wait_for_subscription(target, call.connect_timeout_s)
        rid = str(uuid.uuid4())
        answer: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        self._pending[rid] = (target, answer)
        try:
            self._send(target, call, rid)
            async with asyncio.timeout(call.response_timeout_s):
                return await answer
        except TimeoutError:
            raise NoAnswer(call.unanswered(str(target)), rid) from None
        finally:
            del self._pending[rid]

    def answered(self, sender: Identity, response: topics.MethodResponse, body: bytes) -> None:
        """Handle a module's answer; an answer to no call, or from another sender, is logged and dropped."""
        target, answer = self._pending.get(response.rid, (None, None))
        if answer is None or target != sender:
            logger.warning("%s: dropped an answer to a method call that is not pending", sender)
        elif not answer.done():
            answer.set_result(MethodAnswer(response.status, _payload(sender, body)))

    def subscribed(self, identity: Identity) -> None:
        """Continue the calls that waited for this module to subscribe to methods."""
        for arrival in self._arrivals.pop(identity, ()):
            if not arrival.done():
                arrival.set_result(None)

    async def _wait_for_subscription(self, target: Identity, connect_timeout_s: float) -> None:
        session = self._session(target)
        if session is not None and session.ready_for(Subscription.METHODS):
            return
        arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals.setdefault(target, set()).add(arrival)
        logger.info("%s: a method call waits up to %g s for its subscription", target, connect_timeout_s)
        try:
            async with asyncio.timeout(connect_timeout_s):
                await arrival
        except TimeoutError:
            self._arrivals.get(target, set()).discard(arrival)
            raise _not_connected(target) from None
        await asyncio.sleep(self._connect_grace_s)

    def _send(self, target: Identity, call: MethodRequest, rid: str) -> None:
        session = self._session(target)
        body = json.dumps(call.payload, separators=(",", ":")).encode()
        topic = topics.method_request(call.name, rid)
        if session is None or session.publish(Subscription.METHODS, topic, body) is None:
            raise _not_connected(target)


def invoke_edge_hub(call: MethodRequest) -> MethodAnswer:
    """Call a method of `$edgeHub`. Raises ArgumentInvalid for a payload, NotConnected for an unknown method.

    The simulated edgeHub reads the registry itself, so it has no cache to refresh.
    """
    if call.name.casefold() != REFRESH.casefold():
        raise NotConnected(f"Method {call.name} is not one of $edgeHub's, which has {REFRESH}")
    devices = call.payload.get("deviceIds") if isinstance(call.payload, dict) else None
    if not isinstance(devices, list) or not all(isinstance(device, str) for device in devices):
        raise ArgumentInvalid(f"{REFRESH} takes an object with 'deviceIds', an array of text")
    return MethodAnswer(200, None)


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether objects and arrays nest deeper than this. It does not recurse."""
    here = [value]
    for _ in range(levels + 1):
        here = [each for each in here if isinstance(each, dict | list)]
        if not here:
            return False
        here = [inner for each in here for inner in (each.values() if isinstance(each, dict) else each)]
    return True


def _seconds(body: Mapping[str, Any], name: str, *, least: int, default: int) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_TIMEOUT_S:
        raise MethodRequestInvalid(f"{name} must be {least} to {MAX_TIMEOUT_S}")
    return value


def _not_connected(target: Identity) -> NotConnected:
    return NotConnected(f"Client {target} not found")  # edgeHub's text, also for a missing subscription


def _payload(sender: Identity, body: bytes) -> Any:
    if not body:
        return None
    try:
        value = json.loads(body)
        if not _is_deeper(value, MAX_PAYLOAD_DEPTH):
            return value
        logger.warning("%s: the answer to a method call nests too deep; passed on as text", sender)
        return body.decode(errors="replace")
    except (ValueError, RecursionError):
        logger.warning("%s: the answer to a method call is not JSON; passed on as text", sender)
        return body.decode(errors="replace")
