"""The frames and the handshake of one AMQP 1.0 connection, the server's side, without I/O.

Bytes and the time go in, bytes come out. A violation of the protocol closes the connection with one error.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from twinship.simulator.amqp.frames import (
    AMQP_FRAME,
    AMQP_HEADER,
    EMPTY_FRAME,
    MAX_FRAME_BYTES,
    SASL_FRAME,
    SASL_HEADER,
    Frame,
    encode_frame,
    take_frame,
)
from twinship.simulator.amqp.links import AmqpError, Event
from twinship.simulator.amqp.performatives import Composite, make
from twinship.simulator.amqp.types import Array, Malformed, Symbol

MECHANISMS: Final = ("MSSBCBS", "PLAIN", "ANONYMOUS")
MAX_SESSIONS: Final = 16
OPEN_WITHIN_S: Final = 10.0
IDLE_S: Final = 240.0  # as Azure announces it
LEAST_HEARTBEAT_S: Final = 0.5


class State(enum.Enum):
    """What the connection expects next."""

    SASL_HEADER = enum.auto()
    SASL = enum.auto()
    HEADER = enum.auto()
    OPENING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class Wire:
    """`authenticate` says whether a SASL mechanism's response is valid (None: the peer sent none)."""

    def __init__(self, container: str, authenticate: Callable[[str, bytes | None], bool], now: float) -> None:
        self.state = State.SASL_HEADER
        self.why = ""  # why it is closed
        self._container = container
        self._authenticate = authenticate
        self._in = bytearray()
        self.out = bytearray()
        self.events: list[Event] = []
        self._since = self._heard = self._said = now
        self._heartbeat_s: float | None = None
        self.peer_frame_bytes = MAX_FRAME_BYTES

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Handle bytes from the peer. Violations close the connection; nothing is raised."""
        self._heard = now
        self._in += data
        try:
            while self.state is not State.CLOSED and self._step():
                pass
        except Malformed as error:
            self.close(AmqpError("amqp:decode-error", str(error)))
        except AmqpError as error:
            self.close(error)
        if self.state is State.CLOSED:
            self._in.clear()
        return self.taken_events()

    def take(self, now: float) -> bytes:
        """The bytes to send now."""
        if not self.out:
            return b""
        out, self.out, self._said = bytes(self.out), bytearray(), now
        return out

    def tick(self, now: float) -> tuple[float, list[Event]]:
        """Do what is due at this time; returns the time of the next call, and events if it closed."""
        if self.state is not State.CLOSED:
            if self.state is not State.OPEN and now - self._since >= OPEN_WITHIN_S:
                self._end(f"no open within {OPEN_WITHIN_S:g} s")
            elif now - self._heard >= IDLE_S:
                self.close(AmqpError("amqp:resource-limit-exceeded", f"silent for {IDLE_S:g} s"))
            elif self._heartbeat_s is not None and now - self._said >= self._heartbeat_s:
                self.out += EMPTY_FRAME
                self._said = now
        due = [self._heard + IDLE_S]
        if self.state is not State.OPEN:
            due.append(self._since + OPEN_WITHIN_S)
        if self._heartbeat_s is not None:
            due.append(self._said + self._heartbeat_s)
        return min(due), self.taken_events()

    def close(self, error: AmqpError | None = None) -> None:
        """Send a close, with an error if there is one; every link ends."""
        if self.state in (State.OPENING, State.OPEN):
            if self.state is State.OPENING:  # an error before the open needs an open before the close
                self._open_self()
            self.send_frame(make("close", error=None if error is None else error.composite()))
        self._end("closed" if error is None else f"{error.condition}: {error}")

    def lost(self) -> None:
        """The transport has ended."""
        self._end("connection lost")

    def taken_events(self) -> list[Event]:
        """The events since the last call."""
        events, self.events = self.events, []
        return events

    def send_frame(self, body: Composite, channel: int = 0) -> None:
        """Append a frame to the bytes to send."""
        self.out += encode_frame(body, channel)

    def ended(self) -> None:
        """Called once when the connection has ended."""

    def _step(self) -> bool:
        """Handle the next header or frame; False: it is not complete."""
        if self.state in (State.SASL_HEADER, State.HEADER):
            return self._header()
        if (frame := take_frame(self._in)) is None:
            return False
        if frame.type != (SASL_FRAME if self.state is State.SASL else AMQP_FRAME):
            raise Malformed("a frame of the wrong layer")
        if frame.body is not None:
            self.performative(frame, frame.body)
        return True

    def _header(self) -> bool:
        if len(self._in) < len(AMQP_HEADER):
            return False
        header = bytes(self._in[: len(AMQP_HEADER)])
        del self._in[: len(AMQP_HEADER)]
        first = self.state is State.SASL_HEADER
        if (
            header == AMQP_HEADER
        ):  # without SASL, as Node's service SDK: as good as ANONYMOUS, a token follows
            self.out += AMQP_HEADER
            self.state = State.OPENING
        elif first and header == SASL_HEADER:
            self.out += SASL_HEADER
            mechanisms = Array(map(Symbol, MECHANISMS))
            self._send_sasl(make("sasl_mechanisms", sasl_server_mechanisms=mechanisms))
            self.state = State.SASL
        else:  # part 2, 2.2: answer with the header that is supported, then close
            self.out += SASL_HEADER if first else AMQP_HEADER
            self._end("another protocol header than AMQP 1.0")
        return True

    def performative(self, frame: Frame, body: Composite) -> None:
        """Handle a frame. Raises AmqpError if it is not allowed now."""
        expected = {State.SASL: "sasl_init", State.OPENING: "open"}.get(self.state)
        handle = self.handlers.get(body.kind)
        if (
            handle is None
            or (expected or body.kind) != body.kind
            or (expected is None) != (body.kind not in ("sasl_init", "open"))
        ):
            raise AmqpError("amqp:not-allowed", "this performative is not allowed now")
        handle(self, frame, body)

    def _sasl_init(self, _frame: Frame, body: Composite) -> None:
        accepted = body.mechanism in MECHANISMS and self._authenticate(body.mechanism, body.initial_response)
        self._send_sasl(make("sasl_outcome", code=0 if accepted else 1))
        if accepted:
            self.state = State.HEADER
        else:
            self._end("SASL authentication failed")

    def _open(self, _frame: Frame, body: Composite) -> None:
        self.peer_frame_bytes = max(512, min(body.max_frame_size, MAX_FRAME_BYTES))
        if body.idle_time_out:
            self._heartbeat_s = max(body.idle_time_out / 2000, LEAST_HEARTBEAT_S)
        self._open_self()
        self.state = State.OPEN

    def _open_self(self) -> None:
        self.send_frame(
            make(
                "open",
                container_id=self._container,
                max_frame_size=MAX_FRAME_BYTES,
                channel_max=MAX_SESSIONS - 1,
                idle_time_out=int(IDLE_S * 1000),
            )
        )

    def _close(self, _frame: Frame, _body: Composite) -> None:
        self.close()

    def _send_sasl(self, body: Composite) -> None:
        self.out += encode_frame(body, kind=SASL_FRAME)

    def _end(self, why: str) -> None:
        if self.state is not State.CLOSED:
            self.state, self.why = State.CLOSED, why
            self.ended()

    #: The performatives that are handled, and by what.
    handlers: ClassVar[Mapping[str, Callable[..., None]]] = {
        "sasl_init": _sasl_init,
        "open": _open,
        "close": _close,
    }
