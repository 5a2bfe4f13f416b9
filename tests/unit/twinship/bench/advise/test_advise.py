"""Advice: which place and model follow from which figures, what is kept apart, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from twinship.bench import BenchFailed
from twinship.bench.advise import advice
from twinship.bench.advise.advise import HOP_MS, Advice, Model, ModelSection, advise, loads
from twinship.bench.advise.hardware import Measured, Published, Table, measured, published
from twinship.bench.advise.quantities import bandwidth, spoken
from twinship.bench.advise.tiers import Stream, needs

WISH = ModelSection(fps=30, max_latency_ms=20, bandwidth=250_000, frame_bytes=1_000)
TABLE = Table("another task", (Published(device="board", per_s=100, source="their table, row 1"),))
SMALL = Model("digits:1.0.0 micro", "aa", 30_000, 0.98, 0.2, "litert")
LARGE = Model("digits:2.0.0 seed", "bb", 250_000, 0.99, 1.0, "litert")


def record(sha256: str = "aa", size: int = 30_000, p99: float = 0.3) -> Measured:
    """A device as the method `benchmark` tells of it."""
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


def asked(section: ModelSection = WISH, models: tuple[Model, ...] = (SMALL, LARGE)) -> Advice:
    """Advice from two trained models and one measured device."""
    return advise(section, models, (record(),), TABLE)


@pytest.mark.parametrize(
    ("text", "bytes_s"),
    [("2Mbit", 250_000), ("2 Mbps", 250_000), ("8kbit/s", 1_000), ("250kB", 250_000), ("1.5MB/s", 1_500_000)],
)
def test_a_bandwidth_is_read_in_bits_or_bytes(text: str, bytes_s: float) -> None:
    """Eight bits are a byte, prefixes are decimal, `/s` may be left out."""
    assert bandwidth(text) == bytes_s


@pytest.mark.parametrize(
    "text", ["", "2", "2mb", "2Mb", "2MiB", "0Mbit", "-1Mbit", "fast", "1e9bit", "٢Mbit"]
)
def test_a_bandwidth_that_could_mean_two_things_is_refused(text: str) -> None:
    """A factor of eight is no detail: one line says what can be written."""
    with pytest.raises(BenchFailed, match="as in 2Mbit or 250kB"):
        bandwidth(text)


def test_a_bandwidth_is_said_in_bits() -> None:
    """As links are sold."""
    assert (spoken(250_000), spoken(125), spoken(1.25e9)) == ("2 Mbit/s", "1 kbit/s", "10 Gbit/s")


def test_the_edge_needs_a_hop_and_an_invoke() -> None:
    """Its margin is what is left of the wish."""
    found = asked()
    assert found.place == "edge"
    assert found.best is not None
    assert found.best.origin == "benchmark"
    assert found.best.latency_ms == pytest.approx(HOP_MS + 0.3)
    assert found.best.margin_ms == pytest.approx(20 - HOP_MS - 0.3)


def test_the_cloud_is_advised_where_the_edge_is_too_slow() -> None:
    """A device that needs 200 ms for a frame, a quick one far away, and a link that carries it."""
    slow = record(p99=200)
    quick = record("cc", 90_000, 1.0)
    found = advise(replace(WISH, max_latency_ms=20, fps=6, accuracy=0.9), (SMALL,), (slow, quick), TABLE)
    assert (found.place, found.best) == ("cloud", None)
    assert found.cloud.latency_ms == pytest.approx(HOP_MS + 1.0 + 4.0)
    assert found.cloud.sooner_from == pytest.approx(1_000 / (0.210 - 0.011))


def test_frames_that_fill_the_link_rule_the_cloud_out() -> None:
    """Each would arrive in time, were it alone; they pile up."""
    found = asked(replace(WISH, fps=300))
    assert found.cloud.link_share == pytest.approx(1.2)
    assert not found.cloud.meets


def test_where_nothing_meets_the_wish_nothing_is_advised() -> None:
    """The hop alone takes longer than was asked for."""
    found = asked(replace(WISH, max_latency_ms=5))
    assert (found.place, found.best) == ("neither", None)
    assert "cure" in advice.verdict(replace(WISH, max_latency_ms=5), found)[1]


def test_the_smallest_model_that_is_right_often_enough_is_chosen() -> None:
    """98 % will do for the small one; 99 % takes the large one; 99.5 % nobody has."""
    best = asked(replace(WISH, accuracy=0.98)).best
    assert best is not None
    assert best.model == SMALL.name
    best = asked(replace(WISH, accuracy=0.99)).best
    assert best is not None
    assert (best.model, best.origin) == (LARGE.name, "training")
    assert asked(replace(WISH, accuracy=0.995)).best is None


def test_a_model_that_nobody_judged_does_not_pass_for_accurate() -> None:
    """A record tells the speed of a model and not how often it is right."""
    found = advise(replace(WISH, accuracy=0.5), (), (record(),), TABLE)
    assert (found.edges[0].accuracy, found.best) == (None, None)


def test_published_figures_never_decide() -> None:
    """They stand apart with their source, are about another model, and make no edge meet a wish."""
    found = advise(WISH, (), (record(p99=500),), TABLE)
    assert [(row.device, row.would_meet, row.source) for row in found.extrapolated] == [
        ("board", True, "their table, row 1")
    ]
    assert found.best is None


def test_no_figures_give_no_advice() -> None:
    """Not even from published ones."""
    with pytest.raises(BenchFailed, match="twinship train"):
        advise(WISH, (), (), TABLE)


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
def test_a_wish_that_cannot_be_meant_is_refused_by_name(changed: dict[str, float], named: str) -> None:
    """The option is named."""
    with pytest.raises(BenchFailed, match=named):
        replace(WISH, **changed)  # type: ignore[arg-type]


def test_messages_are_metered_in_the_tiers_blocks() -> None:
    """A message of 1,100 bytes is three on the free tier, one elsewhere; F1 has one unit."""
    free, s1, s2, s3 = needs((Stream(10_000, 1_100),))
    assert (free.metered, free.units) == (30_000, None)
    assert (s1.metered, s1.units) == (10_000, 1)
    assert (s2.units, s3.units) == (1, 1)
    assert [need.units for need in needs((Stream(2_592_000, 1_000),))] == [None, 7, 1, 1]


def test_a_free_hub_takes_one_device_that_says_little() -> None:
    """The figures once a minute and no predictions; the manifest's default is too much for it."""
    units = {load.what: load.needs[0].units for load in loads(WISH)}
    assert units == dict.fromkeys(units, None) | {"edge, predictions: none, intervalSeconds: 60": 1}


def test_advice_is_json_without_infinities() -> None:
    """`sooner_from` is null where the cloud is never sooner; the wish is there with every assumption."""
    told = advice.to_json(WISH, asked())
    assert told["cloud"]["sooner_from"] is None
    assert told["wish"]["hop_ms"] == HOP_MS
    json.dumps(told, allow_nan=False)


def test_the_repositorys_own_figures_can_be_read() -> None:
    """Each record is an answer of the method, each published row has its source."""
    assert all(row.source for row in published().rows)
    assert all(record.queries >= 1024 for record in measured())


def test_a_record_that_is_none_is_named(tmp_path: Path) -> None:
    """With the command that makes one."""
    (tmp_path / "pi.json").write_text('{"schema": "twinship.bench.v1"}')
    with pytest.raises(BenchFailed, match=r"pi\.json is no answer .* twinship benchmark --out"):
        measured(tmp_path)
