"""Short runs of bench scenarios: the tests check counts, and only the bench itself judges times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.delay import scenario
from twinship.bench.scenarios.modules import costly, ledger, overload, sdk
from twinship.bench.scenarios.soak import scenario as soak

pytestmark = pytest.mark.e2e


@pytest.fixture
def bench(tmp_path: Path, models: Path) -> Bench:
    """Scratch space, and the models that all end-to-end tests share."""
    scratch = tmp_path / "scratch" / "scenario"
    scratch.mkdir(parents=True)
    artefacts = (models / "1.0.0" / "model.tflite", models / "1.1.0" / "model.tflite")
    return Bench(scratch, artefacts, models / "1.0.0" / "frames", lambda text, share: None)


def check_overload(bench: Bench, extent: overload.Extent) -> None:
    """Every frame is counted, the queue is limited by the credit, drops have a reason, memory is bounded."""
    figures = overload.run(bench, extent)
    frames = figures["frames"]
    assert frames["lost"] == frames["counted_twice"] == 0, frames
    assert 0 < frames["answered"] < frames["frames"]
    assert set(frames["dropped"]) <= {"overload", "stopped"}
    assert figures["queue_max"] <= figures["credit"]
    timed = ("p50 under load", "after inference was")
    assert [line for line in overload.shortcomings(figures) if not line.startswith(timed)] == []


@pytest.mark.long
def test_every_frame_is_counted_under_overload(bench: Bench) -> None:
    """There are five times too many frames; then inference is frozen, and then ended and started again."""
    check_overload(bench, overload.Extent(unloaded_s=0.5, loaded_s=1.5, away_s=0.5))


@pytest.mark.long
def test_every_frame_is_counted_during_a_long_absence_of_inference(bench: Bench) -> None:
    """The absence is longer than the time to live of frames; the hub counts those that expire."""
    check_overload(bench, overload.Extent(unloaded_s=5, loaded_s=60, away_s=30))


@pytest.mark.long
@pytest.mark.parametrize("victims", [("hub", "camera_sim"), soak.VICTIMS], ids=["not-inference", "all"])
def test_every_frame_is_counted_through_swaps_link_cuts_and_kills(
    bench: Bench, victims: tuple[str, ...]
) -> None:
    """Every frame is in exactly one count, whichever process is killed."""
    extent = replace(soak.Extent().scaled(0.004), victims=victims)
    figures = soak.run(bench, extent)
    frames = figures["frames"]
    assert frames["counted_twice"] == 0, frames
    assert frames["lost"] == 0, frames
    assert frames["answered"] > extent.steady_s * 10
    assert figures["kills"].keys() == set(victims)
    assert figures["swaps"] >= 1
    assert figures["cuts"]
    assert figures["restarts"] == 0
    assert all(len(columns["at_s"]) > 10 for columns in figures["samples"].values())


@pytest.mark.long
def test_bytes_are_counted_on_the_shaped_link(bench: Bench) -> None:
    """A frame takes its picture and its properties at every bandwidth, and a model its twin section."""
    extent = scenario.Extent(
        frames=2, bandwidths=(250_000, 1_000_000), delays_s=(0.005,), model_bandwidths=(200_000,)
    )
    figures = scenario.run(bench, extent)
    sizes = [point["data_bytes"] for point in figures["frames"]]
    assert all(scenario.SIDE**2 < size < scenario.SIDE**2 + 1_500 for size in sizes)
    (model,) = figures["models"]
    assert model["data_bytes"] > bench.models[1].stat().st_size
    assert all(point["measured_s"] > point["data_bytes"] / point["bandwidth"] for point in figures["frames"])


def test_the_ledger_and_the_hub_count_the_same_frames(bench: Bench) -> None:
    """Each answered frame has all stages on one clock, a publish time, and is in one window."""
    found = ledger.run(bench, frames=100)
    assert (found.frames, found.windowed, found.without_publish, found.wall) == (100, 100, 0, 0)


@pytest.mark.long
def test_costly_frames_are_answered_beside_those_of_another_camera(bench: Bench) -> None:
    """They are within the decode budget; decoding one takes longer than the whole path of a small frame."""
    figures = costly.run(bench, 5)
    assert (figures["without"]["costly_frames"], figures["one_a_second"]["costly_frames"]) == (0, 5)
    assert figures["one_a_second"]["costly_ms"] > figures["without"]["p50_ms"]


@pytest.mark.long
def test_the_bare_sdk_answers_every_message(bench: Bench) -> None:
    """This holds for both delivery windows; an unanswered message would end the measurement."""
    figures = sdk.run(bench, frames=50, repeats=1)
    assert figures.keys() == {"strict", "window_16"}
    assert all(each["per_s"] > 0 for each in figures.values())
