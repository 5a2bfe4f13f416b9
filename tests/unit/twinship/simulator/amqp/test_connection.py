"""One AMQP connection without I/O: handshake, sessions, links, windows, limits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.twinship.simulator.amqp.client import Client
from twinship.simulator.amqp import connection as limits
from twinship.simulator.amqp.connection import CREDIT, MAX_LINKS, MAX_MESSAGE_BYTES, Connection
from twinship.simulator.amqp.frames import AMQP_HEADER, EMPTY_FRAME, SASL_HEADER, encode_frame
from twinship.simulator.amqp.links import (
    WINDOW,
    AmqpError,
    Attached,
    Detached,
    Event,
    Flowed,
    Link,
    Received,
    Settled,
)
from twinship.simulator.amqp.performatives import make
from twinship.simulator.amqp.wire import IDLE_S, MAX_SESSIONS, OPEN_WITHIN_S, State


class Server:
    """A connection whose links are accepted, and the client beside it."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.now = 0.0
        self.connection = Connection("hub", lambda mechanism, response: response != b"wrong", 0.0)
        self.events: list[Event] = []
        self.accepts = accepts
        self.client = Client(self.exchange)

    def exchange(self, data: bytes) -> bytes:
        """Hand bytes to the server; returns its bytes."""
        for event in self.connection.receive(data, self.now):
            self.events.append(event)
            if isinstance(event, Attached) and self.accepts:
                self.connection.accept(event.link)
        return self.connection.take(self.now)

    def link(self) -> Link:
        """The newest link."""
        return [event.link for event in self.events if isinstance(event, Attached)][-1]

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def server() -> Server:
    opened = Server()
    opened.client.open()
    return opened


def test_the_handshake_is_sasl_then_open(server: Server) -> None:
    """The server offers three mechanisms and answers open and begin."""
    kinds = [frame.body.kind for frame in server.client.frames if frame.body is not None]
    assert kinds == ["sasl_mechanisms", "sasl_outcome", "open", "begin"]
    (offered,) = server.client.taken("sasl_mechanisms")
    assert offered.sasl_server_mechanisms == ["MSSBCBS", "PLAIN", "ANONYMOUS"]


@pytest.mark.parametrize("header", [b"AMQP\x01\x01\x00\x00", b"AMQP\x02\x01\x00\x00", b"GET / HT"])
def test_another_header_is_answered_with_the_right_one(header: bytes) -> None:
    """With another protocol: the header that is supported, then the end."""
    server = Server()
    assert server.exchange(header) == SASL_HEADER
    assert server.connection.state is State.CLOSED


def test_a_connection_without_sasl_opens() -> None:
    """As Node's service SDK begins; it has no right before it puts a token."""
    server = Server()
    assert server.exchange(AMQP_HEADER) == AMQP_HEADER
    server.client.send("open", container_id="client")
    assert server.connection.state is State.OPEN


def test_a_wrong_secret_ends_the_connection() -> None:
    """The outcome is code 1, and nothing more is read."""
    server = Server()
    server.client.write(SASL_HEADER)
    server.client.write(encode_frame(make("sasl_init", mechanism="PLAIN", initial_response=b"wrong"), kind=1))
    assert [outcome.code for outcome in server.client.taken("sasl_outcome")] == [1]
    assert server.connection.state is State.CLOSED
    assert server.exchange(AMQP_HEADER) == b""


def test_a_half_open_connection_ends() -> None:
    """Without an open within the time, also if bytes arrive again and again."""
    server = Server()
    server.exchange(SASL_HEADER)
    server.now = OPEN_WITHIN_S - 1
    server.exchange(b"\x00")
    assert server.connection.tick(server.now)[0] == OPEN_WITHIN_S
    server.connection.tick(OPEN_WITHIN_S)
    assert server.connection.state is State.CLOSED


def test_a_silent_client_ends_and_its_links_with_it(server: Server) -> None:
    """After the announced idle time-out."""
    server.client.attach(0, "node", receives=True)
    assert server.connection.tick(IDLE_S - 1) == (IDLE_S, [])
    _, events = server.connection.tick(IDLE_S)
    assert server.connection.state is State.CLOSED
    assert events == [Detached(server.link())]


def test_the_server_sends_empty_frames_within_the_clients_time_out() -> None:
    """At half of the idle time-out that the client announced."""
    server = Server()
    server.client.open(idle_time_out=10_000)
    due, _ = server.connection.tick(0.0)
    assert due == 5.0
    server.connection.tick(5.0)
    assert server.connection.take(5.0) == EMPTY_FRAME


@pytest.mark.parametrize(
    ("kind", "fields", "condition"),
    [
        ("open", {"container_id": "again"}, "amqp:not-allowed"),
        ("begin", {"next_outgoing_id": 0, "incoming_window": 1, "outgoing_window": 1}, "amqp:not-allowed"),
        ("attach", {"name": "x", "handle": MAX_LINKS, "role": True}, "amqp:not-allowed"),
        ("attach", {"name": "x", "role": True}, "amqp:decode-error"),
        ("detach", {"handle": 9}, "amqp:session:unattached-handle"),
        ("transfer", {"handle": 9, "delivery_id": 0}, "amqp:session:unattached-handle"),
        ("accepted", {}, "amqp:not-allowed"),
        ("sasl_init", {"mechanism": "PLAIN"}, "amqp:not-allowed"),
    ],
)
def test_a_violation_closes_the_connection_with_its_name(
    server: Server, kind: str, fields: dict[str, Any], condition: str
) -> None:
    """Frames at the wrong time, unknown handles, missing fields, too many links."""
    server.client.send(kind, **fields)
    assert server.client.error("close") == condition
    assert server.connection.state is State.CLOSED


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00\x00\x07\x02\x00\x00\x00",
        b"\x7f\xff\xff\xff\x02\x00\x00\x00",
        b"\x00\x00\x00\x08\x03\x00\x00\x00",
        b"\x00\x00\x00\x09\x02\x07\x00\x00\x40",
        b"\x00\x00\x00\x09\x02\x00\x00\x00\x40",
    ],
)
def test_a_frame_that_lies_about_itself_closes_the_connection(server: Server, frame: bytes) -> None:
    """Sizes, offsets and types that cannot be."""
    server.client.write(frame)
    assert server.client.error("close") == "amqp:decode-error"


def test_the_number_of_sessions_is_bounded(server: Server) -> None:
    """A channel above the announced maximum closes the connection; those below do not."""
    for channel in range(1, MAX_SESSIONS):
        server.client.begin(channel)
    assert server.connection.state is State.OPEN
    server.client.begin(MAX_SESSIONS)
    assert server.client.error("close") == "amqp:not-allowed"


def test_frames_after_the_end_of_a_session_are_ignored(server: Server) -> None:
    """azure-eventhub sends such frames; a new session on the channel works."""
    server.client.send("end")
    server.client.send("flow", incoming_window=1, next_outgoing_id=0, outgoing_window=1)
    server.client.begin()
    assert server.connection.state is State.OPEN
    assert len(server.client.taken("begin")) == 2


def test_messages_are_sent_within_credit_and_window(server: Server) -> None:
    """Neither without credit nor beyond the session's window; a flow lets the rest go."""
    server.client.attach(0, "node", receives=True)
    connection, link = server.connection, server.link()
    assert not connection.may_send(link)
    server.client.flow(0, 2, incoming_window=1)
    assert server.of(Flowed) == [Flowed(link)]
    connection.send(link, b"one")
    assert not connection.may_send(link)  # the window is used up
    server.client.write(connection.take(0.0)[:0])
    server.client.flow(0, 1, delivery_count=1, seen=1)
    assert connection.may_send(link)
    connection.send(link, b"two")
    assert not connection.may_send(link)  # the credit is used up


def test_a_large_message_is_cut_into_frames_that_the_client_takes() -> None:
    """All but the last say that more follows, and none is above the client's limit."""
    server = Server()
    server.client.open(max_frame_size=512)
    server.client.attach(0, "node", receives=True)
    server.client.flow(0, 5, incoming_window=3)
    server.connection.send(server.link(), bytes(2000))
    server.client.write(b"")
    first = server.client.taken("transfer")
    assert [frame.more for frame in first] == [True] * 3
    assert server.connection.waiting_bytes > 0
    server.client.flow(0, 4, delivery_count=1, seen=3)
    rest = server.client.taken("transfer")
    assert [frame.more for frame in rest] == [True] * (len(rest) - 1) + [False]
    assert [frame.delivery_id for frame in first + rest] == [0] + [None] * (len(first + rest) - 1)


def test_unsettled_messages_end_with_the_clients_outcome(server: Server) -> None:
    """Each context comes back once, and the server settles too."""
    server.client.attach(0, "node", receives=True)
    server.client.flow(0, 5)
    for context in ("a", "b", "c"):
        server.connection.send(server.link(), b"x", context)
    server.client.send("disposition", role=True, first=0, last=1, settled=False, state=make("accepted"))
    server.client.send("disposition", role=True, first=2, settled=True, state=make("released"))
    settled = [(event.context, event.outcome) for event in server.of(Settled)]
    assert settled == [("a", "accepted"), ("b", "accepted"), ("c", "released")]
    assert [(each.first, each.last) for each in server.client.taken("disposition")] == [(0, 1)]


def test_a_drained_link_uses_its_credit_up(server: Server) -> None:
    """The flow says so; after it the client has no credit open."""
    server.client.attach(0, "node", receives=True)
    server.client.flow(0, 7, drain=True)
    server.connection.drained(server.link())
    server.client.write(b"")
    (flow,) = server.client.taken("flow")
    assert (flow.delivery_count, flow.link_credit, flow.drain) == (7, 0, True)


def test_received_messages_have_credit_and_are_settled(server: Server) -> None:
    """A message of several frames is one; the server grants credit again before it ends."""
    server.client.attach(0, "node", receives=False)
    (flow,) = server.client.taken("flow")
    assert flow.link_credit == CREDIT
    server.client.transfer(0, b"one ", more=True)
    server.client.transfer(0, b"message", delivery_id=None, more=False)
    (received,) = server.of(Received)
    assert received.payload == b"one message"
    server.connection.settle(received, make("accepted"))
    server.client.write(b"")
    assert [each.state.kind for each in server.client.taken("disposition")] == ["accepted"]
    for _ in range(CREDIT // 2):
        server.client.transfer(0, b"x")
    assert [each.link_credit for each in server.client.taken("flow")] == [CREDIT]


def test_a_message_without_credit_ends_its_link() -> None:
    """The other links stay."""
    server = Server(accepts=False)
    server.client.open()
    server.client.attach(0, "node", receives=False)
    server.client.transfer(0, b"x")
    assert server.client.error("detach") == "amqp:link:transfer-limit-exceeded"
    assert server.connection.state is State.OPEN
    assert server.of(Detached)


def test_a_message_above_the_limit_ends_its_link(server: Server) -> None:
    """Its frames are not kept, and later ones are ignored."""
    server.client.attach(0, "node", receives=False)
    for _ in range(MAX_MESSAGE_BYTES // 60_000 + 2):
        server.client.transfer(0, bytes(60_000), delivery_id=0, more=True)
    assert server.client.error("detach") == "amqp:link:message-size-exceeded"
    assert not server.link().partial
    assert server.connection.state is State.OPEN


def test_transfers_beyond_the_window_close_the_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server refreshes its window at half, so that only a client that ignores it comes there."""
    server.client.attach(0, "node", receives=False)
    for _ in range(WINDOW + 10):
        server.client.transfer(0, b"", aborted=True)
    assert server.connection.state is State.OPEN
    monkeypatch.setattr(limits, "WINDOW", -1)
    monkeypatch.setattr(server.connection, "_flow", lambda *_: None)
    for _ in range(WINDOW + 10):
        server.client.transfer(0, b"", aborted=True)
    assert server.client.error("close") == "amqp:session:window-violation"


def test_a_refused_link_gets_an_attach_and_a_detach_with_the_reason() -> None:
    """As the specification has it; the session goes on."""
    server = Server(accepts=False)
    server.client.open()
    server.client.attach(0, "node", receives=True)
    server.connection.refuse(server.link(), AmqpError("amqp:not-found", "no such node"))
    server.client.write(b"")
    assert len(server.client.taken("attach")) == 1
    assert server.client.error("detach") == "amqp:not-found"
    server.client.send("detach", handle=0, closed=True)
    server.client.attach(0, "another", receives=True)
    assert server.connection.state is State.OPEN


def test_the_end_of_the_transport_ends_every_link(server: Server) -> None:
    """Each has one event."""
    server.client.attach(0, "a", receives=True)
    server.client.attach(1, "b", receives=False)
    server.connection.lost()
    assert len(server.connection.taken_events()) == 2
    server.connection.lost()
    assert server.connection.taken_events() == []
