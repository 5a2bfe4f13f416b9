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

# Both are the SDK's: its TLS, and the sockets that it leaves to the garbage collector after a failure.
pytestmark = [
    pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLSv1_2 is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning"),
]

ROUTES = {
    "there": 'FROM /messages/modules/a/outputs/x INTO BrokeredEndpoint("/modules/b/inputs/y")',
    "away": "FROM /messages/modules/a/outputs/z INTO $upstream",
}
PATIENT, QUICK = HubSettings(), HubSettings(silence_s=2.0)


class Module:
    """A module with one hub, and everything that it was told."""

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
        """Start with this module's environment and wait for the first twin: then everything is in place."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        self.hub.start()
        self.twins.get(timeout=60)
        return self

    @property
    def socket(self) -> socket.socket:
        """The live socket below the SDK."""
        found: socket.socket = nagle.paho(self.hub._client).socket()
        return found


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Wait until something is so."""
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
    """Makes connected modules, and closes them."""
    made: list[Module] = []

    def make(name: str, settings: HubSettings = PATIENT) -> Module:
        made.append(Module(simulated, name, settings).connect(monkeypatch))
        return made[-1]

    yield make
    for module in made:
        module.hub.close(timeout_s=2)


def test_messages_are_stored_in_the_order_of_send(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """Several are under way at once, and none overtakes another."""
    sender = modules("a")
    for number in range(300):
        assert sender.hub.send("z", Message(b"", {"n": str(number)}))
    assert sender.hub.wait_sent(timeout_s=60) == 0
    assert [int(line["Properties"]["n"]) for line in simulated.upstream()] == list(range(300))


def test_messages_arrive_as_they_were_sent(modules: Callable[..., Module]) -> None:
    """From output to input: body, properties, type and id; `on_stored` once for each."""
    receiver, sender = modules("b"), modules("a")
    stored: list[tuple[int, int]] = []
    before = clock.mono_ns()
    for number in range(50):
        message = Message(
            bytes([number]), {"n": str(number), "odd": "=&/%+ü"}, f"id-{number}", "image/png", "utf-8"
        )
        assert sender.hub.send("x", message, lambda at, number=number: stored.append((number, at)))  # type: ignore[misc]
    assert sender.hub.wait_sent(timeout_s=60) == 0
    assert len(stored) == 50  # every callback has returned once nothing is unsent
    received = sorted((receiver.messages.get(timeout=60) for _ in range(50)), key=lambda each: each[0].body)
    assert sorted(number for number, _at in stored) == list(range(50))
    assert all(before < at < clock.mono_ns() for _number, at in stored)
    for number, (message, arrival) in enumerate(received):
        assert message.body == bytes([number])
        assert message.message_id == f"id-{number}"
        assert (message.content_type, message.content_encoding) == ("image/png", "utf-8")
        assert {"n": str(number), "odd": "=&/%+ü"}.items() <= message.properties.items()
        assert before < arrival < clock.mono_ns()


def test_what_comes_after_the_inputs_have_ended_waits_for_the_next_process(
    modules: Callable[..., Module],
) -> None:
    """edgeHub keeps it: a message that nobody counts any more is not acknowledged by the SDK either."""
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


def test_no_message_waits_for_more_data(modules: Callable[..., Module], simulated: SimulatedHub) -> None:
    """TCP_NODELAY is set on the SDK's socket, and on the next one after the connection was lost."""
    module = modules("a")
    first = module.socket
    assert first.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    simulated.kill()
    until(lambda: not module.hub.connected)
    simulated.start()
    module.twins.get(timeout=60)
    assert module.socket is not first
    assert module.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_the_sdk_alone_leaves_nagle_on(
    modules: Callable[..., Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail."""
    monkeypatch.setattr(nagle, "switch_off", lambda _client: None)
    assert modules("a").socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0


def test_each_patch_brings_the_whole_twin(modules: Callable[..., Module], simulated: SimulatedHub) -> None:
    """The patch is a doorbell; what is told holds everything, reported included."""
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


def test_a_refused_report_leaves_the_others(modules: Callable[..., Module], simulated: SimulatedHub) -> None:
    """edgeHub answers 400 to the whole patch; the sections that are right still arrive."""
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
    """By name; one that does not exist gets an answer too, not a time-out."""
    modules("a")
    request = {"methodName": name, "payload": payload, "responseTimeoutInSeconds": 10}
    got = simulated.call("POST", "twins", DEVICE, "modules", "a", "methods", body=request)
    assert (got["status"], got["payload"]) == (status, answer)


def test_a_method_that_fails_is_a_500(modules: Callable[..., Module], simulated: SimulatedHub) -> None:
    """The caller learns why; the module goes on."""
    modules("a")
    request = {"methodName": "double", "payload": None, "responseTimeoutInSeconds": 10}
    got = simulated.call("POST", "twins", DEVICE, "modules", "a", "methods", body=request)
    assert got["status"] == 500
    assert "TypeError" in got["payload"]["error"]


def test_nothing_is_lost_while_the_hub_is_away(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """Messages wait and are sent once it is back; the twin is read again; every message arrives."""
    receiver, sender = modules("b"), modules("a")
    numbers = itertools.count()
    stop = threading.Event()

    def keep_sending() -> None:
        while not stop.wait(0.005):
            sender.hub.send("x", Message(b"", {"n": str(next(numbers))}))

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
    assert sender.hub.dropped == 0
    sent = {str(number) for number in range(1, next(numbers))}
    arrived: set[str] = set()
    while sent - arrived:
        arrived.add(receiver.messages.get(timeout=60)[0].properties["n"])
    assert not sender.hub.stuck.is_set()


def test_what_was_stored_for_an_absent_module_is_not_lost_when_it_returns(
    modules: Callable[..., Module],
) -> None:
    """The SDK acknowledges and drops what comes before its handler (ref 2.8): the handler is there first."""
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


def test_a_module_may_be_there_before_its_hub(
    simulated: SimulatedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No workload socket, no listener: both are tried until they are there; what was queued is sent."""
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


def test_a_refused_module_comes_back_when_it_is_let_in_again(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """After CONNACK 5 the SDK gives up for good (ref 2.8): Hub goes on trying."""
    module = modules("a", HubSettings(reconnect_s=0.2))
    simulated.enable(False)
    until(lambda: not module.hub.connected)
    time.sleep(1)  # long enough for the SDK's own reconnect to be refused
    assert not module.hub.connected
    simulated.enable(True)
    module.twins.get(timeout=60)
    assert module.hub.connected


def test_a_hub_that_falls_silent_is_stuck(modules: Callable[..., Module], simulated: SimulatedHub) -> None:
    """The connection stands and no PUBACK comes: after the deadline that is said with its reason."""
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
    """The trust bundle is read once, at the start: only a new process can trust the new hub."""
    module = modules("a", HubSettings(silence_s=2.0, reconnect_s=0.2))
    simulated.kill()
    (simulated.folder / "ca.key").unlink()
    simulated.start()
    assert module.hub.stuck.wait(timeout=60)
    assert "trust bundle" in module.hub.stuck_reason


def test_a_twin_that_is_never_answered_is_stuck(
    modules: Callable[..., Module], simulated: SimulatedHub
) -> None:
    """The SDK would wait for ever; requests that are repeated without an answer make one silence."""
    module = modules("a", HubSettings(silence_s=2.0, twin_timeout_s=0.3))
    simulated.freeze()
    module.hub.report({"a": 1})
    assert module.hub.stuck.wait(timeout=60)
    assert "answer to reported patch: accepted, but not answered" in module.hub.stuck_reason
    simulated.kill()


def test_closing_is_quick(modules: Callable[..., Module]) -> None:
    """An idle connection is shut down in a fraction of its second."""
    module = modules("a")
    begin = time.monotonic()
    module.hub.close(timeout_s=60)
    assert time.monotonic() - begin < 50  # and not the minute that it was given
    assert not module.hub.connected
