"""Delivery of messages to one module's inputs, from its queue to its session (ref 4.5).

At most `delivery_window` messages (edgeHub: one) of all inputs of the module are in flight. The PUBACK of one
lets the next go; without a PUBACK within the time-out the message is sent again. When a module subscribes,
delivery continues at once; the real edgeHub polls, with a back-off of up to 60 s.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twinship.simulator.clock import Alarm, Clock
from twinship.simulator.edge_hub.queues import MessageQueue, QueuedMessage
from twinship.simulator.edge_hub.sessions import Session
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.edge_hub.topics import Subscription
from twinship.simulator.faults.faults import DUPLICATE_DELIVERY, Faults
from twinship.simulator.identity import Identity

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class InFlight:
    """A message that waits for its PUBACK. `since`: Clock.mono when it was last sent."""

    message: QueuedMessage
    packet_id: int
    since: float


class Delivery:
    """The queue of one module and its messages in flight."""

    def __init__(
        self,
        identity: Identity,
        queue: MessageQueue,
        session: Callable[[], Session | None],
        clock: Clock,
        settings: EdgeHubSettings,
        faults: Faults,
    ) -> None:
        self.identity = identity
        self.queue = queue
        self.sent: Counter[tuple[str, int]] = Counter()  # by input and priority
        self._session = session
        self._clock = clock
        self._settings = settings
        self._faults = faults
        self._in_flight: dict[int, InFlight] = {}
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0

    def pump(self) -> None:
        """Send the messages that may be sent now; safe to call at any time."""
        if len(self._in_flight) >= self._settings.delivery_window:
            return
        session = self._session()
        while (
            session is not None
            and len(self._in_flight) < self._settings.delivery_window
            and session.ready_for(Subscription.INPUTS)
            and (message := self.queue.peek(self._clock.wall())) is not None
        ):
            if message.ready_at > self._clock.mono():
                self._wake_at(message.ready_at)
                return
            if not self._send(session):
                return

    def requeue_in_flight(self) -> None:
        """The session with its packet ids has ended: put the messages in flight back, in their old order."""
        for in_flight in reversed(self._in_flight.values()):
            self.queue.put_back(in_flight.message)
        self._in_flight.clear()

    def resumed(self) -> None:
        """The session has sent everything again on a new connection: restart the time-outs."""
        for in_flight in self._in_flight.values():
            in_flight.since = self._clock.mono()
        self._watch()

    def _send(self, session: Session) -> bool:
        message = self.queue.take()
        assert message.body is not None
        acknowledged = partial(self._acknowledged, message)
        packet_id = session.publish(
            Subscription.INPUTS, message.head, message.body, acknowledged=acknowledged, resend=True
        )
        if packet_id is None:
            if session.qos(Subscription.INPUTS, message.head) is not None:
                self.queue.put_back(message)
                return False
            logger.warning("%s: no filter covers its input, discarded: %s", self.identity, message.head)
            self.queue.remove(message)
            return True
        if self._faults.strikes(DUPLICATE_DELIVERY):
            session.publish(Subscription.INPUTS, message.head, message.body)
        if packet_id == 0:
            self._finish(message)
        else:
            now = self._clock.mono()
            self._in_flight[message.seq] = InFlight(message, packet_id, now)
            self._wake_at(now + self._settings.message_ack_timeout_s)  # an earlier alarm stays
        return True

    def _acknowledged(self, message: QueuedMessage) -> None:
        del self._in_flight[message.seq]
        self._finish(message)
        self.pump()

    def _finish(self, message: QueuedMessage) -> None:
        self.sent[message.head.split("/", 6)[5], message.priority] += 1
        self.queue.delivered(message)

    def _watch(self) -> None:
        """Set the alarm to the time-out of the oldest message in flight."""
        if self._in_flight:
            oldest = min(in_flight.since for in_flight in self._in_flight.values())
            self._wake_at(oldest + self._settings.message_ack_timeout_s)

    def _wake_at(self, when: float) -> None:
        # There is one alarm, and it is never moved to a later time: a busy queue would move it all the time.
        if self._alarm is not None:
            if self._alarm_at <= when:
                return
            self._alarm.cancel()
        self._alarm_at = when
        self._alarm = self._clock.later(max(0.0, when - self._clock.mono()), self._wake)

    def _wake(self) -> None:
        self._alarm = None
        session = self._session()
        if session is None or session.link is None:
            return  # resumed() sets the alarm again
        self._resend(session)
        self._watch()
        self.pump()

    def _resend(self, session: Session) -> None:
        now, timeout_s = self._clock.mono(), self._settings.message_ack_timeout_s
        for in_flight in self._in_flight.values():
            if now - in_flight.since >= timeout_s:
                logger.warning("%s: no PUBACK within %g s, sending again", self.identity, timeout_s)
                in_flight.since = now
                session.resend(in_flight.packet_id)
