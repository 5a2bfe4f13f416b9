"""Statement 96: the receiving SDK calls its handlers in any order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.hub_under_test import running_hub

pytestmark = [pytest.mark.conformance, pytest.mark.e2e]

MESSAGES = 300


def test_96_every_message_is_handled_once_in_whatever_order(tmp_path: Path) -> None:
    """The SDK calls handlers on four threads, so the test compares sets: each message is handled once."""
    with running_hub(tmp_path) as hub:
        hub.deploy("sender", "receiver")
        with hub.module("receiver") as receiver, hub.module("sender") as sender:
            receiver.call("listen", kind="message")
            for number in range(MESSAGES):
                sender.send("work", b"%d" % number)
            handled = [int(receiver.next_body()) for _ in range(MESSAGES)]
            assert set(handled) == set(range(MESSAGES))
            assert receiver.heard_nothing("message")
