"""dashboard.lease: the camera is asked while a page is open, and not otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from dashboard.lease import LEASE_S, RENEW_S, PreviewLease
from edgekit.hub.connection import CallFailed, MethodAnswer

WAIT_S = 10


class Camera:
    """Answers with `answer`, or raises it."""

    def __init__(self) -> None:
        self.answer: MethodAnswer | Exception = MethodAnswer(200, {})
        self.calls: SimpleQueue[tuple[str, Mapping[str, Any]]] = SimpleQueue()
        self.results: SimpleQueue[str] = SimpleQueue()
        self.lease = PreviewLease(self.call, self.results.put)

    def call(self, method: str, payload: Mapping[str, Any]) -> MethodAnswer:
        """As Hub.call_module for one module."""
        self.calls.put((method, payload))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Iterator[Camera]:
    """With a lease that is renewed quickly."""
    monkeypatch.setattr("dashboard.lease.RENEW_S", 0.01)
    made = Camera()
    made.lease.start()
    yield made
    made.lease.stop()


def none(calls: SimpleQueue[Any]) -> None:
    """Nothing comes for ten times the time of a renewal."""
    with pytest.raises(Empty):
        calls.get(timeout=0.1)


def test_without_a_page_the_camera_is_not_asked(camera: Camera) -> None:
    """Zero cost when nobody looks."""
    none(camera.calls)


def test_an_open_page_renews_the_lease_and_the_last_one_ends_it(camera: Camera) -> None:
    """The lease outlives two renewals that fail."""
    camera.lease.pages(1)
    for _ in range(3):
        assert camera.calls.get(timeout=WAIT_S) == ("preview", {"fps": 5, "leaseSeconds": 15})
    assert LEASE_S >= 2 * RENEW_S
    camera.lease.pages(0)
    camera.results.get(timeout=WAIT_S)
    while not camera.calls.empty():
        camera.calls.get()
    none(camera.calls)
    camera.lease.pages(1)
    camera.calls.get(timeout=WAIT_S)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (MethodAnswer(200, {"fps": 5}), ""),
        (MethodAnswer(409, {"error": "preview.allow is false"}), "preview.allow is false"),
        (MethodAnswer(500, None), "the camera answers with status 500"),
        (CallFailed("no connection to edgeHub"), "no connection to edgeHub"),
        (KeyError("x"), "KeyError"),
    ],
)
def test_the_reason_is_said_and_the_camera_is_asked_again(
    camera: Camera, answer: MethodAnswer | Exception, said: str
) -> None:
    """A failure is never the end."""
    camera.answer = answer
    camera.lease.pages(1)
    assert [camera.results.get(timeout=WAIT_S) for _ in range(2)] == [said, said]
