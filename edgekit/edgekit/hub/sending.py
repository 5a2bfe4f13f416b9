"""Sends the messages of the outbox through the SDK, in order and at least once."""

import functools
import itertools
import logging
import time
from collections.abc import Callable
from threading import Event
from typing import Any

from azure.iot.device import IoTHubModuleClient, exceptions

from edgekit.clock import mono_ns
from edgekit.frame.message import Message
from edgekit.hub.on_wire_message import OnWireMessage
from edgekit.hub.outbox import Outbox, Outgoing, too_large
from edgekit.hub.watchdog import Watchdog
from edgekit.log import one_line

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 5  # for a message that fails while there is a connection
_RETRY_S = 0.05

_LOST_CONNECTION = (
    exceptions.ConnectionFailedError,
    exceptions.ConnectionDroppedError,
    exceptions.NoConnectionError,
    exceptions.CredentialError,
    exceptions.OperationCancelled,
    exceptions.OperationTimeout,
)


class Sender:
    """Sends while `up` is set, until `closing` is set. To end `run`, set `closing` and then `up`."""

    def __init__(self, outbox: Outbox, watchdog: Watchdog, *, up: Event, closing: Event) -> None:
        self._outbox = outbox
        self._watchdog = watchdog
        self._up = up
        self._closing = closing

    def put(self, output: str, message: Message, on_stored: Callable[[int], None] | None) -> bool:
        """Queue a message; False if it is too large for any hub, or the outbox is full."""
        if (reason := too_large(message)) is not None:
            _log_refused(output, reason)
            return False
        return self._outbox.put(Outgoing(output, message, on_stored))

    def run(self, client: IoTHubModuleClient) -> None:
        """Send until closing. Several threads run this at once; the outbox keeps the order."""
        while not self._closing.is_set():
            if (outgoing := self._outbox.take(timeout_s=60.0)) is not None:
                try:
                    self._send(client, outgoing)
                finally:
                    self._outbox.on_wire(outgoing)  # in case the SDK has never read the id

    def _send(self, client: IoTHubModuleClient, outgoing: Outgoing) -> None:
        """Send until the hub acknowledges the message; give up only a message that every hub refuses."""
        message = OnWireMessage(outgoing.message, functools.partial(self._outbox.on_wire, outgoing))
        for attempt in itertools.count(1):
            self._up.wait()
            if self._closing.is_set():
                return
            try:
                self._send_once(client, message, outgoing.output)
            except Exception as error:
                if _is_poison(error, attempt, connected=client.connected):
                    self._outbox.acknowledged(outgoing)
                    _log_refused(outgoing.output, one_line(error))
                    return
                logger.warning("edgeHub: output %s: sending again: %s", outgoing.output, one_line(error))
            else:
                if outgoing.on_stored is not None:
                    call_and_log(outgoing.on_stored, mono_ns())
                self._outbox.acknowledged(
                    outgoing
                )  # last: an empty outbox means that every callback returned
                return
            self._closing.wait(_RETRY_S)

    def _send_once(self, client: IoTHubModuleClient, message: OnWireMessage, output: str) -> None:
        request = self._watchdog.begin(f"PUBACK on output {output}", time.monotonic())
        try:
            client.send_message_to_output(message, output)
        finally:
            self._watchdog.end(request)


def call_and_log(call: Callable[..., Any], *arguments: Any) -> None:
    """Call, and log an exception instead of raising it: a failing callback must not end a hub thread."""
    try:
        call(*arguments)
    except Exception:
        logger.exception("edgeHub: %s failed", getattr(call, "__qualname__", "a handler"))


def _is_poison(error: Exception, attempt: int, *, connected: bool) -> bool:
    """Whether the message itself is at fault: it must not block the messages behind it for ever."""
    if isinstance(error, _LOST_CONNECTION):
        return False
    return isinstance(error, ValueError) or (attempt >= _MAX_ATTEMPTS and connected)


def _log_refused(output: str, reason: str) -> None:
    logger.error("edgeHub: output %s: message not sent: %s", output, reason)
