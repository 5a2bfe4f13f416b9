"""Sessions and links of an AMQP connection as data, the events about them, and errors (part 2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from twinship.simulator.amqp.performatives import Composite, make

WINDOW: Final = 2_048  # transfers that the peer may send before the next flow


class AmqpError(Exception):
    """An error that ends a link, a session or a connection. `condition` is its AMQP name."""

    def __init__(self, condition: str, text: str, info: Mapping[Any, Any] | None = None) -> None:
        super().__init__(text)
        self.condition = condition
        self.info = info

    def composite(self) -> Composite:
        """The error as it is sent."""
        return make("error", condition=self.condition, description=str(self), info=self.info)


@dataclass(eq=False, slots=True)
class Session:
    """One session. `outgoing_window` is how many transfers the peer takes now."""

    channel: int
    outgoing_window: int
    next_incoming_id: int
    next_outgoing_id: int = 0  # of a transfer frame
    next_delivery_id: int = 0
    incoming_left: int = WINDOW
    links: dict[int, Link] = field(default_factory=dict)
    waiting: deque[bytes] = field(default_factory=deque)  # transfer frames beyond the window


@dataclass(eq=False, slots=True)
class Link:
    """One link. `sends`: this side sends. `credit` is how many messages the sending side may send now."""

    session: Session
    handle: int
    name: str
    sends: bool
    attach: Composite
    credit: int = 0
    delivery_count: int = 0
    drain: bool = False
    attached: bool = True
    unsettled: dict[int, Any] = field(default_factory=dict)  # delivery id → what the sender gave
    partial: bytearray = field(default_factory=bytearray)
    first: Composite | None = None  # the first transfer of `partial`

    @property
    def address(self) -> str | None:
        """The address of this side's node; None if the peer named none."""
        terminus = self.attach.source if self.sends else self.attach.target
        address = terminus.address if isinstance(terminus, Composite) else None
        return address if isinstance(address, str) else None


@dataclass(frozen=True, slots=True)
class Attached:
    """The peer attached a link. The user answers with accept() or refuse()."""

    link: Link


@dataclass(frozen=True, slots=True)
class Received:
    """A whole message. The user answers with settle() unless it came settled."""

    link: Link
    delivery_id: int
    payload: bytes
    settled: bool


@dataclass(frozen=True, slots=True)
class Flowed:
    """The peer gave credit, or took it back."""

    link: Link


@dataclass(frozen=True, slots=True)
class Settled:
    """The peer's outcome for a message that was sent unsettled; `context` is what send() was given."""

    link: Link
    context: Any
    outcome: str


@dataclass(frozen=True, slots=True)
class Detached:
    """A link has ended, with its session or connection too."""

    link: Link


Event: TypeAlias = Attached | Received | Flowed | Settled | Detached
