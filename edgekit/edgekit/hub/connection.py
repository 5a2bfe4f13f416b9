"""A module's connection to edgeHub; its only file that imports the SDK; knows nothing of frames or models."""

import functools
import itertools
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Any

from azure.iot.device import IoTHubModuleClient, MethodResponse, exceptions
from azure.iot.device import Message as SdkMessage
from azure.iot.device.common.transport_exceptions import TlsExchangeAuthError

from edgekit.clock import mono_ns
from edgekit.frame.message import Message
from edgekit.hub import gateway, inputs, nagle
from edgekit.hub.bounded_calls import TooManyUnanswered
from edgekit.hub.outbox import Outbox, Outgoing, too_large
from edgekit.hub.twin import Twin, TwinCalls, TwinLink
from edgekit.hub.watchdog import Pending, Watchdog
from edgekit.log import one_line

__all__ = ["Hub", "HubSettings", "MethodAnswer", "Twin"]

logger = logging.getLogger(__name__)

_POISON_ATTEMPTS = 5
# Messages that may wait for their PUBACKs at once, each on a thread because the SDK's call ends with it. With
# one at a time most of the time goes into waiting, for the hub and for the SDK's threads.
_UNDER_WAY = 5
_HANDED_OVER_S = 0.05  # the SDK's threads pass on what came before edgeHub agreed to send no more

_LOST_CONNECTION = (
    exceptions.ConnectionFailedError,
    exceptions.ConnectionDroppedError,
    exceptions.NoConnectionError,
    exceptions.CredentialError,
    exceptions.OperationCancelled,
    exceptions.OperationTimeout,
)


@dataclass(frozen=True)
class MethodAnswer:
    """What a direct method answers: an HTTP-like status and a JSON value."""

    status: int
    payload: Any


@dataclass(frozen=True)
class HubSettings:
    """How patient the connection is and how much it keeps."""

    outbox_messages: int = 512
    outbox_bytes: int = 16 * 1024 * 1024
    twin_timeout_s: float = 10.0  # the SDK has none: a lost answer hangs the call for ever (ref 2.6)
    silence_s: float = 40.0  # unanswered for longer is stuck; the SDK repeats a SUBSCRIBE after 30 (ref 2.8)
    retry_first_s: float = 0.1
    retry_max_s: float = 2.0
    reconnect_s: float = 5.0  # down for so long: connect ourselves, the SDK may have given up (ref 2.8)
    max_hanging: int = 16  # twin requests without an answer, each of which holds a thread for ever


class Hub:
    """The connection. To be used from any thread; `stop_inputs`, `wait_sent` and `close` wait, as told."""

    def __init__(
        self,
        *,
        inputs: Mapping[str, Callable[[Message, int], None]],
        on_twin: Callable[[Twin], None],
        methods: Mapping[str, Callable[[Any], MethodAnswer]] | None = None,
        settings: HubSettings = HubSettings(),
    ) -> None:
        """Connects nothing yet.

        `inputs`: by input name, called with the message and its arrival (CLOCK_MONOTONIC ns) on up to four
        threads of the SDK at once, so in no certain order. `on_twin`: the whole twin after every connect and
        every desired patch, the newest only, on one thread. `methods`: by name, called with the payload.
        """
        self._inputs = dict(inputs)
        self._methods = dict(methods or {})
        self._settings = settings
        self._client: IoTHubModuleClient | None = None
        self._outbox = Outbox(settings.outbox_messages, settings.outbox_bytes)
        self._silence = Watchdog(settings.silence_s)
        self._twin = TwinLink(
            on_twin, self._silence, timeout_s=settings.twin_timeout_s, max_hanging=settings.max_hanging
        )
        self._lock = Lock()
        self._ready = Event()  # every handler is in place
        self._up = Event()  # ready and connected; close() sets both, to wake whoever waits
        self._down_since_s = time.monotonic()
        self._distrusted_since_s: float | None = None
        self._closing = Event()
        #: set once the peer accepts connections and never answers; `stuck_reason` then says to what
        self.stuck = Event()
        self.stuck_reason = ""
        #: messages that `send` left out because the outbox was full
        self.dropped = 0
        #: messages left out because no hub would take them: too large, or refused by the SDK
        self.refused = 0

    def start(self) -> None:
        """Connect in the background, and stay connected."""
        senders = [self._keep_sending] * _UNDER_WAY
        for work in (self._connect, self._keep_twin, *senders, self._watch):
            Thread(target=work, name=f"hub{work.__name__}", daemon=True).start()

    @property
    def connected(self) -> bool:
        """Whether the SDK has a connection now."""
        client = self._client
        return client is not None and bool(client.connected)

    @property
    def unsent(self) -> int:
        """How many messages are queued or under way, not yet acknowledged."""
        return len(self._outbox)

    def send(self, output: str, message: Message, on_stored: Callable[[int], None] | None = None) -> bool:
        """Queue a message. False: left out, counted in `dropped` (outbox full) or `refused` (too large).

        `on_stored` gets the CLOCK_MONOTONIC ns of the PUBACK, on up to five threads at once. Sent in order
        and at least once: what has to be sent again may come after its successors. A message without an id
        gets one, so that repeats can be told.
        """
        if (reason := too_large(message)) is not None:
            self._refuse(output, reason)
            return False
        if self._outbox.put(Outgoing(output, message, on_stored)):
            return True
        with self._lock:
            self.dropped += 1
        return False

    def report(self, patch: Mapping[str, Any]) -> None:
        """Queue a patch of the reported properties; retried until the hub takes it or calls it wrong."""
        self._twin.report(patch)

    def stop_inputs(self, timeout_s: float) -> None:
        """Let edgeHub keep what comes for the inputs, for the next process; what is under way is handled.

        Returns when it has agreed, in `timeout_s` at most. Without a connection there is nothing to do.
        """
        if self.connected and inputs.stop(self._client, timeout_s):
            self._closing.wait(_HANDED_OVER_S)

    def wait_sent(self, timeout_s: float) -> int:
        """Wait until every message is acknowledged; how many are not after `timeout_s`."""
        return self._outbox.wait_empty(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Disconnect, in `timeout_s` at most: the SDK's own threads may be beyond help."""
        with self._lock:
            self._closing.set()
            self._up.set()
        self._ready.set()
        self._outbox.close()
        self._twin.close()
        if (client := self._client) is not None:
            shutdown = Thread(target=_quietly, args=(client.shutdown,), name="hub_shutdown", daemon=True)
            shutdown.start()
            shutdown.join(timeout_s)

    # Connecting

    def _connect(self) -> None:
        self._client = client = self._insist("workload API", self._create)
        # Messages that come before their handler are acknowledged by the SDK and lost: it is first (ref 2.8).
        # To assign is to connect, and raises while the hub is down.
        for name, handler in (
            ("on_message_received", self._take_message),
            ("on_method_request_received", self._take_method),
            ("on_twin_desired_properties_patch_received", lambda _patch: self._twin.ring()),
        ):
            self._insist(name, functools.partial(setattr, client, name, handler))
        self._ready.set()
        self._connection_event()
        while not self._closing.wait(1.0):
            self._supervise(client)

    def _create(self) -> IoTHubModuleClient:
        # The SDK's own twin request dies on a fresh session (ref 2.6): ours replaces it. Its 10 s between two
        # tries are long for a hub on the same device.
        client = IoTHubModuleClient.create_from_edge_environment(
            ensure_desired_properties=False, connection_retry_interval=1
        )
        nagle.switch_off(client)
        client.on_connection_state_change = self._connection_event  # type: ignore[assignment]
        return client

    def _insist(self, what: str, call: Callable[[], Any]) -> Any:
        """Call until it works, or end this thread when closing."""
        for pause_s in _back_off(self._settings.retry_first_s, self._settings.retry_max_s):
            try:
                return self._attempt(what, call)
            except Exception as error:
                logger.warning("edgeHub: %s: trying again: %s", what, one_line(error))
            if self._closing.wait(pause_s):
                break
        raise SystemExit

    def _attempt(self, what: str, call: Callable[[], Any]) -> Any:
        number = self._silence.begin(what, time.monotonic(), connects=True)
        try:
            result = call()
        except Exception as error:
            self._note_distrust(error)
            raise
        finally:
            self._silence.end(number)
        self._distrusted_since_s = None
        return result

    def _note_distrust(self, error: BaseException) -> None:
        """A hub that came back with another authority: only a new process reads the trust bundle again."""
        now_s = time.monotonic()
        if not _caused_by(error, TlsExchangeAuthError):
            self._distrusted_since_s = None
        elif self._distrusted_since_s is None:
            self._distrusted_since_s = now_s
        elif now_s - self._distrusted_since_s > self._settings.silence_s:
            self._declare_stuck("edgeHub's certificate does not verify with the trust bundle read at start")

    def _supervise(self, client: IoTHubModuleClient) -> None:
        """Once a second: a missed event, and a connection that the SDK no longer tries to get back."""
        if client.connected:
            if not self._up.is_set():
                self._connection_event()
        elif time.monotonic() - self._down_since_s > self._settings.reconnect_s:
            self._down_since_s = time.monotonic()
            try:
                self._attempt("connect", client.connect)
            except Exception as error:
                logger.warning("edgeHub: still not connected: %s", one_line(error))

    def _connection_event(self) -> None:
        """Up, down or both by now: the SDK says only that something changed, on several threads at once."""
        with self._lock:
            if self._closing.is_set() or not self._ready.is_set():
                return
            was_up, is_up = self._up.is_set(), self.connected
            if is_up:
                self._up.set()
            elif was_up:
                self._up.clear()
                self._down_since_s = time.monotonic()
        self._silence.restart(time.monotonic())
        if is_up:
            self._twin.ring()
        if is_up != was_up:
            logger.info("edgeHub: %s, %d unsent", "connected" if is_up else "disconnected", self.unsent)

    # Sending

    def _keep_sending(self) -> None:
        """One of several: each takes the next message once the one before is on its way."""
        while not self._closing.is_set():
            if (outgoing := self._outbox.take(timeout_s=60.0)) is not None:
                try:
                    self._deliver(outgoing)
                finally:
                    self._outbox.begun(outgoing)  # also what was given up before the SDK asked for its id

    def _deliver(self, outgoing: Outgoing) -> None:
        """Send until it is acknowledged; only what no hub takes is given up."""
        message = OnWireMessage(outgoing.message, functools.partial(self._outbox.begun, outgoing))
        for attempt in itertools.count(1):
            self._up.wait()
            if self._closing.is_set():
                return
            try:
                self._send_now(message, outgoing.output)
            except Exception as error:
                if self._hopeless(error, attempt):
                    self._outbox.settled(outgoing)
                    self._refuse(outgoing.output, one_line(error))
                    return
                logger.warning("edgeHub: output %s: sending again: %s", outgoing.output, one_line(error))
            else:
                if outgoing.on_stored is not None:
                    _quietly(outgoing.on_stored, mono_ns())
                self._outbox.settled(outgoing)  # last: whoever waits for an empty outbox finds all noted
                return
            self._closing.wait(0.05)

    def _send_now(self, message: SdkMessage, output: str) -> None:
        assert self._client is not None
        number = self._silence.begin(f"PUBACK on output {output}", time.monotonic())
        try:
            self._client.send_message_to_output(message, output)
        finally:
            self._silence.end(number)

    def _hopeless(self, error: Exception, attempt: int) -> bool:
        """Whether the message itself is at fault: it must not hold up those behind it for ever."""
        if isinstance(error, _LOST_CONNECTION):
            return False
        return isinstance(error, ValueError) or (attempt >= _POISON_ATTEMPTS and self.connected)

    def _refuse(self, output: str, reason: str) -> None:
        with self._lock:
            self.refused += 1
        logger.error("edgeHub: output %s: message left out: %s", output, reason)

    # Receiving, on the SDK's threads: what it is sent must not end a module, so errors stop here

    def _take_message(self, received: SdkMessage) -> None:
        arrival = mono_ns()
        if (handler := self._inputs.get(received.input_name or "")) is None:
            logger.warning(
                "edgeHub: nobody takes input %s; cure: the route's input name", received.input_name
            )
            return
        _quietly(handler, _from_sdk(received), arrival)

    def _take_method(self, request: Any) -> None:
        answer = self._call_method(request.name, request.payload)
        response = MethodResponse.create_from_method_request(request, answer.status, answer.payload)
        number = self._silence.begin(f"PUBACK for the answer of method {request.name}", time.monotonic())
        try:
            assert self._client is not None
            self._client.send_method_response(response)
        except Exception as error:  # the caller has its own time-out
            logger.warning("edgeHub: method %s: not answered: %s", request.name, one_line(error))
        finally:
            self._silence.end(number)

    def _call_method(self, name: str, payload: Any) -> MethodAnswer:
        if (method := self._methods.get(name)) is None:
            return MethodAnswer(
                404, {"error": f"no method {name}; there are: {', '.join(sorted(self._methods)) or 'none'}"}
            )
        try:
            return method(payload)
        except Exception as error:
            logger.exception("method %s failed", name)
            return MethodAnswer(500, {"error": one_line(error)})

    # The twin, and the watch over all of it

    def _keep_twin(self) -> None:
        self._ready.wait()
        if (client := self._client) is None:
            return
        calls = TwinCalls(client.get_twin, client.patch_twin_reported_properties, lambda: self.connected)
        try:
            self._twin.run(calls)
        except TooManyUnanswered as error:
            self._declare_stuck(str(error))

    def _watch(self) -> None:
        while not self._closing.wait(min(1.0, self._settings.silence_s / 8)):
            now_s = time.monotonic()
            late = self._silence.overdue(now_s, connected=self.connected)
            if late is None:
                continue
            if self._accepts(late):
                self._declare_stuck(
                    f"{late.what}: accepted, but not answered in {now_s - late.since_s:.0f} s"
                )
                return
            self._silence.restart(now_s)

    def _accepts(self, late: Pending) -> bool:
        """Whether the peer takes connections: one that takes none is away, and the SDK will notice."""
        return not late.connects or self._client is None or gateway.accepts_tcp()

    def _declare_stuck(self, reason: str) -> None:
        self.stuck_reason = reason
        logger.error("edgeHub: stuck: %s", reason)
        self.stuck.set()


class OnWireMessage(SdkMessage):
    """Tells when the SDK puts it on the wire: its one thread for that reads the id, and nobody else does."""

    def __init__(self, message: Message, begun: Callable[[], None]) -> None:
        self._begun = begun
        super().__init__(  # type: ignore[no-untyped-call]
            message.body,
            content_encoding=message.content_encoding or None,
            content_type=message.content_type or None,
        )
        self._id = message.message_id or uuid.uuid4().hex
        self.custom_properties = dict(message.properties)

    @property
    def message_id(self) -> str:
        self._begun()
        return self._id

    @message_id.setter
    def message_id(self, _no_id: None) -> None:
        """The SDK's own initialiser sets it."""


def _from_sdk(sdk: SdkMessage) -> Message:
    return Message(
        body=sdk.data if isinstance(sdk.data, bytes) else str(sdk.data).encode(),
        properties={name: value or "" for name, value in sdk.custom_properties.items()},
        message_id=sdk.message_id or "",
        content_type=sdk.content_type or "",
        content_encoding=sdk.content_encoding or "",
    )


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__
    return False


def _back_off(first_s: float, max_s: float) -> Iterator[float]:
    """Pauses that double up to `max_s`, each shortened by up to half: modules must not knock together."""
    for number in itertools.count():
        yield min(max_s, first_s * 2.0 ** min(number, 30)) * random.uniform(0.5, 1.0)


def _quietly(call: Callable[..., Any], *arguments: Any) -> None:
    """Call, and log instead of raising: the thread belongs to the connection, not to the one who fails."""
    try:
        call(*arguments)
    except Exception:
        logger.exception("edgeHub: %s failed", getattr(call, "__qualname__", "a handler"))
