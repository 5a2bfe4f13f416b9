"""The server's side of one AMQP 1.0 connection: sessions and links over the frames of Wire (part 2).

receive() and tick() return events. Sessions, links, handles, messages and unsettled deliveries are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from twinship.simulator.amqp.frames import Frame, encode_frame
from twinship.simulator.amqp.links import (
    WINDOW,
    AmqpError,
    Attached,
    Detached,
    Flowed,
    Link,
    Received,
    Session,
    Settled,
)
from twinship.simulator.amqp.performatives import Composite, make
from twinship.simulator.amqp.wire import MAX_SESSIONS, Wire

MAX_LINKS: Final = 64  # of one session
MAX_MESSAGE_BYTES: Final = 262_144
MAX_UNSETTLED: Final = 1_000  # deliveries to the peer without an outcome, of one link
CREDIT: Final = 50  # messages that the peer may send on a link before the next flow
_U32: Final = 0xFFFF_FFFF


class Connection(Wire):
    """One connection with its sessions and links."""

    def __init__(self, container: str, authenticate: Callable[[str, bytes | None], bool], now: float) -> None:
        super().__init__(container, authenticate, now)
        self.sessions: dict[int, Session] = {}
        self._ended: set[int] = (
            set()
        )  # channels of ended sessions: azure-eventhub sends a frame after the end

    @property
    def waiting_bytes(self) -> int:
        """Bytes that take() would return, and those that wait for the peer's windows."""
        held = sum(len(each) for session in self.sessions.values() for each in session.waiting)
        return len(self.out) + held

    def ended(self) -> None:
        """Every link has ended."""
        for session in self.sessions.values():
            self._links_ended(session)
        self.sessions.clear()

    # For the user: links

    def accept(self, link: Link, *, properties: Mapping[Any, Any] | None = None) -> None:
        """Answer an attach; the peer may send at once if it is the sender."""
        self._attach_back(link, properties)
        if not link.sends:
            self._grant(link)

    def refuse(self, link: Link, error: AmqpError) -> None:
        """Answer an attach with an attach and a detach with the error (part 2, 2.6.3)."""
        self._attach_back(link, None)
        self.detach(link, error)

    def detach(self, link: Link, error: AmqpError | None = None) -> None:
        """End a link; its user gets no event for it."""
        if link.attached:
            link.attached = False
            link.partial.clear()
            composite = None if error is None else error.composite()
            self.send_frame(
                make("detach", handle=link.handle, closed=True, error=composite), link.session.channel
            )

    def may_send(self, link: Link) -> bool:
        """Whether a message can be sent now: credit, the session's window, few unsettled messages."""
        session = link.session
        return (
            link.attached
            and link.credit > 0
            and session.outgoing_window > 0
            and not session.waiting
            and len(link.unsettled) < MAX_UNSETTLED
        )

    def send(self, link: Link, payload: bytes, context: Any = None) -> None:
        """Send a message; with a context it is unsettled, and an event brings the outcome."""
        session, settled = link.session, context is None
        delivery_id = session.next_delivery_id
        session.next_delivery_id = (delivery_id + 1) & _U32
        if not settled:
            link.unsettled[delivery_id] = context
        link.credit -= 1
        link.delivery_count = (link.delivery_count + 1) & _U32
        room = self.peer_frame_bytes - 128  # more than a header and a transfer have
        for at in range(0, max(len(payload), 1), room):
            first = at == 0
            transfer = make(
                "transfer",
                handle=link.handle,
                delivery_id=delivery_id if first else None,
                delivery_tag=delivery_id.to_bytes(4, "big") if first else None,
                message_format=0 if first else None,
                settled=settled,
                more=at + room < len(payload),
            )
            session.waiting.append(encode_frame(transfer, session.channel, payload[at : at + room]))
        self._send_waiting(session)

    def drained(self, link: Link) -> None:
        """Nothing is left for a link that the peer drains: use its credit up (part 2, 2.6.7)."""
        link.delivery_count = (link.delivery_count + link.credit) & _U32
        link.credit = 0
        self._flow(link)

    def settle(self, received: Received, outcome: Composite) -> None:
        """Settle a received message with this outcome."""
        if not received.settled and received.link.attached:
            disposition = make(
                "disposition",
                role=True,
                first=received.delivery_id,
                last=received.delivery_id,
                settled=True,
                state=outcome,
            )
            self.send_frame(disposition, received.link.session.channel)

    # Sessions

    def performative(self, frame: Frame, body: Composite) -> None:
        """Handle a frame, unless it comes late for a session that has ended."""
        if frame.channel not in self._ended or body.kind in ("begin", "close"):
            super().performative(frame, body)

    def _begin(self, frame: Frame, body: Composite) -> None:
        if frame.channel in self.sessions or frame.channel >= MAX_SESSIONS:
            raise AmqpError("amqp:not-allowed", f"a channel in use, or more than {MAX_SESSIONS} sessions")
        session = Session(frame.channel, body.incoming_window, body.next_outgoing_id)
        self.sessions[frame.channel] = session
        self._ended.discard(frame.channel)
        answer = make(
            "begin",
            remote_channel=frame.channel,
            next_outgoing_id=0,
            incoming_window=WINDOW,
            outgoing_window=WINDOW,
            handle_max=MAX_LINKS - 1,
        )
        self.send_frame(answer, frame.channel)

    def _session(self, frame: Frame) -> Session:
        if (session := self.sessions.get(frame.channel)) is None:
            raise AmqpError("amqp:not-allowed", "there is no session on this channel")
        return session

    def _end_session(self, frame: Frame, _body: Composite) -> None:
        session = self._session(frame)
        del self.sessions[frame.channel]
        self._ended.add(frame.channel)
        self._links_ended(session)
        self.send_frame(make("end"), frame.channel)

    def _links_ended(self, session: Session) -> None:
        for link in session.links.values():
            if link.attached:
                link.attached = False
                self.events.append(Detached(link))
        session.links.clear()
        session.waiting.clear()

    # Links

    def _attach(self, frame: Frame, body: Composite) -> None:
        session = self._session(frame)
        if body.handle in session.links or body.handle >= MAX_LINKS:
            raise AmqpError("amqp:not-allowed", f"a handle in use, or more than {MAX_LINKS} links")
        for terminus in (body.source, body.target):
            if terminus is not None and not isinstance(terminus, Composite):
                raise AmqpError("amqp:not-implemented", "a terminus that is neither a source nor a target")
        link = Link(session, body.handle, body.name, sends=body.role, attach=body)
        link.delivery_count = body.initial_delivery_count or 0 if not body.role else 0
        session.links[body.handle] = link
        self.events.append(Attached(link))

    def _attach_back(self, link: Link, properties: Mapping[Any, Any] | None) -> None:
        peer = link.attach
        answer = make(
            "attach",
            name=link.name,
            handle=link.handle,
            role=not link.sends,
            snd_settle_mode=peer.snd_settle_mode,
            rcv_settle_mode=0,
            source=peer.source or make("source"),
            target=peer.target or make("target"),
            initial_delivery_count=0 if link.sends else None,
            max_message_size=MAX_MESSAGE_BYTES,
            offered_capabilities=peer.desired_capabilities,
            properties=properties,
        )
        self.send_frame(answer, link.session.channel)

    def _link(self, frame: Frame, handle: int) -> Link | None:
        """The link of a handle; None if this side has ended it and the peer does not know yet."""
        if (link := self._session(frame).links.get(handle)) is None:
            raise AmqpError("amqp:session:unattached-handle", "there is no link with this handle")
        return link if link.attached else None

    def _detach(self, frame: Frame, body: Composite) -> None:
        link = self._link(frame, body.handle)
        del self._session(frame).links[body.handle]
        if link is not None:
            self.detach(link)
            self.events.append(Detached(link))

    def _flow_in(self, frame: Frame, body: Composite) -> None:
        session = self._session(frame)
        under_way = (session.next_outgoing_id - (body.next_incoming_id or 0)) & _U32
        session.outgoing_window = max(0, body.incoming_window - under_way)
        self._send_waiting(session)
        if body.handle is None:
            if body.echo:
                self._flow(None, session)
            return
        if (link := self._link(frame, body.handle)) is None:
            return
        if link.sends:
            under_way = (link.delivery_count - (body.delivery_count or 0)) & _U32
            link.credit = max(0, (body.link_credit or 0) - under_way)
            link.drain = body.drain
            self.events.append(Flowed(link))
        if body.echo:
            self._flow(link)

    def _transfer(self, frame: Frame, body: Composite) -> None:
        session = self._session(frame)
        self._count_transfer(session)
        if (link := self._link(frame, body.handle)) is None:
            return
        if link.sends:
            raise AmqpError("amqp:not-allowed", "a transfer on a link that this side sends on")
        if body.aborted:
            link.partial, link.first = bytearray(), None
            return
        first = link.first or body
        if first.delivery_id is None:
            raise AmqpError("amqp:invalid-field", "a delivery without an id")
        if len(link.partial) + len(frame.payload) > MAX_MESSAGE_BYTES:
            self._fail_link(
                link, "amqp:link:message-size-exceeded", f"a message above {MAX_MESSAGE_BYTES} bytes"
            )
            return
        link.partial += frame.payload
        if body.more:
            link.first = first
            return
        payload, link.partial, link.first = bytes(link.partial), bytearray(), None
        self._received(link, first, payload, settled=bool(first.settled or body.settled))

    def _received(self, link: Link, first: Composite, payload: bytes, *, settled: bool) -> None:
        if link.credit <= 0:
            self._fail_link(link, "amqp:link:transfer-limit-exceeded", "a message without credit")
            return
        link.credit -= 1
        link.delivery_count = (link.delivery_count + 1) & _U32
        self.events.append(Received(link, first.delivery_id, payload, settled))
        if link.credit <= CREDIT // 2:
            self._grant(link)

    def _fail_link(self, link: Link, condition: str, text: str) -> None:
        self.events.append(Detached(link))
        self.detach(link, AmqpError(condition, text))

    def _count_transfer(self, session: Session) -> None:
        session.next_incoming_id = (session.next_incoming_id + 1) & _U32
        session.incoming_left -= 1
        if session.incoming_left < 0:
            raise AmqpError("amqp:session:window-violation", "more transfers than the window allows")
        if session.incoming_left <= WINDOW // 2:
            self._flow(None, session)

    def _disposition(self, frame: Frame, body: Composite) -> None:
        """The peer's outcome of messages that this side sent; those of a sender need no answer."""
        session = self._session(frame)
        if not body.role:
            return
        last = body.first if body.last is None else body.last
        outcome = body.state.kind if isinstance(body.state, Composite) else "released"
        if outcome == "received":
            return
        settled = []
        for link in session.links.values():
            for delivery_id in [each for each in link.unsettled if body.first <= each <= last]:
                self.events.append(Settled(link, link.unsettled.pop(delivery_id), outcome))
                settled.append(delivery_id)
        if settled and not body.settled:  # the peer waits until this side has settled too
            answer = make(
                "disposition", role=False, first=body.first, last=last, settled=True, state=body.state
            )
            self.send_frame(answer, frame.channel)

    def _grant(self, link: Link) -> None:
        link.credit = CREDIT
        self._flow(link)

    def _flow(self, link: Link | None, session: Session | None = None) -> None:
        session = session or (link.session if link is not None else None)
        assert session is not None
        session.incoming_left = WINDOW
        of_link = (
            {}
            if link is None
            else {
                "handle": link.handle,
                "delivery_count": link.delivery_count,
                "link_credit": link.credit,
                "drain": link.drain and link.sends,
            }
        )
        flow = make(
            "flow",
            next_incoming_id=session.next_incoming_id,
            incoming_window=WINDOW,
            next_outgoing_id=session.next_outgoing_id,
            outgoing_window=WINDOW,
            **of_link,
        )
        self.send_frame(flow, session.channel)

    def _send_waiting(self, session: Session) -> None:
        while session.waiting and session.outgoing_window > 0:
            self.out += session.waiting.popleft()
            session.outgoing_window -= 1
            session.next_outgoing_id = (session.next_outgoing_id + 1) & _U32

    handlers: ClassVar[Mapping[str, Callable[..., None]]] = {
        **Wire.handlers,
        "begin": _begin,
        "end": _end_session,
        "attach": _attach,
        "detach": _detach,
        "flow": _flow_in,
        "transfer": _transfer,
        "disposition": _disposition,
    }
