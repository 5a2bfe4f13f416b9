"""Hub with the real SDK against the real simulator: TLS, MQTT, twin, methods, restarts."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from edgekit import clock
from edgekit.frame.message import Message
from edgekit.hub import nagle
from edgekit.hub.connection import Hub, HubSettings, MethodAnswer, Twin
from tests.wire.simulated_hub import DEVICE, SimulatedHub

# The SDK causes both warnings: its TLS version, and the sockets that it does not close after a failure.
pytestmark = [
    pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLSv1_2 is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning"),
]

ROUTES = {
    "there": 'FROM /messages/modules/a/outputs/x INTO BrokeredEndpoint("/modules/b/inputs/y")',
    "away": "FROM /messages/modules/a/outputs/z INTO $upstream",
}
MOST_UNSENT = 400  # the outbox takes 512
PATIENT, QUICK = HubSettings(), HubSettings(watchdog_s=2.0)


class Module:
    """A module with one hub, and everything that it received."""

    def __init__(self, hub: SimulatedHub, name: str, settings: HubSettings = PATIENT) -> None:
        self.environment = hub.environment(name)
        self.messages: SimpleQueue[tuple[Message, int]] = SimpleQueue()
        self.twins: SimpleQueue[Twin] = SimpleQueue()
        self.hub = Hub(
            inputs={"y": lambda message, arrival: self.messages.put((message, arrival))},
            on_twin=self.twins.put,
            methods={"double": lambda payload: MethodAnswer(201, payload * 2)},
            settings=settings,
        )

    def connect(self, monkeypatch: pytest.MonkeyPatch) -> "Module":
        """Start in this module's environment and wait for the first twin: then all handlers are in place."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        self.hub.start()
        self.twins.get(timeout=60)
        return self

    @property
    def socket(self) -> socket.socket:
        """The open socket that the SDK uses."""
        found: socket.socket = nagle.paho(self.hub._client).socket()
        return found


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimulatedHub]:
    """A hub with modules a and b, and a route from a to b."""
    with SimulatedHub(tmp_path, modules=("a", "b"), routes=ROUTES) as hub:
        yield hub


@pytest.fixture
def modules(simulated: SimulatedHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Module]]:
    """A factory of connected modules, which are closed after the test."""
    opened: list[Module] = []

    def make(name: str, settings: HubSettings = PATIENT) -> Module:
        opened.append(Module(simulated, name, settings).connect(monkeypatch))
        return opened[-1]

    yield make
    for module in opened:
        module.hub.close(timeout_s=2)


def test_messages_are_stored_in_the_order_of_send(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """Several messages are in flight at once, and none overtakes another."""
    sender = modules("a")
    for number in range(300):
        assert sender.hub.send("z", Message(b"", {"n": str(number)}))
    assert sender.hub.wait_sent(timeout_s=60) == 0
    assert [int(line["Properties"]["n"]) for line in simulated.upstream()] == list(range(300))


def test_messages_arrive_as_they_were_sent(modules: Callable[..., Module]) -> None:
    """Body, properties, content type and id arrive unchanged; `on_stored` is called once for each message."""
    receiver, sender = modules("b"), modules("a")
    stored: list[tuple[int, int]] = []
    before = clock.mono_ns()
    for number in range(50):
        message = Message(
            bytes([number]), {"n": str(number), "odd": "=&/%+ü"}, f"id-{number}", "image/png", "utf-8"
        )
        assert sender.hub.send("x", message, lambda at, number=number: stored.append((number, at)))  # type: ignore[misc]
    assert sender.hub.wait_sent(timeout_s=60) == 0
    assert len(stored) == 50  # once nothing is unsent, every callback has returned
    received = sorted((receiver.messages.get(timeout=60) for _ in range(50)), key=lambda each: each[0].body)
    assert sorted(number for number, _at in stored) == list(range(50))
    assert all(before < at < clock.mono_ns() for _number, at in stored)
    for number, (message, arrival) in enumerate(received):
        assert message.body == bytes([number])
        assert message.message_id == f"id-{number}"
        assert (message.content_type, message.content_encoding) == ("image/png", "utf-8")
        assert {"n": str(number), "odd": "=&/%+ü"}.items() <= message.properties.items()
        assert before < arrival < clock.mono_ns()


def test_a_message_after_stop_inputs_waits_for_the_next_process(
    modules: Callable[..., Module],
) -> None:
    """The SDK does not acknowledge it, so edgeHub keeps it."""
    receiver, sender = modules("b"), modules("a")
    sender.hub.send("x", Message(b"before", {}))
    assert receiver.messages.get(timeout=60)[0].body == b"before"
    receiver.hub.stop_inputs(timeout_s=60)
    sender.hub.send("x", Message(b"after", {}))
    assert sender.hub.wait_sent(timeout_s=60) == 0
    assert receiver.hub.send("x", Message(b"still sending", {}))
    assert receiver.hub.wait_sent(timeout_s=60) == 0
    receiver.hub.close(timeout_s=2)
    assert receiver.messages.empty()
    assert modules("b").messages.get(timeout=60)[0].body == b"after"


def test_a_message_is_acknowledged_after_its_handler(modules: Callable[..., Module]) -> None:
    """A message whose handler has not returned when the connection ends is delivered again."""
    receiver, sender = modules("b"), modules("a")
    bodies: SimpleQueue[bytes] = SimpleQueue()

    def cut_at_first(message: Message, _arrival: int) -> None:
        if bodies.empty():
            receiver.socket.shutdown(socket.SHUT_RDWR)
        bodies.put(message.body)

    receiver.hub._inputs["y"] = cut_at_first
    assert sender.hub.send("x", Message(b"frame", {}))
    assert [bodies.get(timeout=60) for _ in range(2)] == [b"frame", b"frame"]


def test_nagles_algorithm_is_off(modules: Callable[..., Module], simulated: SimulatedHub) -> None:
    """TCP_NODELAY is set on the SDK's socket, and on the next socket after a lost connection."""
    module = modules("a")
    first = module.socket
    assert first.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    simulated.kill()
    until(lambda: not module.hub.connected)
    simulated.start()
    module.twins.get(timeout=60)
    assert module.socket is not first
    assert module.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_the_sdk_alone_leaves_nagles_algorithm_on(
    modules: Callable[..., Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counter-proof for the test above."""
    monkeypatch.setattr(nagle, "switch_off", lambda _client: None)
    assert modules("a").socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0


def test_each_patch_makes_the_module_read_the_whole_twin(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """The handler gets all sections, and the reported half too."""
    module = modules("a")
    simulated.desire("a", camera={"fps": 5})
    assert module.twins.get(timeout=60).desired["camera"] == {"fps": 5}
    module.hub.report({"camera": {"ac": 200}, "gone": 1})
    module.hub.report({"gone": None})
    until(lambda: simulated.twin("a")["reported"].get("camera") == {"ac": 200})
    simulated.desire("a", inference={"topK": 3})
    twin = module.twins.get(timeout=60)
    assert twin.desired["camera"] == {"fps": 5}
    assert twin.desired["inference"] == {"topK": 3}
    assert twin.reported["camera"] == {"ac": 200}
    assert "gone" not in twin.reported


def test_a_report_before_the_end_is_in_the_twin(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """A module reports its counters when it stops; `wait_sent` waits until edgeHub has them."""
    module = modules("a")
    module.hub.report({"counters": {"answered": 7}})
    assert module.hub.wait_sent(timeout_s=60) == 0
    assert simulated.twin("a")["reported"]["counters"] == {"answered": 7}


def test_an_invalid_section_does_not_block_the_others(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """edgeHub answers 400 to the whole patch; the valid sections still arrive."""
    module = modules("a")
    module.hub.report({"wrong": "x" * 5_000, "right": 1})
    until(lambda: simulated.twin("a")["reported"].get("right") == 1)
    assert "wrong" not in simulated.twin("a")["reported"]


@pytest.mark.parametrize(
    ("name", "payload", "status", "answer"),
    [("double", 21, 201, 42), ("halve", 21, 404, {"error": "no method halve; there are: double"})],
)
def test_methods_are_answered(
    modules: Callable[..., Module], simulated: SimulatedHub, name: str, payload: Any, status: int, answer: Any
) -> None:
    """By name; a call of an unknown method is answered with 404, not with a time-out."""
    modules("a")
    request = {"methodName": name, "payload": payload, "responseTimeoutInSeconds": 10}
    got = simulated.call("POST", "twins", DEVICE, "modules", "a", "methods", body=request)
    assert (got["status"], got["payload"]) == (status, answer)


def test_a_method_that_fails_is_a_500(modules: Callable[..., Module], simulated: SimulatedHub) -> None:
    """The answer names the error; the module keeps running."""
    modules("a")
    request = {"methodName": "double", "payload": None, "responseTimeoutInSeconds": 10}
    got = simulated.call("POST", "twins", DEVICE, "modules", "a", "methods", body=request)
    assert got["status"] == 500
    assert "TypeError" in got["payload"]["error"]


def test_no_message_is_lost_while_the_hub_is_away(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """Messages wait until the hub is back; the twin is read again; every message arrives."""
    receiver, sender = modules("b"), modules("a")
    numbers = itertools.count()
    accepted: list[bool] = []
    stop = threading.Event()

    def keep_sending() -> None:
        while not stop.wait(0.005):
            if sender.hub.unsent >= MOST_UNSENT:
                continue  # a slow machine needs long for the new hub
            accepted.append(sender.hub.send("x", Message(b"", {"n": str(next(numbers))})))

    thread = threading.Thread(target=keep_sending, daemon=True)
    thread.start()
    receiver.messages.get(timeout=60)
    simulated.kill()
    until(lambda: not sender.hub.connected and not receiver.hub.connected)
    until(lambda: sender.hub.unsent > 20)
    simulated.start()
    sender.twins.get(timeout=60)
    receiver.twins.get(timeout=60)
    stop.set()
    thread.join()
    assert sender.hub.wait_sent(timeout_s=60) == 0
    assert all(accepted)
    sent = {str(number) for number in range(1, next(numbers))}
    arrived: set[str] = set()
    while sent - arrived:
        arrived.add(receiver.messages.get(timeout=60)[0].properties["n"])
    assert not sender.hub.stuck.is_set()


def test_messages_stored_for_an_absent_module_arrive_when_it_returns(
    modules: Callable[..., Module],
) -> None:
    """The SDK acknowledges and drops messages without a handler (ref 2.8); Hub assigns it first."""
    modules("b").hub.close(timeout_s=2)
    sender = modules("a")
    for number in range(20):
        sender.hub.send("x", Message(bytes([number]), {}))
    assert sender.hub.wait_sent(timeout_s=60) == 0
    receiver = modules("b")
    bodies = {
        receiver.messages.get(timeout=90)[0].body for _ in range(20)
    }  # edgeHub may back off for a minute
    assert bodies == {bytes([number]) for number in range(20)}


def test_a_module_may_start_before_its_hub(simulated: SimulatedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It retries the workload socket and the listener until both exist, then sends queued messages."""
    module = Module(simulated, "a")
    for name, value in module.environment.items():
        monkeypatch.setenv(name, value)
    simulated.kill()
    Path(module.environment["IOTEDGE_WORKLOADURI"].removeprefix("unix://")).unlink(missing_ok=True)
    module.hub.start()
    assert module.hub.send("x", Message(b"early", {}))
    assert module.hub.wait_sent(timeout_s=0.5) == 1
    simulated.start()
    module.twins.get(timeout=60)
    assert module.hub.wait_sent(timeout_s=60) == 0
    module.hub.close(timeout_s=2)


def test_a_disabled_module_reconnects_when_it_is_enabled(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """After CONNACK 5 the SDK gives up for ever (ref 2.8); Hub keeps trying."""
    module = modules("a", HubSettings(reconnect_s=0.2))
    simulated.enable(False)
    until(lambda: not module.hub.connected)
    time.sleep(1)  # long enough for the SDK's own reconnect to be refused
    assert not module.hub.connected
    simulated.enable(True)
    until(lambda: module.hub.connected, 60)


def test_a_hub_that_sends_no_puback_is_stuck(modules: Callable[..., Module], simulated: SimulatedHub) -> None:
    """The connection is open, but no PUBACK comes: after the deadline `stuck_reason` names the request."""
    module = modules("a", QUICK)
    simulated.freeze()
    module.hub.send("x", Message(b"", {}))
    assert module.hub.stuck.wait(timeout=60)
    assert module.hub.stuck_reason.startswith("PUBACK on output x: accepted, but not answered")
    begin = time.monotonic()
    module.hub.close(timeout_s=0.5)
    assert time.monotonic() - begin < 45  # the SDK alone holds on for a minute
    simulated.kill()


def test_a_hub_with_another_authority_is_stuck(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """The module reads the trust bundle once, at the start: only a new process can trust the new hub."""
    module = modules("a", HubSettings(watchdog_s=2.0, reconnect_s=0.2))
    simulated.kill()
    (simulated.folder / "ca.key").unlink()
    simulated.start()
    assert module.hub.stuck.wait(timeout=60)
    assert "trust bundle" in module.hub.stuck_reason


def test_a_twin_that_is_never_answered_is_stuck(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """The SDK would wait for ever; repeated requests without an answer count as one wait."""
    module = modules("a", HubSettings(watchdog_s=2.0, twin_timeout_s=0.3))
    simulated.freeze()
    module.hub.report({"a": 1})
    assert module.hub.stuck.wait(timeout=60)
    assert "answer to reported patch: accepted, but not answered" in module.hub.stuck_reason
    simulated.kill()


def test_closing_is_quick(modules: Callable[..., Module]) -> None:
    """An idle connection closes long before its time-out."""
    module = modules("a")
    begin = time.monotonic()
    module.hub.close(timeout_s=60)
    assert time.monotonic() - begin < 50  # not the time-out of a minute
    assert not module.hub.connected
