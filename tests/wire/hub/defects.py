"""Usual defects of emulators, planted in a hub process. The conformance tests must notice each of them.

    python -m tests.wire.hub.defects NAME <the hub's own options>

runs the hub with one part replaced by a wrong one. The code is outside of the hub, so an installed hub cannot
be run with a defect by accident. tests/wire/hub/test_counter_proof.py checks that each defect has its effect.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinship.simulator import hub
from twinship.simulator.certificates import Authority
from twinship.simulator.edge_hub import edge_hub, sessions, topics
from twinship.simulator.edge_hub.client import Client
from twinship.simulator.edge_hub.topics import Subscription
from twinship.simulator.listeners.mqtt_protocol import MqttProtocol
from twinship.simulator.mqtt.packets import NOT_AUTHORIZED, Publish
from twinship.simulator.service_api import app as rest

Function = Callable[..., Any]
STORED_AFTER_S: Final = 600.0  # the hub is killed long before


@dataclass(frozen=True)
class Defect:
    """How to plant it, the statements that it breaks, and the text in pytest's output that shows why."""

    statements: tuple[int, ...]
    plant: Callable[[], None]
    output: str


def replace(owner: object, name: str, make: Callable[[Any], Any]) -> None:
    """Replace an existing attribute; raises AttributeError if there is none."""
    setattr(owner, name, make(getattr(owner, name)))


def forget_sessions_at_the_start() -> None:
    replace(sessions, "_read", lambda _: lambda documents: {})


def forget_sessions_when_they_disconnect() -> None:
    def closed(before: Function) -> Function:
        def forgetful(client: Client) -> None:
            before(client)
            client._shared.sessions.remove(client.identity)

        return forgetful

    replace(Client, "closed", closed)


def acknowledge_before_storing() -> None:
    store = Client._BY_TOPIC[topics.Telemetry]

    def acknowledge(client: Client, telemetry: topics.Telemetry, packet: Publish) -> None:
        client._acknowledge(packet)
        without_id = dataclasses.replace(packet, qos=0, packet_id=None)
        asyncio.get_running_loop().call_later(STORED_AFTER_S, store, client, telemetry, without_id)

    replace(Client, "_BY_TOPIC", lambda before: {**before, topics.Telemetry: acknowledge})


def answer_without_a_subscription() -> None:
    replace(sessions.Session, "qos", lambda before: lambda *arguments: before(*arguments) or 0)


def status(handler: str, code: int) -> Callable[[], None]:
    """Make a handler of the service's API answer with this status."""

    def plant() -> None:
        def answering(before: Function) -> Function:
            async def wrong(service: object, request: object) -> Any:
                answer = await before(service, request)
                answer.set_status(code)
                return answer

            return wrong

        replace(rest._Service, handler, answering)

    return plant


def leave_out_the_version() -> None:
    def publish(before: Function) -> Function:
        def without(session: object, meaning: Subscription, topic: str, body: bytes, **how: Any) -> Any:
            if meaning is Subscription.DESIRED:
                patch = json.loads(body)
                del patch["$version"]
                body = json.dumps(patch).encode()
            return before(session, meaning, topic, body, **how)

        return without

    replace(sessions.Session, "publish", publish)


def leave_property_bags_as_they_are() -> None:
    replace(topics, "_escaped", lambda _: lambda text: text)


def answer_5_for_not_ready() -> None:
    vars(edge_hub)["SERVER_UNAVAILABLE"] = NOT_AUTHORIZED


def speak_tls_1_3_only() -> None:
    def server_context(before: Function) -> Function:
        def newest(*names: Any) -> ssl.SSLContext:
            context: ssl.SSLContext = before(*names)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            return context

        return newest

    replace(Authority, "server_context", server_context)


def leave_nagles_algorithm_on() -> None:
    def connection_made(before: Function) -> Function:
        def made(protocol: object, transport: asyncio.BaseTransport) -> None:
            before(protocol, transport)  # asyncio switches it off
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)

        return made

    replace(MqttProtocol, "connection_made", connection_made)


DEFECTS: Final[Mapping[str, Defect]] = {
    "sessions-lost-at-restart": Defect((16, 18), forget_sessions_at_the_start, "session_present: False"),
    "sessions-lost-at-drop": Defect(
        (16, 17, 19), forget_sessions_when_they_disconnect, "session_present: False"
    ),
    "puback-before-storing": Defect((27,), acknowledge_before_storing, "TimeoutError"),
    "answers-unasked": Defect((63,), answer_without_a_subscription, "{'$version': 1} == {'first': 1"),
    "201-for-200": Defect((78,), status("put_identity", 201), "HttpOperationError"),
    "200-for-204": Defect((78,), status("delete_identity", 200), "HttpOperationError"),
    "no-version": Defect((65,), leave_out_the_version, "_queue.Empty"),
    "bags-unescaped": Defect((33,), leave_property_bags_as_they_are, "'a' == 'a=b&c'"),
    "5-for-not-ready": Defect((24,), answer_5_for_not_ready, "code: 5 != 3"),
    "tls-1.3-only": Defect((1,), speak_tls_1_3_only, "ConnectionFailedError"),
    "nagle": Defect((69,), leave_nagles_algorithm_on, "no call takes less than 5 ms"),
}


if __name__ == "__main__":
    DEFECTS[sys.argv[1]].plant()
    sys.exit(hub.main(sys.argv[2:]))
