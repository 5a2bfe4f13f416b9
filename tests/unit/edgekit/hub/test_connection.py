"""Hub with a fake SDK client; tests/wire tests it with the real SDK."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from azure.iot.device import Message as SdkMessage
from azure.iot.device.common.transport_exceptions import TlsExchangeAuthError
from azure.iot.device.exceptions import NoConnectionError

from edgekit.frame.message import MAX_BODY_BYTES, Message
from edgekit.hub import connection
from edgekit.hub.connection import Hub, HubSettings


def hub(**settings: int) -> Hub:
    """A hub that is not started."""
    return Hub(inputs={}, on_twin=lambda _twin: None, settings=HubSettings(**settings))


def test_send_refuses_a_message_when_the_outbox_is_full() -> None:
    """The buffer is limited while the hub is away."""
    away = hub(outbox_messages=2)
    assert [away.send("frames", Message(b"x", {})) for _ in range(3)] == [True, True, False]
    assert away.unsent == 2


def test_send_refuses_an_oversized_message(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK would send it, edgeHub would close the connection, and both would repeat that for ever."""
    away = hub()
    assert not away.send("frames", Message(bytes(MAX_BODY_BYTES + 1), {}))
    assert away.unsent == 0
    assert "output frames: message not sent: body of 258049 bytes" in caplog.text


def test_close_returns_for_a_hub_that_was_never_started() -> None:
    """A module may be stopped before its hub is there."""
    away = hub()
    away.send("frames", Message(b"x", {}))
    away.close(timeout_s=0.1)
    assert away.wait_sent(timeout_s=5) == 1


class Attempts:
    """Attempts to connect at times that the test chooses; the watchdog's deadline is 40 s."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        self.hub = Hub(inputs={}, on_twin=lambda _twin: None, settings=HubSettings(watchdog_s=40))

    def fail(self, error: Exception, at_s: float) -> None:
        """One attempt raises this error."""

        def connect() -> None:
            raise error

        self.now_s = at_s
        with pytest.raises(type(error)):
            self.hub._attempt("connect", connect)

    def distrust(self, at_s: float) -> None:
        """One attempt fails because the hub's certificate does not verify."""
        error = ConnectionError("could not connect")
        error.__cause__ = TlsExchangeAuthError()
        self.fail(error, at_s)


def test_a_certificate_that_stays_untrusted_means_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the watchdog's deadline: only a new process reads another trust bundle."""
    attempts = Attempts(monkeypatch)
    for at_s in (0, 20, 40):
        attempts.distrust(at_s)
    assert not attempts.hub.stuck.is_set()
    attempts.distrust(41)
    assert attempts.hub.stuck.is_set()
    assert "trust bundle" in attempts.hub.stuck_reason


@pytest.mark.parametrize("between", ["success", "other error"])
def test_other_outcomes_restart_the_time_of_distrust(monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    """Certificate errors before a success, or before an error of another kind, no longer count."""
    attempts = Attempts(monkeypatch)
    attempts.distrust(0)
    if between == "success":
        attempts.hub._attempt("connect", lambda: None)
    else:
        attempts.fail(OSError("refused"), 20)
    attempts.distrust(41)
    assert not attempts.hub.stuck.is_set()
    attempts.distrust(82)
    assert attempts.hub.stuck.is_set()


class Client:
    """Records assignments and calls in order. Assigning a handler fails at first, as while a hub is down."""

    connected = True

    def __init__(self, failures: int) -> None:
        vars(self).update(done=[], failures=failures)

    def __setattr__(self, name: str, value: object) -> None:
        self.done.append(name)  # type: ignore[attr-defined]
        if name == "on_message_received" and self.failures:  # type: ignore[attr-defined]
            vars(self)["failures"] -= 1
            raise ConnectionError("hub is down")
        vars(self)[name] = value

    def get_twin(self) -> dict[str, Any]:
        """As the SDK's client."""
        self.done.append("get_twin")  # type: ignore[attr-defined]
        return {"desired": {"$version": 1}, "reported": {"$version": 1}}

    def patch_twin_reported_properties(self, _patch: object) -> None:
        """As the SDK's client."""

    def shutdown(self) -> None:
        """As the SDK's client."""


def test_handlers_are_assigned_in_order_and_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs first, as the SDK drops earlier messages; then methods and patches; then the twin is read."""
    client, twin_read, creations = (
        Client(failures=2),
        threading.Event(),
        [OSError("no workload socket"), None],
    )

    def create(**settings: object) -> Client:
        assert settings == {"ensure_desired_properties": False, "connection_retry_interval": 1}
        if (error := creations.pop(0)) is not None:
            raise error
        return client

    monkeypatch.setattr("edgekit.hub.connection.IoTHubModuleClient.create_from_edge_environment", create)
    monkeypatch.setattr("edgekit.hub.nagle.switch_off", lambda _client: None)
    started = Hub(
        inputs={},
        on_twin=lambda _twin: twin_read.set(),
        settings=HubSettings(retry_first_s=0.01, retry_max_s=0.01),
    )
    started.start()
    assert twin_read.wait(5)
    assert client.done == [  # type: ignore[attr-defined]
        "on_connection_state_change",
        *["on_message_received"] * 3,
        "on_method_request_received",
        "on_twin_desired_properties_patch_received",
        "get_twin",
    ]
    started.close(timeout_s=1)


class Wire(Client):
    """Reads a message's id when it writes the message, as the SDK does; `puback` ends or fails the call."""

    def __init__(self, puback: Callable[[bytes], object], *, reads_id: bool = True) -> None:
        super().__init__(failures=0)
        vars(self).update(
            sent=[], in_flight=0, most=0, lock=threading.Lock(), puback=puback, reads_id=reads_id
        )

    def send_message_to_output(self, message: SdkMessage, _output: str) -> None:
        """As the SDK's client."""
        mine, body = vars(self), bytes(message.data)
        with mine["lock"]:
            mine["in_flight"] += 1
            mine["most"] = max(mine["most"], mine["in_flight"])
            mine["sent"].append(body)
        if mine["reads_id"]:
            assert message.message_id == f"id-{body.decode()}"
        mine["puback"](body)
        with mine["lock"]:
            mine["in_flight"] -= 1


def send_and_wait(monkeypatch: pytest.MonkeyPatch, client: Wire, count: int) -> None:
    """Send `count` messages and wait until none is left."""
    monkeypatch.setattr(Hub, "_create", lambda _self: client)
    sending = hub()
    sending.start()
    for number in range(count):
        sending.send("x", Message(str(number).encode(), {}, f"id-{number}"))
    assert sending.wait_sent(timeout_s=20) == 0
    sending.close(timeout_s=1)


def test_five_messages_wait_for_their_pubacks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer than five in flight, no call would pass the barrier."""
    five = threading.Barrier(5, timeout=20)
    client = Wire(lambda _body: five.wait())
    send_and_wait(monkeypatch, client, 15)
    assert vars(client)["sent"] == [str(number).encode() for number in range(15)]
    assert vars(client)["most"] == 5


def test_messages_stay_in_order_if_the_sdk_never_reads_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release of the SDK may not read it: then one message at a time is in flight."""
    client = Wire(lambda _body: threading.Event().wait(0.002), reads_id=False)
    send_and_wait(monkeypatch, client, 12)
    assert vars(client)["sent"] == [str(number).encode() for number in range(12)]
    assert vars(client)["most"] == 1


def test_a_message_that_the_sdk_refuses_does_not_block_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ValueError gives the message up at once, and the log names its output."""

    def puback(body: bytes) -> None:
        if body == b"1":
            raise ValueError("not a message")

    client = Wire(puback)
    send_and_wait(monkeypatch, client, 3)
    assert vars(client)["sent"] == [b"0", b"1", b"2"]
    assert "output x: message not sent: ValueError: not a message" in caplog.text


def test_a_message_is_sent_again_after_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the connection is lost, the message is not given up."""
    failures = [NoConnectionError("lost")] * 7

    def puback(_body: bytes) -> None:
        if failures:
            raise failures.pop()

    client = Wire(puback)
    send_and_wait(monkeypatch, client, 1)
    assert vars(client)["sent"] == [b"0"] * 8
