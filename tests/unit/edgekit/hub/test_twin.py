"""The twin's doorbell and the reported patches, against calls that fail in every way the SDK's do."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any

import pytest

from edgekit.hub import twin as twin_module
from edgekit.hub.bounded_calls import TooManyUnanswered
from edgekit.hub.twin import Twin, TwinCalls, TwinLink
from edgekit.hub.watchdog import Watchdog

DOCUMENT: dict[str, Any] = {"desired": {"$version": 3, "camera": {}}, "reported": {"$version": 1}}


class Refused(Exception):
    """As the SDK says it: the status is in the text of a cause."""


def refused(status: int) -> Exception:
    """An error around the SDK's own."""
    error = Refused("Unexpected failure")
    error.__cause__ = Exception(f"twin operation returned status {status}")
    return error


class Service:
    """A twin service whose next answers are chosen by the test."""

    def __init__(self) -> None:
        self.up = True
        self.gets = 0
        self.get_errors: list[Exception] = []
        self.patches: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.refuses: Callable[[Mapping[str, Any]], Exception | None] = lambda _patch: None

    def get(self) -> Mapping[str, Any]:
        """The document, or the next error."""
        self.gets += 1
        if self.get_errors:
            raise self.get_errors.pop(0)
        return DOCUMENT

    def patch(self, patch: dict[str, Any]) -> None:
        """Note the patch; refuse what the test wants refused."""
        self.patches.put(patch)
        if (error := self.refuses(patch)) is not None:
            raise error

    def calls(self) -> TwinCalls:
        """What a TwinLink is given."""
        return TwinCalls(self.get, self.patch, lambda: self.up)


class Bench:
    """A TwinLink that runs, and what it told."""

    def __init__(self) -> None:
        self.service = Service()
        self.told: SimpleQueue[Twin] = SimpleQueue()
        self.link = TwinLink(self.told.put, Watchdog(40), timeout_s=5, max_hanging=2)
        self.thread = threading.Thread(target=self.link.run, args=(self.service.calls(),), daemon=True)
        self.thread.start()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A running link with short pauses."""
    monkeypatch.setattr(twin_module, "_PAUSE_S", 0.01)
    bench = Bench()
    yield bench
    bench.link.close()
    bench.thread.join(5)
    assert not bench.thread.is_alive()


def test_a_ring_reads_the_whole_twin(bench: Bench) -> None:
    """A patch is a doorbell: what is told is the whole document."""
    bench.link.ring()
    twin = bench.told.get(timeout=5)
    assert twin == Twin(DOCUMENT["desired"], DOCUMENT["reported"])


def test_a_failed_read_is_repeated_until_it_works(bench: Bench) -> None:
    """Nobody rings again for a twin that could not be read; it still says when somebody rang."""
    bench.service.get_errors = [refused(500), ConnectionError("gone")]
    before = time.monotonic_ns()
    bench.link.ring()
    after = time.monotonic_ns()
    assert before <= bench.told.get(timeout=5).rung <= after
    assert bench.service.gets == 3


def test_a_module_that_fails_on_a_twin_is_told_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad twin must not end the thread that reads them all."""
    failing = iter([True, False])

    def tell(twin: Twin) -> None:
        if next(failing):
            bench.told.put(twin)
            raise RuntimeError("boom")
        bench.told.put(twin)

    monkeypatch.setattr(bench.link, "_tell", tell)
    for _ in range(2):
        bench.link.ring()
        bench.told.get(timeout=5)


def test_without_a_connection_nothing_is_asked_and_nothing_forgotten(bench: Bench) -> None:
    """A ring while the hub is away is answered once it is back."""
    bench.service.up = False
    bench.link.report({"a": 1})
    bench.link.ring()
    assert bench.service.gets == 0
    bench.service.up = True
    bench.link.ring()
    bench.told.get(timeout=5)
    assert bench.service.patches.get(timeout=5) == {"a": 1}


def test_a_patch_is_repeated_until_taken(bench: Bench) -> None:
    """A hub that is busy loses no report."""
    answers: list[Exception | None] = [refused(429), refused(503), None]
    bench.service.refuses = lambda _patch: answers.pop(0)
    bench.link.report({"a": 1})
    assert [bench.service.patches.get(timeout=5) for _ in range(3)] == [{"a": 1}] * 3


def test_a_refused_section_takes_no_other_with_it(bench: Bench) -> None:
    """400 for the whole is an answer about one section: sent one by one, only the wrong one is left out."""
    bench.service.refuses = lambda patch: refused(400) if "bad" in patch else None
    bench.service.up = False
    bench.link.report({"bad": 1, "good": 2})
    bench.service.up = True
    bench.link.ring()
    sent = [bench.service.patches.get(timeout=5) for _ in range(3)]
    assert sent == [{"bad": 1, "good": 2}, {"bad": 1}, {"good": 2}]
    bench.link.report({"after": 4})
    assert bench.service.patches.get(timeout=5) == {"after": 4}


def test_requests_that_are_never_answered_end_the_link() -> None:
    """Each holds a thread; when there are too many, only a new process helps."""
    never = threading.Event()
    link = TwinLink(lambda _twin: None, Watchdog(40), timeout_s=0.01, max_hanging=1)

    def get() -> Mapping[str, Any]:
        never.wait()
        return DOCUMENT

    link.ring()
    with pytest.raises(TooManyUnanswered):
        link.run(TwinCalls(get, lambda _patch: None, lambda: True))
    never.set()


def test_an_answer_after_unanswered_requests_ends_the_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was lost with the last connection hangs for ever, and says nothing about this one."""
    monkeypatch.setattr(twin_module, "_PAUSE_S", 0.01)
    silence, release, told = Watchdog(0.0), threading.Event(), SimpleQueue[Twin]()
    lost = iter([True, False])

    def get() -> Mapping[str, Any]:
        if next(lost):
            release.wait()
        return DOCUMENT

    link = TwinLink(told.put, silence, timeout_s=0.01, max_hanging=5)
    calls = TwinCalls(get, lambda _patch: None, lambda: True)
    thread = threading.Thread(target=link.run, args=(calls,), daemon=True)
    link.ring()
    thread.start()
    told.get(timeout=5)
    link.close()
    thread.join(5)
    assert silence.overdue(1e12, connected=True) is None
    release.set()
