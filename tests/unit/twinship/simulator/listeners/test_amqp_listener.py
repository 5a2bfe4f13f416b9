"""When the readers of AMQP connections are woken."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from twinship.simulator.listeners.amqp_listener import Peers

WITHIN_S = 10.0


class Reader:
    """Stands for a Peer that reads events."""

    def __init__(self) -> None:
        self.woken = 0
        self.called = asyncio.Event()

    def wake(self) -> None:
        """Count the call."""
        self.woken += 1
        self.called.set()

    async def wait(self) -> None:
        """Until the next call."""
        await asyncio.wait_for(self.called.wait(), WITHIN_S)
        self.called.clear()


def test_events_that_follow_each_other_closely_wake_a_reader_once() -> None:
    """The first is not sent at once: that would delay the MQTT message after it. Later ones wake it again."""

    async def run() -> None:
        reader = Reader()
        log, feedback = SimpleNamespace(on_committed=[]), SimpleNamespace(on_feedback=None)
        service = SimpleNamespace(log=log, cloud_to_device=feedback, readers={reader})
        peers = Peers(cast(Any, service))
        for expected in (1, 2):
            for _ in range(3):
                log.on_committed[0]()
            feedback.on_feedback()
            assert reader.woken == expected - 1
            await reader.wait()
            assert reader.woken == expected
        peers.close()

    asyncio.run(run())
