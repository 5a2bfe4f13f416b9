"""Deliveries to one module's inputs: from its queue to its session, within the window (ref 4.5).

One message under way over all inputs of the module, the next after its PUBACK; none within the time-out: the
same message again. What is absent is waited for without asking: delivery goes on at the moment of the
subscription, where edgeHub's back-off may take up to 60 s.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twinship.simulator.clock import Alarm, Clock
from twinship.simulator.edge_hub.queues import MessageQueue, Waiting
from twinship.simulator.edge_hub.sessions import Session
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.edge_hub.topics import Subscription
from twinship.simulator.faults.faults import DUPLICATE_DELIVERY, Faults
from twinship.simulator.identity import Identity

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class UnderWay:
    """A message that was sent and waits for its PUBACK. `since`: Clock.mono of the last time it was sent."""

    message: Waiting
    packet_id: int
    since: float


class Delivery:
    """What is on its way to one module, and what comes next."""

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
        self._under_way: dict[int, UnderWay] = {}
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0

    def pump(self) -> None:
        """Send what may be sent now; safe to call at any time."""
        if len(self._under_way) >= self._settings.delivery_window:
            return
        session = self._session()
        while (
            session is not None
            and len(self._under_way) < self._settings.delivery_window
            and session.ready_for(Subscription.INPUTS)
            and (message := self.queue.head(self._clock.wall())) is not None
        ):
            if message.ready_at > self._clock.mono():
                self._wake_at(message.ready_at)
                return
            if not self._send(session):
                return

    def begin_anew(self) -> None:
        """The session with its packet ids is gone: what was under way waits again, in its old order."""
        for under_way in reversed(self._under_way.values()):
            self.queue.give_back(under_way.message)
        self._under_way.clear()

    def resumed(self) -> None:
        """The session has just repeated everything on a new connection: the time-outs begin again."""
        for under_way in self._under_way.values():
            under_way.since = self._clock.mono()
        self._watch()

    def _send(self, session: Session) -> bool:
        message = self.queue.take()
        assert message.body is not None
        acknowledged = partial(self._acknowledged, message)
        packet_id = session.publish(
            Subscription.INPUTS, message.head, message.body, acknowledged=acknowledged, again=True
        )
        if packet_id is None:
            if session.qos(Subscription.INPUTS, message.head) is not None:
                self.queue.give_back(message)
                return False
            logger.warning("%s: no filter covers its input, discarded: %s", self.identity, message.head)
            self.queue.done(message)
            return True
        if self._faults.strikes(DUPLICATE_DELIVERY):
            session.publish(Subscription.INPUTS, message.head, message.body)
        if packet_id == 0:
            self._finish(message)
        else:
            now = self._clock.mono()
            self._under_way[message.seq] = UnderWay(message, packet_id, now)
            self._wake_at(now + self._settings.message_ack_timeout_s)  # the alarm of an older one stays
        return True

    def _acknowledged(self, message: Waiting) -> None:
        del self._under_way[message.seq]
        self._finish(message)
        self.pump()

    def _finish(self, message: Waiting) -> None:
        self.sent[message.head.split("/", 6)[5], message.priority] += 1
        self.queue.delivered(message)

    def _watch(self) -> None:
        """Have the alarm ring when the oldest message under way runs out of time."""
        if self._under_way:
            oldest = min(under_way.since for under_way in self._under_way.values())
            self._wake_at(oldest + self._settings.message_ack_timeout_s)

    def _wake_at(self, when: float) -> None:
        # One alarm, and it is not moved to later: a busy queue would do nothing else.
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
            return  # resumed() sets it again
        self._send_again(session)
        self._watch()
        self.pump()

    def _send_again(self, session: Session) -> None:
        now, timeout_s = self._clock.mono(), self._settings.message_ack_timeout_s
        for under_way in self._under_way.values():
            if now - under_way.since >= timeout_s:
                logger.warning("%s: no PUBACK within %g s, sending again", self.identity, timeout_s)
                under_way.since = now
                session.send_again(under_way.packet_id)
