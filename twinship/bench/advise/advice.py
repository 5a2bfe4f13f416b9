"""Advice in words: the verdict as lines, the rest as tables, everything as JSON. Decides nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from twinship.bench.advise.advise import Advice, Cloud, Edge, Load, ModelSection
from twinship.bench.advise.quantities import spoken
from twinship.bench.advise.tiers import Need

SCHEMA: Final = "twinship.advice.v1"
_ORIGIN: Final = {"benchmark": "", "training": "*"}
Rows = list[tuple[str, ...]]


def to_json(section: ModelSection, advice: Advice) -> dict[str, Any]:
    """For scripts: the wish with every assumption, and the advice; `sooner_from` null: at no bandwidth."""
    told: dict[str, Any] = {"schema": SCHEMA, "wish": asdict(section), **asdict(advice)}
    if math.isinf(advice.cloud.sooner_from):
        told["cloud"]["sooner_from"] = None
    return dict(json.loads(json.dumps(told)))


def verdict(section: ModelSection, advice: Advice) -> list[str]:
    """Where, with which model on which device, by which margin, and why not the other."""
    heads = {
        "edge": "at the edge",
        "cloud": "in the cloud",
        "neither": "neither at the edge nor in the cloud",
    }
    asked = f"{section.fps:g} frames/s, each answered within {section.max_latency_ms:g} ms"
    return [
        f"{asked}: {heads[advice.place]}",
        _edge_line(section, advice),
        _cloud_line(section, advice.cloud),
    ]


def _edge_line(section: ModelSection, advice: Advice) -> str:
    if (best := advice.best) is None:
        return (
            "edge: no model that was measured meets it: see the table; "
            "cure: a smaller model, a quicker device, fewer frames, or more time"
        )
    right = "" if best.accuracy is None else f", {best.accuracy:.2%} right"
    return (
        f"edge: {best.model}, {best.size:,} bytes{right}, on {best.device}: {best.latency_ms:.1f} ms, "
        f"of which {section.hop_ms:g} ms are edgeHub's hop; margin {best.margin_ms:.1f} ms"
    )


def _cloud_line(section: ModelSection, cloud: Cloud) -> str:
    link = f"{section.frame_bytes:,} bytes a frame over {spoken(section.bandwidth)}, round trip {section.rtt_ms:g} ms"
    if cloud.link_share >= 1:
        return f"cloud: {link}: the frames would take {cloud.link_share:.0%} of the link and pile up"
    sooner = f"sooner than the edge from {spoken(cloud.sooner_from)} on"
    if math.isinf(cloud.sooner_from):
        sooner = "sooner than the edge at no bandwidth"
    return (
        f"cloud: {link}: {cloud.latency_ms:.1f} ms, margin {cloud.margin_ms:.1f} ms; "
        f"{cloud.link_share:.0%} of the link; {sooner}"
    )


def tables(advice: Advice, *, cost: bool) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    """Title, columns and rows of each table."""
    columns = ("model", "bytes", "right", "device", "invoke ms", "margin ms", "meets")
    yield (
        "measured: the 99th percentile of an invoke (*: the 95th of a niced process after a training)",
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
    heads = ("one device sends", "messages a day", *(f"{tier} units" if cost else tier for tier in tiers))
    title = (
        "messages a day, and units of each tier" if cost else "messages a day, and whether one unit will do"
    )
    yield title, heads, [_load_row(load, cost=cost) for load in advice.loads]


def _edge_row(edge: Edge) -> tuple[str, ...]:
    right = "–" if edge.accuracy is None else f"{edge.accuracy:.2%}"
    times = (_ms(edge.invoke_ms) + _ORIGIN[edge.origin], f"{edge.margin_ms:.1f}")
    return edge.model, f"{edge.size:,}", right, edge.device, *times, _yes(edge.meets)


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
