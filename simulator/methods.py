"""Direct methods towards modules (ref 3): ask, wait for the answer, match it by its rid. Knows no HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator import topics
from simulator.identity import Identity
from simulator.sessions import Session
from simulator.topics import Subscription

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
