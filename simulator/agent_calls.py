"""Direct methods of `$edgeAgent` on their way to the agent, another process, which asks for them.

A call that the agent does not fetch finds nobody there; one that it has fetched must be answered in time.
Knows no method and no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from simulator.methods import MethodAnswer, NoAnswer, NotConnected

FETCHED_WITHIN_S: Final = 2.0  # the agent asks again as soon as it has been answered


@dataclass(frozen=True)
class AgentCall:
    """One call. `payload` is any JSON value."""

    name: str
    payload: Any = field(repr=False)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    fetched: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


class AgentCalls:
    """The calls of every device's agent."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, asyncio.Queue[AgentCall | None]] = defaultdict(asyncio.Queue)
        self._asking: defaultdict[str, int] = defaultdict(int)
        self._asked: dict[str, asyncio.Future[MethodAnswer]] = {}

    async def invoke(
        self,
        device: str,
        name: str,
        payload: Any,
        *,
        response_timeout_s: float,
        connect_timeout_s: float,
    ) -> MethodAnswer:
        """Call a method of the device's agent; raises NotConnected or NoAnswer."""
        call = AgentCall(name, payload)
        answer: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        self._asked[call.id] = answer
        self._waiting[device].put_nowait(call)
        try:
            await _fetched(call, max(connect_timeout_s, FETCHED_WITHIN_S), device)
            async with asyncio.timeout(response_timeout_s):
                return await answer
        except TimeoutError:
            raise NoAnswer(
                f"edgeAgent did not answer {name!r} in {response_timeout_s:g} s", call.id
            ) from None
        finally:
            del self._asked[call.id]
            self._drop_abandoned(device)

    async def fetch(self, device: str, wait_s: float) -> AgentCall | None:
        """The next call for a device's agent; None when there is none for so long."""
        self._asking[device] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    call = await self._next(device)
                if call is not None:
                    call.fetched.set()
                return call
        finally:
            self._asking[device] -= 1
        return None

    def answered(self, call_id: str, answer: MethodAnswer) -> bool:
        """The agent's answer; False for a call that nobody waits for any more."""
        asked = self._asked.get(call_id)
        if asked is None or asked.done():
            return False
        asked.set_result(answer)
        return True

    def release(self) -> None:
        """Let every fetch return."""
        for device, asking in self._asking.items():
            for _ in range(asking):
                self._waiting[device].put_nowait(None)

    def _drop_abandoned(self, device: str) -> None:
        waiting = self._waiting[device]
        for _ in range(waiting.qsize()):
            call = waiting.get_nowait()
            if call is None or call.id in self._asked:
                waiting.put_nowait(call)

    async def _next(self, device: str) -> AgentCall | None:
        while (call := await self._waiting[device].get()) is not None:
            if call.id in self._asked:  # its caller still waits
                break
        return call


async def _fetched(call: AgentCall, within_s: float, device: str) -> None:
    try:
        async with asyncio.timeout(within_s):
            await call.fetched.wait()
    except TimeoutError:
        raise NotConnected(f"Client {device}/$edgeAgent not found") from None
