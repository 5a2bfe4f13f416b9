"""A short run of scenario `hub`: the test checks that messages arrive, and only the bench judges times."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinship.bench.catalogue import Bench
from twinship.bench.peers import mosquitto
from twinship.bench.scenarios.hub import endpoint, hub

pytestmark = pytest.mark.e2e


def test_the_hop_is_measured_through_the_hub_and_through_mosquitto(tmp_path: Path) -> None:
    """Every message arrives once and in order, and the clients do not limit the rate."""
    bench = Bench(tmp_path, (tmp_path, tmp_path), tmp_path, lambda text, share: None)
    figures = hub.run(bench, hub.Extent(starts=1, pairs=20, stream=300, warm_up=100))
    named = {
        "hop_p50_ms",
        "hop_p99_ms",
        "pairs_per_s",
        "per_s",
        "load_share",
        "start_s",
        "idle_mb",
        "growth_mb_200k",
    }
    assert figures.keys() - {"mosquitto"} == named
    assert 0 < figures["hop_p50_ms"] <= figures["hop_p99_ms"]
    assert 0 < figures["load_share"] <= hub.MOST_LOAD
    assert ("mosquitto" in figures) == (mosquitto.program() is not None)


def test_readers_of_the_endpoint_are_measured_beside_the_hop(tmp_path: Path) -> None:
    """A live reader and one of the backlog get every message; only the bench judges times."""
    bench = Bench(tmp_path, (tmp_path, tmp_path), tmp_path, lambda text, share: None)
    figures = endpoint.run(bench, endpoint.Extent(messages=200, during_backlog=50))
    hop = {"hop_p50_ms", "hop_p99_ms", "pairs_per_s"}
    assert figures["floor"].keys() == hop
    assert figures["live"].keys() == hop | {"per_s", "lag_p50_ms", "lag_p99_ms"}
    assert figures["backlog"].keys() == hop | {"per_s"}
    assert 0 < figures["live"]["lag_p50_ms"] <= figures["live"]["lag_p99_ms"]
    assert figures["floor"]["pairs_per_s"] <= endpoint.RATE
    assert figures["idle_mb"] > 0
