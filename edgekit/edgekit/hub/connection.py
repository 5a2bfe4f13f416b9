"""A module's connection to edgeHub, on the device SDK: connects, stays connected, detects a stuck peer."""

import functools
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Any

from azure.iot.device import IoTHubModuleClient, MethodResponse
from azure.iot.device import Message as SdkMessage
from azure.iot.device.common.transport_exceptions import TlsExchangeAuthError

from edgekit.clock import mono_ns
from edgekit.frame.message import Message
from edgekit.hub import gateway, inputs, nagle, receiving
from edgekit.hub.bounded_calls import TooManyUnanswered
from edgekit.hub.calling import CallFailed, call_module
from edgekit.hub.on_wire_message import from_sdk
from edgekit.hub.outbox import Outbox
from edgekit.hub.sending import Sender, call_and_log
from edgekit.hub.twin import Twin, TwinCalls, TwinLink
from edgekit.hub.watchdog import Pending, Watchdog
from edgekit.log import one_line

__all__ = ["CallFailed", "Hub", "HubSettings", "MethodAnswer", "Twin"]

logger = logging.getLogger(__name__)

# Messages that may wait for their PUBACKs at once, each on its own thread because the SDK's call blocks until
# then. With one thread, most of the time is spent waiting for the hub and for the SDK's threads.
_IN_FLIGHT = 5
_HANDED_OVER_S = 0.05  # the SDK's threads hand over what came before edgeHub confirmed the unsubscribe


@dataclass(frozen=True)
class MethodAnswer:
    """The answer to a direct method: an HTTP-like status and a JSON value."""

    status: int
    payload: Any


@dataclass(frozen=True)
class HubSettings:
    """Limits and time-outs of the connection."""

    outbox_messages: int = 512
    outbox_bytes: int = 16 * 1024 * 1024
    twin_timeout_s: float = 10.0  # the SDK has none: if an answer is lost, the call hangs for ever (ref 2.6)
    watchdog_s: float = 40.0  # unanswered for longer is stuck; the SDK repeats a SUBSCRIBE after 30 (ref 2.8)
    retry_first_s: float = 0.1
    retry_max_s: float = 2.0
    reconnect_s: float = 5.0  # connect ourselves after so long: the SDK may have given up (ref 2.8)
    max_hanging: int = 16  # twin requests without an answer, each of which holds a thread for ever


class Hub:
    """The connection. Thread-safe; `stop_inputs`, `wait_sent` and `close` block until their time-out."""

    def __init__(
        self,
        *,
        inputs: Mapping[str, Callable[[Message, int], None]],
        on_twin: Callable[[Twin], None],
        methods: Mapping[str, Callable[[Any], MethodAnswer]] | None = None,
        settings: HubSettings = HubSettings(),
    ) -> None:
        """Prepare the connection; `start` connects.

        `inputs`: by input name, called with a message and its arrival (CLOCK_MONOTONIC ns) in order, on the
        SDK's network thread, which must not wait. edgeHub delivers a message again until its call has
        returned. `on_twin`: called on one thread with the newest whole twin after every connect and every
        desired patch. `methods`: by name, called with the payload.
        """
        self._inputs = dict(inputs)
        self._methods = dict(methods or {})
        self._settings = settings
        self._client: IoTHubModuleClient | None = None
        self._watchdog = Watchdog(settings.watchdog_s)
        self._lock = Lock()
        self._ready = False  # every handler is in place
        self._up = Event()  # ready and connected; `close` sets it, too, to wake the senders
        self._closing = Event()
        self._down_since_s = time.monotonic()
        self._distrusted_since_s: float | None = None
        self._outbox = Outbox(settings.outbox_messages, settings.outbox_bytes)
        self._sender = Sender(self._outbox, self._watchdog, up=self._up, closing=self._closing)
        self._twin = TwinLink(
            on_twin, self._watchdog, timeout_s=settings.twin_timeout_s, max_hanging=settings.max_hanging
        )
        #: set when only a new process can restore the connection; `stuck_reason` says why
        self.stuck = Event()
        self.stuck_reason = ""

    def start(self) -> None:
        """Connect in the background, and stay connected."""
        _start_thread("hub-connect", self._connect)
        _start_thread("hub-watchdog", self._watch)

    @property
    def connected(self) -> bool:
        """Whether the SDK has a connection now."""
        client = self._client
        return client is not None and bool(client.connected)

    @property
    def unsent(self) -> int:
        """How many messages are not acknowledged yet."""
        return len(self._outbox)

    def send(self, output: str, message: Message, on_stored: Callable[[int], None] | None = None) -> bool:
        """Queue a message. False: the outbox is full, or no hub would accept the message.

        Messages are sent in order and at least once; a repeat may arrive after its successors. A message
        without an id gets one, so that the receiver can detect repeats. `on_stored` is called with the
        CLOCK_MONOTONIC ns of the PUBACK, on up to five threads at once.
        """
        return self._sender.put(output, message, on_stored)

    def report(self, patch: Mapping[str, Any]) -> None:
        """Queue a reported patch; it is retried until the hub accepts it or refuses it as invalid."""
        self._twin.report(patch)

    def call_module(self, module: str, name: str, payload: Any) -> MethodAnswer:
        """Call a direct method of another module of this device; not from a thread of the hub.

        Blocks for ten seconds at most. Raises CallFailed if there is no answer.
        """
        client = self._client
        if client is None or not client.connected:
            raise CallFailed("no connection to edgeHub")
        return MethodAnswer(*call_module(client, module, name, payload))

    def stop_inputs(self, timeout_s: float) -> None:
        """Receive no more messages; edgeHub keeps them for the next process.

        Returns when edgeHub has confirmed it, or after `timeout_s`; at once without a connection.
        """
        if self.connected and inputs.stop(self._client, timeout_s):
            self._closing.wait(_HANDED_OVER_S)

    def wait_sent(self, timeout_s: float) -> int:
        """Wait until every message and report is acknowledged.

        Returns how many messages are not after `timeout_s`. Reports are waited for only while connected.
        """
        deadline_s = time.monotonic() + timeout_s
        left = self._outbox.wait_empty(timeout_s)
        if self.connected:
            self._twin.wait_sent(max(0.0, deadline_s - time.monotonic()))
        return left

    def close(self, timeout_s: float) -> None:
        """Disconnect. Returns after `timeout_s` even if the SDK's threads hang."""
        with self._lock:
            self._closing.set()
            self._up.set()
        self._outbox.close()
        self._twin.close()
        if (client := self._client) is not None:
            _start_thread("hub-shutdown", call_and_log, client.shutdown).join(timeout_s)

    # Connecting

    def _connect(self) -> None:
        self._client = client = self._retry("workload API", self._create)
        # The message handler is first: the SDK acknowledges and drops messages that come before it (ref 2.8).
        # Assigning a handler connects, and raises while the hub is down.
        for name, handler in (
            ("on_message_received", self._take_message),
            ("on_method_request_received", self._take_method),
            ("on_twin_desired_properties_patch_received", lambda _patch: self._twin.notify()),
        ):
            self._retry(name, functools.partial(setattr, client, name, handler))
        self._ready = True
        self._connection_changed()
        _start_thread("hub-twin", self._run_twin, client)
        for _ in range(_IN_FLIGHT):
            _start_thread("hub-sender", self._sender.run, client)
        while not self._closing.wait(1.0):
            self._reconnect_if_down(client)

    def _create(self) -> IoTHubModuleClient:
        # The SDK's own twin request fails on a fresh session (ref 2.6); TwinLink replaces it. The SDK waits
        # 10 s between two attempts by default, which is long for a hub on the same device.
        client = IoTHubModuleClient.create_from_edge_environment(
            ensure_desired_properties=False, connection_retry_interval=1
        )
        nagle.switch_off(client)
        receiving.before_puback(client, self._take_message)
        client.on_connection_state_change = self._connection_changed  # type: ignore[assignment]
        return client

    def _retry(self, name: str, call: Callable[[], Any]) -> Any:
        """Call until it succeeds. Ends this thread (SystemExit) when closing."""
        for pause_s in _back_off(self._settings.retry_first_s, self._settings.retry_max_s):
            try:
                return self._attempt(name, call)
            except Exception as error:
                logger.warning("edgeHub: %s: trying again: %s", name, one_line(error))
            if self._closing.wait(pause_s):
                break
        raise SystemExit

    def _attempt(self, name: str, call: Callable[[], Any]) -> Any:
        request = self._watchdog.begin(name, time.monotonic(), connecting=True)
        try:
            result = call()
        except Exception as error:
            self._note_distrust(error)
            raise
        finally:
            self._watchdog.end(request)
        self._distrusted_since_s = None
        return result

    def _note_distrust(self, error: BaseException) -> None:
        """Certificate errors for `watchdog_s`: stuck, as only a new process reads the trust bundle again."""
        now_s = time.monotonic()
        if not _caused_by(error, TlsExchangeAuthError):
            self._distrusted_since_s = None
        elif self._distrusted_since_s is None:
            self._distrusted_since_s = now_s
        elif now_s - self._distrusted_since_s > self._settings.watchdog_s:
            self._declare_stuck("edgeHub's certificate does not verify with the trust bundle read at start")

    def _reconnect_if_down(self, client: IoTHubModuleClient) -> None:
        """Called once a second: handles a missed event, and a connection that the SDK has given up."""
        if client.connected:
            if not self._up.is_set():
                self._connection_changed()
        elif time.monotonic() - self._down_since_s > self._settings.reconnect_s:
            self._down_since_s = time.monotonic()
            try:
                self._attempt("connect", client.connect)
            except Exception as error:
                logger.warning("edgeHub: still not connected: %s", one_line(error))

    def _connection_changed(self) -> None:
        """The SDK says only that something changed, possibly twice, and on several threads at once."""
        with self._lock:
            if self._closing.is_set() or not self._ready:
                return
            was_up, is_up = self._up.is_set(), self.connected
            if is_up:
                self._up.set()
            elif was_up:
                self._up.clear()
                self._down_since_s = time.monotonic()
        self._watchdog.restart(time.monotonic())
        if is_up:
            self._twin.notify()
        if is_up != was_up:
            logger.info("edgeHub: %s, %d unsent", "connected" if is_up else "disconnected", self.unsent)

    # Receiving, on the SDK's threads. No exception may reach the SDK, and no input may wait.

    def _take_message(self, received: SdkMessage) -> None:
        arrival = mono_ns()
        if (handler := self._inputs.get(received.input_name or "")) is None:
            logger.warning(
                "edgeHub: this module has no input %s; cure: the route's input name", received.input_name
            )
            return
        call_and_log(handler, from_sdk(received), arrival)

    def _take_method(self, method: Any) -> None:
        answer = self._call_method(method.name, method.payload)
        response = MethodResponse.create_from_method_request(method, answer.status, answer.payload)
        request = self._watchdog.begin(f"PUBACK for the answer of method {method.name}", time.monotonic())
        try:
            assert self._client is not None
            self._client.send_method_response(response)
        except Exception as error:  # the caller has its own time-out
            logger.warning("edgeHub: method %s: not answered: %s", method.name, one_line(error))
        finally:
            self._watchdog.end(request)

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

    # The twin, and the watchdog

    def _run_twin(self, client: IoTHubModuleClient) -> None:
        calls = TwinCalls(client.get_twin, client.patch_twin_reported_properties, lambda: self.connected)
        try:
            self._twin.run(calls)
        except TooManyUnanswered as error:
            self._declare_stuck(str(error))

    def _watch(self) -> None:
        while not self._closing.wait(min(1.0, self._settings.watchdog_s / 8)):
            now_s = time.monotonic()
            late = self._watchdog.overdue(now_s, connected=self.connected)
            if late is None:
                continue
            if self._peer_accepts(late):
                self._declare_stuck(
                    f"{late.request}: accepted, but not answered in {now_s - late.since_s:.0f} s"
                )
                return
            self._watchdog.restart(now_s)

    def _peer_accepts(self, late: Pending) -> bool:
        """Whether the peer accepts connections. If it does not, it is away, and the SDK will notice."""
        return not late.connecting or self._client is None or gateway.accepts_tcp()

    def _declare_stuck(self, reason: str) -> None:
        self.stuck_reason = reason
        logger.error("edgeHub: stuck: %s", reason)
        self.stuck.set()


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__
    return False


def _back_off(first_s: float, max_s: float) -> Iterator[float]:
    """Pauses that double up to `max_s`, each shortened at random: modules must not reconnect together."""
    for number in itertools.count():
        yield min(max_s, first_s * 2.0 ** min(number, 30)) * random.uniform(0.5, 1.0)


def _start_thread(name: str, work: Callable[..., None], *arguments: Any) -> Thread:
    thread = Thread(target=work, args=arguments, name=name, daemon=True)
    thread.start()
    return thread
