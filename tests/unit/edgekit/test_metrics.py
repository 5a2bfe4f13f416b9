"""The metrics listener."""

import socket
import urllib.request

import pytest
from prometheus_client import Counter

from edgekit import metrics


@pytest.mark.parametrize("listen", [None, ""])
def test_no_address_is_no_listener(monkeypatch: pytest.MonkeyPatch, listen: str | None) -> None:
    """Unset or empty starts no server."""
    started: list[object] = []
    monkeypatch.setattr(metrics, "start_http_server", lambda *where, **more: started.append((where, more)))
    metrics.serve(listen)
    assert started == []


def test_the_metrics_are_served() -> None:
    """Prometheus text at the address of METRICS_LISTEN."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    Counter("edgekit_test_figures", "A figure").inc(3)
    metrics.serve(f"127.0.0.1:{port}")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b"edgekit_test_figures_total 3.0" in answer.read()


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:x", "127.0.0.1:99999", "203.0.113.1:9600"])
def test_an_unusable_address_is_logged_and_not_fatal(listen: str, caplog: pytest.LogCaptureFixture) -> None:
    """The module runs without metrics."""
    metrics.serve(listen)
    assert f"METRICS_LISTEN={listen}" in caplog.text
