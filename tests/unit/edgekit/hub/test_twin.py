"""TwinLink against calls that fail in every way that the SDK's calls fail."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from edgekit.hub import twin as twin_module
from edgekit.hub.bounded_calls import TooManyUnanswered
from edgekit.hub.twin import Twin, TwinCalls, TwinLink
from edgekit.hub.watchdog import Watchdog

DOCUMENT: dict[str, Any] = {"desired": {"$version": 3, "camera": {}}, "reported": {"$version": 1}}


class Refused(Exception):
    """Like the SDK's error: the status is in the text of a cause."""


def refused(status: int) -> Exception:
    """An error that wraps the SDK's own."""
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
        """Record the patch; raise the error that the test chose."""
        self.patches.put(patch)
        if (error := self.refuses(patch)) is not None:
            raise error

    def calls(self) -> TwinCalls:
        """The calls for a TwinLink."""
        return TwinCalls(self.get, self.patch, lambda: self.up)


class Bench:
    """A running TwinLink, and the twins that it passed on."""

    def __init__(self) -> None:
        self.service = Service()
        self.twins: SimpleQueue[Twin] = SimpleQueue()
        self.link = TwinLink(self.twins.put, Watchdog(40), timeout_s=5, max_hanging=2)
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


def test_a_notification_reads_the_whole_twin(bench: Bench) -> None:
    """A notification carries no content; the handler gets the whole document."""
    bench.link.notify()
    twin = bench.twins.get(timeout=5)
    assert twin == Twin(DOCUMENT["desired"], DOCUMENT["reported"])


def test_a_failed_read_is_repeated_until_it_works(bench: Bench) -> None:
    """No second notification is needed, and `notified_ns` is the time of the first one."""
    bench.service.get_errors = [refused(500), ConnectionError("gone")]
    before = time.monotonic_ns()
    bench.link.notify()
    after = time.monotonic_ns()
    assert before <= bench.twins.get(timeout=5).notified_ns <= after
    assert bench.service.gets == 3


def test_a_handler_that_raises_gets_the_next_twin(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the handler does not end the thread."""
    failing = iter([True, False])

    def on_twin(twin: Twin) -> None:
        if next(failing):
            bench.twins.put(twin)
            raise RuntimeError("boom")
        bench.twins.put(twin)

    monkeypatch.setattr(bench.link, "_on_twin", on_twin)
    for _ in range(2):
        bench.link.notify()
        bench.twins.get(timeout=5)


def test_without_a_connection_requests_wait_for_the_next(bench: Bench) -> None:
    """A notification and a report from before are handled once the hub is back."""
    bench.service.up = False
    bench.link.report({"a": 1})
    bench.link.notify()
    assert bench.service.gets == 0
    bench.service.up = True
    bench.link.notify()
    bench.twins.get(timeout=5)
    assert bench.service.patches.get(timeout=5) == {"a": 1}


def test_a_patch_is_repeated_until_accepted(bench: Bench) -> None:
    """A busy hub (429, 503) loses no report."""
    answers: list[Exception | None] = [refused(429), refused(503), None]
    bench.service.refuses = lambda _patch: answers.pop(0)
    bench.link.report({"a": 1})
    assert [bench.service.patches.get(timeout=5) for _ in range(3)] == [{"a": 1}] * 3


def test_reports_that_follow_each_other_are_one_patch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wait_sent` does not gather any longer, and returns when the hub has accepted the patch."""
    monkeypatch.setattr(twin_module, "_GATHER_S", 60)
    answers: list[Exception | None] = [refused(503), None]
    bench.service.refuses = lambda _patch: answers.pop(0)
    bench.link.report({"model": {"state": "checking"}})
    with pytest.raises(Empty):
        bench.service.patches.get(timeout=0.1)
    bench.link.report({"a": 1})
    bench.link.report({"model": {"state": "proving"}})
    bench.link.wait_sent(timeout_s=5)
    assert [bench.service.patches.get_nowait() for _ in range(2)] == [
        {"model": {"state": "proving"}, "a": 1}
    ] * 2
    assert bench.service.patches.empty()


def test_a_twin_is_read_without_gathering(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the reports wait, also those that waited before the notification."""
    monkeypatch.setattr(twin_module, "_GATHER_S", 60)
    bench.service.up = False
    bench.link.report({"a": 1})
    bench.service.up = True
    bench.link.notify()
    bench.twins.get(timeout=5)
    assert bench.service.patches.empty()


def test_an_invalid_section_does_not_block_the_others(bench: Bench) -> None:
    """After 400 the sections are sent one by one, and only the invalid one is dropped."""
    bench.service.refuses = lambda patch: refused(400) if "bad" in patch else None
    bench.service.up = False
    bench.link.report({"bad": 1, "good": 2})
    bench.service.up = True
    bench.link.notify()
    sent = [bench.service.patches.get(timeout=5) for _ in range(3)]
    assert sent == [{"bad": 1, "good": 2}, {"bad": 1}, {"good": 2}]
    bench.link.report({"after": 4})
    assert bench.service.patches.get(timeout=5) == {"after": 4}


def test_too_many_unanswered_requests_end_run() -> None:
    """Each holds a thread, and only a new process frees them."""
    never = threading.Event()
    link = TwinLink(lambda _twin: None, Watchdog(40), timeout_s=0.01, max_hanging=1)

    def get() -> Mapping[str, Any]:
        never.wait()
        return DOCUMENT

    link.notify()
    with pytest.raises(TooManyUnanswered):
        link.run(TwinCalls(get, lambda _patch: None, lambda: True))
    never.set()


def test_an_answer_after_unanswered_requests_clears_the_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of the last connection may hang for ever; it says nothing about this connection."""
    monkeypatch.setattr(twin_module, "_PAUSE_S", 0.01)
    watchdog, release, twins = Watchdog(0.0), threading.Event(), SimpleQueue[Twin]()
    lost = iter([True, False])

    def get() -> Mapping[str, Any]:
        if next(lost):
            release.wait()
        return DOCUMENT

    link = TwinLink(twins.put, watchdog, timeout_s=0.01, max_hanging=5)
    calls = TwinCalls(get, lambda _patch: None, lambda: True)
    thread = threading.Thread(target=link.run, args=(calls,), daemon=True)
    link.notify()
    thread.start()
    twins.get(timeout=5)
    link.close()
    thread.join(5)
    assert watchdog.overdue(1e12, connected=True) is None
    release.set()
