"""kill -9 of the hub at random moments under load: no acknowledged message and no twin change is lost.

Raw clients make the load: they see every PUBACK and every repeated message. The seed is printed; set it again
with HUB_KILLS_SEED.
"""

from __future__ import annotations

import contextlib
import os
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import DEVICE, ROUTES, HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from tests.wire.raw_traffic import listen, message
from twinship.bench.rig.watching import expired, metrics_page, total
from twinship.simulator.mqtt.packets import Puback, Publish, Suback, Subscribe

pytestmark = pytest.mark.e2e

FROM_SENDER = "FROM /messages/modules/sender/outputs/work INTO BrokeredEndpoint"
WITH_ABSENT_MODULES = {
    "schemaVersion": "1.1",
    "routes": {
        **ROUTES["routes"],
        "keep": f'{FROM_SENDER}("/modules/keeper/inputs/in")',
        "late": {"route": f'{FROM_SENDER}("/modules/late/inputs/in")', "timeToLiveSecs": 1},
    },
}

UPTIME_S = (0.1, 0.8)  # how long the hub lives between two kills
KILLS = 50
#: What a client sees when the hub dies at its work.
CUT_OFF = (OSError, ssl.SSLError)
CLOSED = "the hub closed the connection"
CLOUD = "&%24.ct=application%2Fjson&%24.ce=utf-8"
REPORT = "$iothub/twin/PATCH/properties/reported/?$rid={number}"


class Load:
    """A sender, a reporter and a receiver that reconnect until end() is called."""

    def __init__(self, hub: HubUnderTest) -> None:
        self.hub = hub
        self.acknowledged: list[int] = []  # PUBACKed to the sender: stored, whatever comes
        self.received: list[int] = []
        self.reported = 0  # the last number that the hub answered with 204
        self.failure: AssertionError | None = None
        self._number = 0
        self._ended = threading.Event()
        roles = (self._send, self._report, self._receive)
        # read the keys now: later the REST API is down from time to time
        self._keys = {module: hub.key(module) for module in ("sender", "reporter", "receiver")}
        self._threads = [threading.Thread(target=self._work, args=(role,)) for role in roles]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        assert self.failure is None, self.failure

    def _work(self, role: Callable[[], None]) -> None:
        while not self._ended.is_set():
            try:
                role()
            except CUT_OFF:
                pass
            except AssertionError as error:
                if CLOSED not in str(error):  # an answer that must not be, whatever was killed
                    self.failure = error
            self._ended.wait(0.02)  # until the hub is there again

    @contextlib.contextmanager
    def _connected(self, module: str) -> Iterator[RawModule]:
        with contextlib.closing(RawModule(self.hub)) as raw:
            assert raw.connect(module, key=self._keys[module]).code == 0
            raw._socket.settimeout(5)
            yield raw

    def _send(self) -> None:
        """Send one number to both destinations; the next after the hub has acknowledged both."""
        with self._connected("sender") as raw:
            while not self._ended.is_set():
                number = self._number  # one that was cut off is sent again
                raw.send(message(1, b"%d" % number))
                raw.send(message(2, b"%d" % number, "cloud", CLOUD))
                assert [raw.next(Puback).packet_id for _ in range(2)] == [1, 2]
                self.acknowledged.append(number)
                self._number += 1

    def _report(self) -> None:
        with self._connected("reporter") as raw:
            raw.send(Subscribe(1, (("$iothub/twin/res/#", 0),)))
            raw.next(Suback)
            while not self._ended.is_set():
                number = self.reported + 1
                raw.send(Publish(REPORT.format(number=number), b'{"number":%d}' % number, 1, 2))
                assert raw.next(Publish).topic.startswith("$iothub/twin/res/204/")
                self.reported = number
                assert raw.next(Puback)

    def _receive(self) -> None:
        with self._connected("receiver") as raw:
            listen(raw)
            raw._socket.settimeout(0.5)
            while not self._ended.is_set():
                with contextlib.suppress(TimeoutError):
                    self._take(raw)

    def _take(self, raw: RawModule) -> None:
        got = raw.next(Publish)
        assert got.packet_id is not None
        self.received.append(int(got.body))
        raw.send(Puback(got.packet_id))


def missing(expected: list[int], got: list[int]) -> set[int]:
    """The numbers of the first list that are not in the second."""
    return set(expected) - set(got)


@pytest.mark.long
def test_kills_under_load_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Receiver and cloud get each acknowledged message at least once; twins have the last answered value.

    Messages that expire are in the hub's count, which no kill resets.
    """
    seed = int(os.environ.get("HUB_KILLS_SEED", random.randrange(2**32)))
    print(f"HUB_KILLS_SEED={seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    with running_hub(tmp_path) as hub:
        hub.deploy("sender", "reporter", "receiver", "keeper", "late", routes=WITH_ABSENT_MODULES)
        path = f"/twins/{DEVICE}/modules/receiver"
        load = Load(hub)
        load.start()
        try:
            versions = []
            for number in range(KILLS):
                threading.Event().wait(chance.uniform(*UPTIME_S))  # the random moment itself
                twin = hub.service("PATCH", path, {"properties": {"desired": {"number": number}}})
                versions.append(twin["properties"]["desired"]["$version"])
                hub.kill()
                hub.start()
                stored = hub.service("GET", path)["properties"]["desired"]
                assert (stored["number"], stored["$version"]) == (number, versions[-1])
            done = len(load.acknowledged)
            wait_for(lambda: len(load.acknowledged) > done, "a message after the last kill")
            wait_for(lambda: not missing(load.acknowledged[:], load.received[:]), "the receiver")
        finally:
            load.end()
        upstream = [int(line["Body"]) for line in hub.upstream()]
        reported = hub.service("GET", f"/twins/{DEVICE}/modules/reporter")["properties"]["reported"]
        metrics = metrics_page(hub.folder, DEVICE)
    print(f"{KILLS} kills: {len(load.acknowledged)} acknowledged")  # noqa: T201 - the ledger
    for place, got in (("receiver", load.received), ("cloud", upstream)):
        print(f"{place}: {len(set(got))}, {len(got) - len(set(got))} of them twice")  # noqa: T201
    assert len(load.acknowledged) > KILLS
    assert versions == list(range(versions[0], versions[0] + KILLS))
    # both absent modules were sent the same; one keeps everything, of the other nearly everything expired
    kept, late = (
        total(metrics, "edgehub_queue_length", endpoint=f"{DEVICE}/{name}") for name in ("keeper", "late")
    )
    ended = expired(metrics)
    print(f"absent: {kept} kept; {late} wait, {ended} expired")  # noqa: T201
    assert late + ended == kept
    assert ended > KILLS
    assert missing(load.acknowledged, upstream) == set()
    assert upstream == sorted(upstream)
    # the last patch may have been stored without its answer having been seen
    assert reported["number"] in (load.reported, load.reported + 1)
