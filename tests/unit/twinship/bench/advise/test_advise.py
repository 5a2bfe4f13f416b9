"""Advice: the location and the model that follow from the figures, and inputs that are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from inference.frames.budget import blocks
from twinship.bench import BenchFailed
from twinship.bench.advise import advice
from twinship.bench.advise.advise import (
    BUDGETS,
    HOP_MS,
    LATENCY_EVERY_S,
    RECORD_BYTES,
    Advice,
    Model,
    Requirements,
    advise,
    gather,
    loads,
)
from twinship.bench.advise.budgeted import streams
from twinship.bench.advise.hardware import Measured, Published, Table, measured, published
from twinship.bench.advise.quantities import as_bits, bandwidth
from twinship.bench.advise.tiers import Stream, needs

NEEDED = Requirements(fps=30, max_latency_ms=20, bandwidth=250_000, frame_bytes=1_000)
TABLE = Table("another task", (Published(device="board", per_s=100, source="their table, row 1"),))
SMALL = Model("digits:1.0.0 micro", "aa", 30_000, 0.98, 0.2, "litert")
LARGE = Model("digits:2.0.0 seed", "bb", 250_000, 0.99, 1.0, "litert")


def record(sha256: str = "aa", size: int = 30_000, p99: float = 0.3) -> Measured:
    """A device record of the method `benchmark`."""
    return Measured.model_validate(
        {
            "schema": "twinship.benchmark.v1",
            "device": {"machine": "aarch64", "processor": "Cortex-A72", "cores": 4, "memory_mb": 4000},
            "runtime": "litert",
            "runtime_version": "2.3.0",
            "delegate": None,
            "model": {"name": "digits", "version": "1.0.0", "sha256": sha256, "size": size},
            "queries": 1024,
            "invoke_ms": {"p50": p99 / 2, "p90": p99, "p99": p99},
            "per_s": 2e3 / p99,
        }
    )


def advised(requirements: Requirements = NEEDED, models: tuple[Model, ...] = (SMALL, LARGE)) -> Advice:
    """Advice from two trained models and one measured device."""
    return advise(requirements, models, (record(),), TABLE)


@pytest.mark.parametrize(
    ("text", "bytes_s"),
    [("2Mbit", 250_000), ("2 Mbps", 250_000), ("8kbit/s", 1_000), ("250kB", 250_000), ("1.5MB/s", 1_500_000)],
)
def test_a_bandwidth_is_read_in_bits_or_bytes(text: str, bytes_s: float) -> None:
    """Eight bits are a byte, prefixes are decimal, `/s` is optional."""
    assert bandwidth(text) == bytes_s


@pytest.mark.parametrize(
    "text", ["", "2", "2mb", "2Mb", "2MiB", "0Mbit", "-1Mbit", "fast", "1e9bit", "٢Mbit"]
)
def test_an_ambiguous_bandwidth_is_refused(text: str) -> None:
    """The error lists the units."""
    with pytest.raises(BenchFailed, match="as in 2Mbit or 250kB"):
        bandwidth(text)


def test_a_bandwidth_is_shown_in_bits() -> None:
    """Per second, with a decimal prefix."""
    assert (as_bits(250_000), as_bits(125), as_bits(1.25e9)) == ("2 Mbit/s", "1 kbit/s", "10 Gbit/s")


def test_the_edge_needs_a_hop_and_an_invoke() -> None:
    """Its margin is the rest of the required latency."""
    found = advised()
    assert found.place == "edge"
    assert found.best is not None
    assert found.best.origin == "benchmark"
    assert found.best.latency_ms == pytest.approx(HOP_MS + 0.3)
    assert found.best.margin_ms == pytest.approx(20 - HOP_MS - 0.3)


def test_the_cloud_is_advised_if_the_edge_is_too_slow() -> None:
    """The edge device needs 200 ms for a frame, and the link is fast enough."""
    slow = record(p99=200)
    quick = record("cc", 90_000, 1.0)
    found = advise(replace(NEEDED, max_latency_ms=20, fps=6, accuracy=0.9), (SMALL,), (slow, quick), TABLE)
    assert (found.place, found.best) == ("cloud", None)
    assert found.cloud.latency_ms == pytest.approx(HOP_MS + 1.0 + 4.0)
    assert found.cloud.sooner_from == pytest.approx(1_000 / (0.210 - 0.011))


def test_frames_that_fill_the_link_exclude_the_cloud() -> None:
    """A single frame would arrive in time, but at this rate frames pile up."""
    found = advised(replace(NEEDED, fps=300))
    assert found.cloud.link_share == pytest.approx(1.2)
    assert not found.cloud.meets


def test_unreachable_requirements_get_the_answer_neither() -> None:
    """The hop alone takes longer than the required latency."""
    found = advised(replace(NEEDED, max_latency_ms=5))
    assert (found.place, found.best) == ("neither", None)
    assert "cure" in advice.verdict(replace(NEEDED, max_latency_ms=5), found)[1]


def test_the_smallest_model_with_the_required_accuracy_is_chosen() -> None:
    """The small model has 98 %, the large one 99 %, and no model 99.5 %."""
    best = advised(replace(NEEDED, accuracy=0.98)).best
    assert best is not None
    assert best.model == SMALL.name
    best = advised(replace(NEEDED, accuracy=0.99)).best
    assert best is not None
    assert (best.model, best.origin) == (LARGE.name, "training")
    assert advised(replace(NEEDED, accuracy=0.995)).best is None


def test_a_model_of_unknown_accuracy_meets_no_required_accuracy() -> None:
    """A device record has the speed of a model but not its accuracy."""
    found = advise(replace(NEEDED, accuracy=0.5), (), (record(),), TABLE)
    assert (found.edges[0].accuracy, found.best) == (None, None)


def test_published_figures_never_decide() -> None:
    """They are returned apart, with their source, and no edge meets the requirements by them."""
    found = advise(NEEDED, (), (record(p99=500),), TABLE)
    assert [(row.device, row.would_meet, row.source) for row in found.extrapolated] == [
        ("board", True, "their table, row 1")
    ]
    assert found.best is None


def test_no_figures_give_no_advice() -> None:
    """Published figures alone are not enough."""
    with pytest.raises(BenchFailed, match="twinship train"):
        advise(NEEDED, (), (), TABLE)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"fps": 0}, "--fps"),
        ({"max_latency_ms": float("nan")}, "--max-latency-ms"),
        ({"frame_bytes": 0}, "--frame-bytes"),
        ({"rtt_ms": -1}, "--rtt-ms"),
        ({"accuracy": 98}, "--accuracy"),
    ],
)
def test_unusable_requirements_are_refused(changed: dict[str, float], named: str) -> None:
    """The error names the option."""
    with pytest.raises(BenchFailed, match=named):
        replace(NEEDED, **changed)  # type: ignore[arg-type]


def test_messages_are_metered_in_the_tiers_blocks() -> None:
    """A message of 1,100 bytes counts as three on the free tier and as one elsewhere; F1 has one unit."""
    free, s1, s2, s3 = needs((Stream(10_000, 1_100),))
    assert (free.metered, free.units) == (30_000, None)
    assert (s1.metered, s1.units) == (10_000, 1)
    assert (s2.units, s3.units) == (1, 1)
    assert [need.units for need in needs((Stream(2_592_000, 1_000),))] == [None, 7, 1, 1]


def test_a_free_hub_is_enough_for_one_device_with_few_messages() -> None:
    """This holds with one latency message a minute, or a budget; the manifest's default is too much."""
    units = {load.what: load.needs[0].units for load in loads(NEEDED)}
    enough = {
        "edge, predictions: none, intervalSeconds: 60": 1,
        "edge, predictions: all, maxPerDay: 8000, blockBytes: 512": 1,
    }
    assert units == dict.fromkeys(units, None) | enough


def test_advice_is_json_without_infinities() -> None:
    """`sooner_from` is null if the cloud is never faster; the requirements contain every assumption."""
    found = advice.to_json(NEEDED, advised())
    assert found["cloud"]["sooner_from"] is None
    assert found["requirements"]["hop_ms"] == HOP_MS
    json.dumps(found, allow_nan=False)


def test_the_figures_that_twinship_brings_are_valid() -> None:
    """Each record is a result of the method `benchmark`, and each published row has its source."""
    assert all(row.source for row in published().rows)
    assert all(record.queries >= 1024 for record in measured())


def test_a_record_in_the_projects_folder_is_read(tmp_path: Path) -> None:
    """It is added to the records that Twinship brings; a folder that does not exist adds nothing."""
    (tmp_path / "pi.json").write_text(record().model_dump_json(by_alias=True))
    assert gather(tmp_path, tmp_path)[1] == (*measured(), record())
    assert gather(tmp_path, tmp_path / "none")[1] == measured()


def test_a_file_that_is_not_a_record_is_named(tmp_path: Path) -> None:
    """The error also names the command that writes one."""
    (tmp_path / "pi.json").write_text('{"schema": "twinship.bench.v1"}')
    with pytest.raises(BenchFailed, match=r"pi\.json is not a record .* twinship benchmark --out"):
        measured(tmp_path)


@pytest.mark.parametrize(("per_day", "block_bytes"), BUDGETS)
@pytest.mark.parametrize("fps", [0.01, 1, 30, 1e9])
def test_a_budget_is_kept_whatever_the_camera_sends(fps: float, per_day: int, block_bytes: int) -> None:
    """The count is that of the module's own code, in the budget's own blocks."""
    found = streams(per_day, block_bytes, fps, RECORD_BYTES, LATENCY_EVERY_S)
    counted = sum(stream.per_day * blocks(stream.size, block_bytes) for stream in found)
    assert 0 < counted <= per_day
    assert counted > 0.9 * per_day or fps < 1
