"""An AMQP client in memory: writes frames to a server without I/O and reads its frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinship.simulator.amqp.frames import AMQP_HEADER, SASL_HEADER, Frame, encode_frame, take_frame
from twinship.simulator.amqp.messages import Message, decode_message
from twinship.simulator.amqp.performatives import Composite, make
from twinship.simulator.amqp.types import Described, Symbol

SELECTOR = "apache.org:selector-filter:string"


class Client:
    """`exchange` hands bytes to the server and returns its bytes."""

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange
        self._in = bytearray()
        self.frames: list[Frame] = []
        self._next_id = 0

    def write(self, data: bytes) -> bytes:
        """Send bytes; the server's frames go to `frames`."""
        answer = self._exchange(data)
        self._in += answer
        for header in (SASL_HEADER, AMQP_HEADER):
            if self._in.startswith(header):
                del self._in[:8]
        while (frame := take_frame(self._in)) is not None:
            self.frames.append(frame)
        return answer

    def send(self, kind: str, *, channel: int = 0, payload: bytes = b"", **fields: Any) -> None:
        """Send a performative."""
        self.write(encode_frame(make(kind, **fields), channel, payload))

    def open(self, mechanism: str = "ANONYMOUS", response: bytes | None = None, **fields: Any) -> None:
        """SASL, headers, open and begin."""
        self.write(SASL_HEADER)
        self.write(encode_frame(make("sasl_init", mechanism=mechanism, initial_response=response), kind=1))
        self.write(AMQP_HEADER)
        self.send("open", container_id="client", **fields)
        self.begin()

    def begin(self, channel: int = 0, window: int = 1000) -> None:
        """Begin a session."""
        self.send("begin", channel=channel, next_outgoing_id=0, incoming_window=window, outgoing_window=100)

    def attach(
        self, handle: int, address: str, *, receives: bool, selector: str | None = None, **fields: Any
    ) -> None:
        """Attach a link to a node; `selector` is its filter."""
        source, target = ("client", address) if not receives else (address, "client")
        filters = None if selector is None else {Symbol(SELECTOR): Described(Symbol(SELECTOR), selector)}
        self.send(
            "attach",
            name=f"link-{handle}",
            handle=handle,
            role=receives,
            source=make("source", address=source, filter=filters),
            target=make("target", address=target),
            initial_delivery_count=None if receives else 0,
            **fields,
        )

    def flow(
        self, handle: int, credit: int, *, delivery_count: int = 0, seen: int = 0, **fields: Any
    ) -> None:
        """Give a link credit; `seen` transfers of the session have arrived."""
        fields = {"incoming_window": 1000, **fields}
        self.send(
            "flow",
            next_incoming_id=seen,
            next_outgoing_id=self._next_id,
            outgoing_window=100,
            handle=handle,
            delivery_count=delivery_count,
            link_credit=credit,
            **fields,
        )

    def transfer(self, handle: int, payload: bytes, **fields: Any) -> None:
        """Send a message."""
        fields = {"delivery_id": self._next_id, "delivery_tag": b"t", "message_format": 0, **fields}
        self._next_id += 1
        self.send("transfer", handle=handle, payload=payload, **fields)

    def request(self, handle: int, *, message_id: str = "1", body: Any = "", **application: Any) -> None:
        """Send a request to `$cbs` or `$management`."""
        properties = make("properties", message_id=message_id, reply_to="client")
        self.transfer(handle, Message(properties, application, body, is_value=True).encode())

    def taken(self, kind: str) -> list[Composite]:
        """Take the performatives of a kind that have arrived."""
        found = [frame for frame in self.frames if frame.body is not None and frame.body.kind == kind]
        self.frames = [frame for frame in self.frames if frame not in found]
        return [frame.body for frame in found if frame.body is not None]

    def messages(self) -> list[Message]:
        """Take the messages that have arrived, each of one frame."""
        found = [frame for frame in self.frames if frame.body is not None and frame.body.kind == "transfer"]
        self.frames = [frame for frame in self.frames if frame not in found]
        return [decode_message(frame.payload) for frame in found]

    def error(self, kind: str) -> str:
        """The condition of the only error of this kind (close, detach)."""
        (body,) = self.taken(kind)
        return str(body.error.condition)
