"""One AMQP client of the hub: which node each of its links gets, with which right (ref 5.5, 6).

Without I/O, as the connection below it: bytes and the time go in, bytes come out.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from twinship.simulator.amqp.access import Access
from twinship.simulator.amqp.connection import Connection
from twinship.simulator.amqp.event_receiver import EventReceiver, Receivers
from twinship.simulator.amqp.links import (
    AmqpError,
    Attached,
    Detached,
    Event,
    Link,
    Received,
    Settled,
)
from twinship.simulator.amqp.messages import Message, decode_message
from twinship.simulator.amqp.performatives import Composite
from twinship.simulator.amqp.requests import Answer, answer_to, put_token, read_properties
from twinship.simulator.amqp.service_links import DeviceBound, Feedback
from twinship.simulator.amqp.types import Malformed, Symbol
from twinship.simulator.amqp.wire import State
from twinship.simulator.clock import Clock
from twinship.simulator.common.log_lines import printable
from twinship.simulator.edge_hub.cloud_to_device import CloudToDevice
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.event_log import EventLog
from twinship.simulator.store import Store

logger = logging.getLogger(__name__)

ENTITY: Final = "iothub-ehub-simulator"  # the Event Hub-compatible name
RIGHT_WITHIN_S: Final = 30.0  # a connection without a valid token ends after this
MAX_REFUSALS: Final = 5  # of links and tokens, then the connection ends
MAX_RESPONSES: Final = 16  # without credit to send them
CHECK_RIGHTS_S: Final = 5.0


@dataclass
class Service:
    """What all connections share. `generation` is an identity's generation id, None if there is none."""

    hub_name: str
    policies: Mapping[str, Sequence[str]]
    clock: Clock
    store: Store
    log: EventLog
    cloud_to_device: CloudToDevice
    generation: Callable[[Identity], str | None]
    groups: Sequence[str] = ("$Default",)
    receivers: Receivers = field(default_factory=Receivers)
    feedback_taken: set[str] = field(default_factory=set)
    readers: set[Peer] = field(default_factory=set)  # those that new events or feedback can concern
    created_ms: int = 0


class Responses:
    """The receiving half of a request-response node: what waits for credit."""

    def __init__(self, connection: Connection, link: Link) -> None:
        self.waiting: deque[bytes] = deque()
        self._connection = connection
        self._link = link

    def pump(self) -> bool:
        """Send the responses that credit allows."""
        while self.waiting and self._connection.may_send(self._link):
            self._connection.send(self._link, self.waiting.popleft())
        return False

    def settled(self, context: Any, outcome: str) -> None:
        """Responses are sent settled."""


class Requests:
    """The sending half of a request-response node."""

    def __init__(self, peer: Peer, address: str, handle: Callable[[Message], Answer]) -> None:
        self._peer = peer
        self._address = address
        self._handle = handle

    def received(self, message: Received) -> None:
        """Answer a request over the client's receiver of the same node. Raises AmqpError or Malformed."""
        request = decode_message(message.payload)
        answer = answer_to(request, self._handle).encode()
        self._peer.respond(self._address, request.properties.reply_to, answer)
        self._peer.accept(message)


class _Route(NamedTuple):
    path: re.Pattern[str]
    sends: bool | None  # whether the node sends; None: both halves
    open: Callable[[Peer, Link, re.Match[str]], Any]


class Peer:
    """One connection. `wake` is called when there is something to send outside receive()."""

    def __init__(self, service: Service, name: str, wake: Callable[[], None]) -> None:
        now = service.clock.mono()
        self.name = name
        self.access = Access(service.hub_name, service.policies, service.clock.wall)
        self.connection = Connection(service.hub_name, self.access.sasl, now)
        self._service = service
        self.wake = wake
        self._nodes: dict[Link, Any] = {}
        self._stranger_until = now + RIGHT_WITHIN_S
        self._refusals = 0

    @property
    def closed(self) -> bool:
        """Whether the connection has ended; take() may still have bytes."""
        return self.connection.state is State.CLOSED

    def receive(self, data: bytes) -> None:
        """Handle bytes of the client."""
        for event in self.connection.receive(data, self._service.clock.mono()):
            self._handle(event)

    def take(self) -> bytes:
        """The bytes to send."""
        return self.connection.take(self._service.clock.mono())

    def pump(self) -> bool:
        """Let every node that sends send a little; True: there is more at once."""
        more = [node.pump() for node in list(self._nodes.values()) if hasattr(node, "pump")]
        return any(more)

    def tick(self) -> float:
        """Do what is due; returns in how many seconds to call again."""
        now = self._service.clock.mono()
        next_at, events = self.connection.tick(now)
        if self.access.any:
            self._stranger_until = now + RIGHT_WITHIN_S  # to put a new token after the last has expired
        elif not self.closed:
            if now >= self._stranger_until:
                self.connection.close(
                    AmqpError("amqp:unauthorized-access", f"no valid token within {RIGHT_WITHIN_S:g} s")
                )
                events += self.connection.taken_events()
            next_at = min(next_at, self._stranger_until)
        self._check_rights()
        for event in events:
            self._handle(event)
        return max(0.05, min(next_at - now, CHECK_RIGHTS_S))

    def lost(self) -> None:
        """The transport has ended."""
        self.connection.lost()
        for event in self.connection.taken_events():
            self._handle(event)

    def accept(self, message: Received) -> None:
        """Settle a request as accepted."""
        self.connection.settle(message, Composite("accepted", {}))

    def respond(self, address: str, reply_to: str | None, answer: bytes) -> None:
        """Queue a response for the client's receiver. Raises AmqpError if it has none, or too many wait."""
        links = [
            (link, node)
            for link, node in self._nodes.items()
            if isinstance(node, Responses) and _path(link.address) == address
        ]
        named = [node for link, node in links if _target(link) == reply_to]
        node = named[-1] if named else links[-1][1] if links else None
        if node is None or len(node.waiting) >= MAX_RESPONSES:
            raise AmqpError(
                "amqp:precondition-failed", "no receiver of this node has credit for the response"
            )
        node.waiting.append(answer)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Attached):
            self._attach(event.link)
            return
        node = self._nodes.get(event.link)
        if node is None:
            return
        try:
            if isinstance(event, Received):
                node.received(event)
            elif isinstance(event, Settled):
                node.settled(event.context, event.outcome)
            elif isinstance(event, Detached):
                self._forget(event.link)
        except Malformed as error:
            self._end(event.link, AmqpError("amqp:decode-error", str(error)))
        except AmqpError as error:
            self._end(event.link, error)

    def _attach(self, link: Link) -> None:
        try:
            node = self._nodes[link] = self._open(link)
        except (AmqpError, Malformed) as error:
            refused = error if isinstance(error, AmqpError) else AmqpError("amqp:invalid-field", str(error))
            logger.warning("AMQP %s: link refused: %s", self.name, printable(str(refused)))
            self.connection.refuse(link, refused)
            self._refused()
        else:
            self.connection.accept(link)
            if isinstance(node, EventReceiver | Feedback):
                self._service.readers.add(self)

    def _open(self, link: Link) -> Any:
        path = _path(link.address)
        for route in _ROUTES:
            if (match := route.path.fullmatch(path)) is not None:
                break
        else:
            raise AmqpError("amqp:not-found", f"there is no node {printable(path[:200])!r}")
        if route.sends not in (None, link.sends):
            raise AmqpError("amqp:not-allowed", "this node is for the other direction")
        allowed = self.access.any if path == _MANAGEMENT else path == _CBS or self.access.allows(path)
        if not allowed:
            raise AmqpError("amqp:unauthorized-access", f"no valid token for {printable(path[:200])!r}")
        return route.open(self, link, match)

    def _check_rights(self) -> None:
        for link in list(self._nodes):
            path = _path(link.address)
            if path not in (_CBS, _MANAGEMENT) and not self.access.allows(path):
                self._end(link, AmqpError("amqp:unauthorized-access", "the token has expired"))

    def _end(self, link: Link, error: AmqpError) -> None:
        logger.info("AMQP %s: link ended: %s: %s", self.name, error.condition, printable(str(error)))
        self._forget(link)
        self.connection.detach(link, error)

    def _forget(self, link: Link) -> None:
        node = self._nodes.pop(link, None)
        if isinstance(node, EventReceiver | Feedback):
            node.closed()
            if not any(isinstance(each, EventReceiver | Feedback) for each in self._nodes.values()):
                self._service.readers.discard(self)

    def _refused(self) -> None:
        self._refusals += 1
        if self._refusals >= MAX_REFUSALS:
            self.connection.close(AmqpError("amqp:unauthorized-access", "too many refused links and tokens"))

    # Nodes

    def _open_cbs(self, link: Link, _match: re.Match[str]) -> Any:
        return self._half(link, _CBS, self._put_token)

    def _put_token(self, request: Message) -> Answer:
        answer = put_token(self.access, request, peer=self.name)
        if answer[0] == 401:
            self._refused()
        return answer

    def _open_management(self, link: Link, _match: re.Match[str]) -> Any:
        service = self._service
        return self._half(link, _MANAGEMENT, partial(read_properties, service.log, service.created_ms))

    def _half(self, link: Link, address: str, handle: Callable[[Message], Answer]) -> Any:
        return Responses(self.connection, link) if link.sends else Requests(self, address, handle)

    def _open_receiver(self, link: Link, match: re.Match[str]) -> Any:
        service, group, number = self._service, match["group"], int(match["partition"])
        if group.casefold() not in map(str.casefold, service.groups):
            raise AmqpError("amqp:not-found", f"there is no consumer group {printable(group[:50])!r}")
        if number >= service.log.partitions:
            raise AmqpError("amqp:not-found", f"there are the partitions 0 to {service.log.partitions - 1}")
        return EventReceiver(
            self.connection,
            link,
            service.log,
            service.receivers,
            group=group,
            partition=number,
            generation=service.generation,
            end=partial(self._taken_over, link),
        )

    def _taken_over(self, link: Link, error: AmqpError) -> None:
        self._end(link, error)
        self.wake()

    def _open_device_bound(self, link: Link, _match: re.Match[str]) -> Any:
        def after_commit(callback: Callable[[], None]) -> None:
            self._service.store.after_commit(callback)
            self._service.store.after_commit(self.wake)

        return DeviceBound(self.connection, self._service.cloud_to_device, after_commit)

    def _open_feedback(self, link: Link, _match: re.Match[str]) -> Any:
        service = self._service
        return Feedback(self.connection, link, service.cloud_to_device, service.feedback_taken)

    def _redirect(self, link: Link, _match: re.Match[str]) -> Any:
        """Where the events are read (ref 6): IoT Hub sends its clients to the Event Hub behind it."""
        name = self._service.hub_name
        where = {"hostname": name, "network-host": name, "address": f"sb://{name}/{ENTITY}"}
        raise AmqpError(
            "amqp:link:redirect", "read at the Event Hub", {Symbol(key): each for key, each in where.items()}
        )


def _refuse(what: str) -> Callable[[Peer, Link, re.Match[str]], Any]:
    def refuse(peer: Peer, link: Link, match: re.Match[str]) -> Any:
        raise AmqpError("amqp:not-implemented", f"{what} not in this simulator")

    return refuse


def _route(path: str, sends: bool | None, opened: Callable[[Peer, Link, re.Match[str]], Any]) -> _Route:
    return _Route(re.compile(path, re.IGNORECASE), sends, opened)


_CBS, _MANAGEMENT = "$cbs", "$management"
_EVENTS: Final = f"(?:{ENTITY}|messages/events)"
_ROUTES: Final = (
    _route(r"\$cbs", None, Peer._open_cbs),
    _route(r"\$management", None, Peer._open_management),
    _route(
        rf"{_EVENTS}/consumergroups/(?P<group>[^/]+)/partitions/(?P<partition>[0-9]{{1,3}})",
        True,
        Peer._open_receiver,
    ),
    _route(r"messages/events(?:/\$management)?", None, Peer._redirect),
    _route(_EVENTS + "(?:/.*)?", False, _refuse("sending events is")),
    _route(r"messages/devicebound", False, Peer._open_device_bound),
    _route(r"messages/servicebound/feedback", True, Peer._open_feedback),
    _route(r"messages/servicebound/filenotifications", None, _refuse("notifications of file uploads are")),
    _route(r"devices/.*", None, _refuse("device and module clients over AMQP (use MQTT) are")),
)


def _path(address: str | None) -> str:
    """The path of an address, which may have a scheme and a host."""
    try:
        path = urlsplit(address or "").path if "://" in (address or "") else address or ""
    except ValueError:
        return ""
    return unquote(path).strip("/")


def _target(link: Link) -> str | None:
    target = link.attach.target
    return target.address if isinstance(target, Composite) else None
