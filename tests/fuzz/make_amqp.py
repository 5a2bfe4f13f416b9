"""The corpus of the target `amqp`."""

from __future__ import annotations

from typing import Any

from tests.fuzz.target import SEPARATOR
from twinship.simulator.amqp.frames import AMQP_HEADER, SASL_HEADER, encode_frame
from twinship.simulator.amqp.messages import Message
from twinship.simulator.amqp.performatives import make
from twinship.simulator.amqp.types import Array, Char, Float, Int, Symbol, Timestamp, Ubyte, Ulong, encode


def conversations() -> dict[str, bytes]:
    """Streams, bodies of frames, messages and values; the last part of each is a value."""
    attach = make(
        "attach",
        name="link",
        handle=0,
        role=False,
        source=make("source", address="client", outcomes=Array([Symbol("amqp:accepted:list")])),
        target=make("target", address="$cbs"),
        initial_delivery_count=0,
    )
    receive = make(
        "attach", name="l", handle=1, role=True, source=make("source", address="e", filter={"a": 1})
    )
    flow = make(
        "flow", incoming_window=9, next_outgoing_id=0, outgoing_window=9, handle=1, link_credit=5, echo=True
    )
    transfer = make("transfer", handle=0, delivery_id=0, delivery_tag=b"t", message_format=0)
    request = Message(make("properties", message_id="1", reply_to="r"), {"operation": "put-token"}, "t", True)
    values: list[Any] = [
        None,
        True,
        Ubyte(1),
        Int(-1),
        Ulong(300),
        1.5,
        Float(0.5),
        Char("ä"),
        Timestamp(1),
        b"b",
        {"k": []},
    ]
    outcome = make("disposition", role=True, first=0, settled=False, state=make("accepted"))
    detach, end = make("detach", handle=0, closed=True), make("end")
    login = encode_frame(make("sasl_init", mechanism="PLAIN", initial_response=b"\0a\0b"), kind=1)
    opened = encode_frame(make("open", container_id="c", max_frame_size=512, idle_time_out=1000))
    return {
        "stream": SASL_HEADER + login + AMQP_HEADER + opened,
        "sends": _joined(b"", attach.encode(), transfer.encode() + request.encode(), detach.encode()),
        "receives": _joined(b"", receive.encode(), flow.encode(), outcome.encode(), end.encode()),
        "message": request.encode(),
        "value": encode(values),
        "close": _joined(AMQP_HEADER, b"", make("close").encode()),
    }


def _joined(*parts: bytes) -> bytes:
    return SEPARATOR.join(parts)
