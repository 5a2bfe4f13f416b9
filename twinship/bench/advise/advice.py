"""Advice as text: the verdict as lines, the rest as tables, everything as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from twinship.bench.advise.advise import Advice, Cloud, Edge, Load, Requirements
from twinship.bench.advise.quantities import as_bits
from twinship.bench.advise.tiers import Need

SCHEMA: Final = "twinship.advice.v1"
_ORIGIN: Final = {"benchmark": "", "training": "*"}
Rows = list[tuple[str, ...]]


def to_json(requirements: Requirements, advice: Advice) -> dict[str, Any]:
    """For scripts: the requirements and the advice. `sooner_from` is null if the cloud is never faster."""
    found: dict[str, Any] = {"schema": SCHEMA, "requirements": asdict(requirements), **asdict(advice)}
    if math.isinf(advice.cloud.sooner_from):
        found["cloud"]["sooner_from"] = None
    return dict(json.loads(json.dumps(found)))


def verdict(requirements: Requirements, advice: Advice) -> list[str]:
    """Three lines: the location, the edge with its best model and margin, the cloud with its margin."""
    heads = {
        "edge": "at the edge",
        "cloud": "in the cloud",
        "neither": "neither at the edge nor in the cloud",
    }
    needed = f"{requirements.fps:g} frames/s, each answered within {requirements.max_latency_ms:g} ms"
    return [
        f"{needed}: {heads[advice.place]}",
        _edge_line(requirements, advice),
        _cloud_line(requirements, advice.cloud),
    ]


def _edge_line(requirements: Requirements, advice: Advice) -> str:
    if (best := advice.best) is None:
        return (
            "edge: no measured model meets the requirements (see the table); "
            "cure: a smaller model, a faster device, fewer frames, or more time"
        )
    accuracy = "" if best.accuracy is None else f", accuracy {best.accuracy:.2%}"
    return (
        f"edge: {best.model}, {best.size:,} bytes{accuracy}, on {best.device}: {best.latency_ms:.1f} ms, "
        f"of which {requirements.hop_ms:g} ms for the hop through edgeHub; margin {best.margin_ms:.1f} ms"
    )


def _cloud_line(requirements: Requirements, cloud: Cloud) -> str:
    link = (
        f"{requirements.frame_bytes:,} bytes per frame over {as_bits(requirements.bandwidth)}, "
        f"round trip {requirements.rtt_ms:g} ms"
    )
    if cloud.link_share >= 1:
        return f"cloud: {link}: the frames would take {cloud.link_share:.0%} of the link and pile up"
    faster = "slower than the edge at every bandwidth"
    if not math.isinf(cloud.sooner_from):
        faster = f"faster than the edge from {as_bits(cloud.sooner_from)} on"
    return (
        f"cloud: {link}: {cloud.latency_ms:.1f} ms, margin {cloud.margin_ms:.1f} ms; "
        f"{cloud.link_share:.0%} of the link; {faster}"
    )


def tables(advice: Advice, *, cost: bool) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    """Title, columns and rows of each table."""
    columns = ("model", "bytes", "accuracy", "device", "invoke ms", "margin ms", "meets")
    yield (
        "measured: 99th percentile of an invoke (*: 95th, in a niced process after the training)",
        columns,
        [_edge_row(edge) for edge in advice.edges],
    )
    yield (
        f"extrapolated, not measured here, from {advice.extrapolated_task}",
        ("device", "invoke ms", "would meet", "published in"),
        [
            (row.device, _ms(row.invoke_ms), _yes(row.would_meet), _short(row.source))
            for row in advice.extrapolated
        ],
    )
    tiers = tuple(need.tier for need in advice.loads[0].needs)
    heads = ("one device sends", "messages per day", *(f"{tier} units" if cost else tier for tier in tiers))
    title = (
        "messages per day, and units of each tier"
        if cost
        else "messages per day, and whether one unit of the tier is enough"
    )
    yield title, heads, [_load_row(load, cost=cost) for load in advice.loads]


def _edge_row(edge: Edge) -> tuple[str, ...]:
    accuracy = "–" if edge.accuracy is None else f"{edge.accuracy:.2%}"
    times = (_ms(edge.invoke_ms) + _ORIGIN[edge.origin], f"{edge.margin_ms:.1f}")
    return edge.model, f"{edge.size:,}", accuracy, edge.device, *times, _yes(edge.meets)


def _load_row(load: Load, *, cost: bool) -> tuple[str, ...]:
    return load.what, f"{load.per_day:,}", *(_tier(need, cost=cost) for need in load.needs)


def _tier(need: Need, *, cost: bool) -> str:
    if cost:
        return "–" if need.units is None else f"{need.units:,}"
    return _yes(need.units == 1)


def _short(source: str) -> str:
    return source.partition(",")[0]


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _yes(true: bool) -> str:
    return "yes" if true else "no"
