"""What Hub decides without a connection; tests/wire has the rest."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from azure.iot.device import Message as SdkMessage

from edgekit.frame.message import MAX_BODY_BYTES, Message
from edgekit.hub.connection import Hub, HubSettings


def hub(**settings: int) -> Hub:
    """A hub that is never started."""
    return Hub(inputs={}, on_twin=lambda _twin: None, settings=HubSettings(**settings))


def test_a_full_outbox_drops_and_counts() -> None:
    """Nothing is buffered without bound while the hub is away."""
    away = hub(outbox_messages=2)
    assert [away.send("frames", Message(b"x", {})) for _ in range(3)] == [True, True, False]
    assert (away.unsent, away.dropped, away.refused) == (2, 1, 0)


def test_an_oversized_message_is_refused_before_the_sdk_sees_it() -> None:
    """The SDK would send it, the hub would close, and both would repeat that for ever."""
    away = hub()
    assert not away.send("frames", Message(bytes(MAX_BODY_BYTES + 1), {}))
    assert (away.unsent, away.dropped, away.refused) == (0, 0, 1)


def test_closing_what_was_never_started_returns() -> None:
    """A module may be stopped before its hub was there."""
    away = hub()
    away.send("frames", Message(b"x", {}))
    away.close(timeout_s=0.1)
    assert away.wait_sent(timeout_s=5) == 1


class Client:
    """Notes what is done to it, in order; assigning a handler fails at first, as while a hub is down."""

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
        """The SDK's."""
        self.done.append("get_twin")  # type: ignore[attr-defined]
        return {"desired": {"$version": 1}, "reported": {"$version": 1}}

    def patch_twin_reported_properties(self, _patch: object) -> None:
        """The SDK's."""

    def shutdown(self) -> None:
        """The SDK's."""


def test_handlers_are_assigned_in_order_until_each_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs first, as earlier messages are lost; then methods, then patches; the twin is read last."""
    client, told, creations = Client(failures=2), threading.Event(), [OSError("no workload socket"), None]

    def create(**settings: object) -> Client:
        assert settings == {"ensure_desired_properties": False, "connection_retry_interval": 1}
        if (error := creations.pop(0)) is not None:
            raise error
        return client

    monkeypatch.setattr("edgekit.hub.connection.IoTHubModuleClient.create_from_edge_environment", create)
    monkeypatch.setattr("edgekit.hub.nagle.switch_off", lambda _client: None)
    started = Hub(
        inputs={},
        on_twin=lambda _twin: told.set(),
        settings=HubSettings(retry_first_s=0.01, retry_max_s=0.01),
    )
    started.start()
    assert told.wait(5)
    assert client.done == [  # type: ignore[attr-defined]
        "on_connection_state_change",
        *["on_message_received"] * 3,
        "on_method_request_received",
        "on_twin_desired_properties_patch_received",
        "get_twin",
    ]
    started.close(timeout_s=1)


class Wire(Client):
    """Its thread that writes reads a message's id first; the call ends when `puback` lets it."""

    def __init__(self, puback: Callable[[], object], *, writes: bool = True) -> None:
        super().__init__(failures=0)
        vars(self).update(sent=[], under_way=0, most=0, lock=threading.Lock(), puback=puback, writes=writes)

    def send_message_to_output(self, message: SdkMessage, _output: str) -> None:
        """The SDK's."""
        mine = vars(self)
        with mine["lock"]:
            mine["under_way"] += 1
            mine["most"] = max(mine["most"], mine["under_way"])
            mine["sent"].append(bytes(message.data))
        if mine["writes"]:
            assert message.message_id == f"id-{message.data.decode()}"
        mine["puback"]()
        with mine["lock"]:
            mine["under_way"] -= 1


def sent_through(monkeypatch: pytest.MonkeyPatch, client: Wire, count: int) -> None:
    """So many messages, and wait until all are stored."""
    monkeypatch.setattr(Hub, "_create", lambda _self: client)
    sending = hub()
    sending.start()
    for number in range(count):
        sending.send("x", Message(str(number).encode(), {}, f"id-{number}"))
    assert sending.wait_sent(timeout_s=20) == 0
    sending.close(timeout_s=1)


def test_five_messages_wait_for_their_pubacks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer, nobody would get past the barrier; with more, the hub's queue is not the only bound."""
    five = threading.Barrier(5, timeout=20)
    client = Wire(five.wait)
    sent_through(monkeypatch, client, 15)
    assert vars(client)["sent"] == [str(number).encode() for number in range(15)]
    assert vars(client)["most"] == 5


def test_a_message_that_never_says_it_is_on_its_way_keeps_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release of the SDK may read the id elsewhere: then one at a time, in order."""
    client = Wire(lambda: threading.Event().wait(0.002), writes=False)
    sent_through(monkeypatch, client, 12)
    assert vars(client)["sent"] == [str(number).encode() for number in range(12)]
    assert vars(client)["most"] == 1
