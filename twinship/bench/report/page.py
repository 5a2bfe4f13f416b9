"""`report.html`: the report for people, in a single file that loads nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from twinship.bench.catalogue import SCENARIOS
from twinship.bench.report.figures import number
from twinship.bench.report.svg_bars import Row, bars
from twinship.bench.report.thresholds import figure

RATES: Final = ("10", "50", "200")
#: The bars for each rate: label, path of the p50 in the report.
LATENCIES: Final = (
    ("floor: paho, mosquitto", "floor.{}.p50_ms"),
    ("Twinship: camera, hub, inference", "single.{}.p50_ms"),
    ("Twinship without NODELAY", "naive.{}.p50_ms"),
    ("one POST per frame, no hub", "naive.http.{}.p50_ms"),
)
#: Label, path in the report, index of the colour.
THROUGHPUTS: Final = (
    ("the SDK alone, 1 outstanding", "sdk.strict.per_s", 0),
    ("the SDK alone, window 16", "sdk.window_16.per_s", 0),
    ("floor, 1 outstanding", "floor.per_s.inflight_1", 0),
    ("Twinship, 1 outstanding", "throughput.strict.per_s", 1),
    ("floor, 100 outstanding", "floor.per_s.inflight_100", 0),
    ("Twinship, window 16", "throughput.window_16.per_s", 1),
    ("Twinship, batches", "offline.per_s", 1),
    ("bare interpreter", "invoke.litert.per_s", 0),
)
MAX_LISTED: Final = 12  # of a longer list of numbers the page shows the range
_STYLE: Final = """
body { font: 15px/1.5 sans-serif; max-width: 800px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse }
td, th { padding: .15em 1em .15em 0; text-align: left; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.goal { color: #1b7f3b } .met { color: #1b7f3b } .missed { color: #b3261e } .not { color: #777 }
h2 { margin-top: 2em } svg { max-width: 100%; height: auto } small { color: #666 }
"""


def html(report: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = [
        _facts(report),
        _section("Figures against their thresholds", _results(report)),
        _section("One frame: captured → PUBACK of its prediction, p50", _latencies(report)),
        _section("The stages of a frame at 50 frames/s, p50", _stages(report)),
        _section("Frames per second", _throughputs(report)),
        *(
            _section(f"{name}: {scenario.about}", _table(report[name]))
            for name, scenario in SCENARIOS.items()
            if name in report
        ),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Twinship bench</title>'
        f"<style>{_STYLE}</style><h1>Twinship bench</h1>{''.join(parts)}</html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def _facts(report: Mapping[str, Any]) -> str:
    machine, profile, model = (report.get(each, {}) for each in ("machine", "profile", "model"))
    lines = (
        f"{machine.get('processor')}, {machine.get('cores')} cores, {machine.get('memory_mb')} MB, "
        f"{machine.get('system')} {machine.get('machine')}, Python {machine.get('python')}",
        f"commit {report.get('commit') or 'unknown'}",
        f"model {model.get('sha256', '')[:16]}…, {model.get('dataset')}",
        f"hub: {profile.get('hub')}, one message outstanding unless the name says otherwise, "
        f"durability {profile.get('durability')}: a message is stored before its PUBACK",
    )
    return f"<p>{'<br>'.join(map(escape, lines))}</p>"


def _results(report: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td>{escape(bar['name'])}</td><td class=number>{number(bar['value'])}</td>"
        f"<td>{escape(bar['unit'])}</td><td class=number>{'≥' if bar['more_is_better'] else '≤'} "
        f"{number(bar['must'])}</td><td class=number>{number(bar['goal'])}</td>"
        f"<td class={bar['verdict'].split()[0]}>{bar['verdict']}</td></tr>"
        for bar in report.get("bars", ())
    ]
    head = "<tr><th>figure<th>measured<th><th>must<th>goal<th></tr>"
    return f"<table>{head}{''.join(rows)}</table>" if rows else ""


def _latencies(report: Mapping[str, Any]) -> str:
    charts = []
    for rate in RATES:
        rows = [
            Row(label, value, colour, f"{value:.2f} ms")
            for colour, (label, path) in enumerate(LATENCIES)
            if (value := figure(report, path.format(rate))) is not None
        ]
        charts += [f"<h3>{rate} frames/s</h3>{bars(rows)}"] if rows else []
    return "".join(charts)


def _stages(report: Mapping[str, Any]) -> str:
    stages: Mapping[str, float] = report.get("single", {}).get("50", {}).get("stages_p50_ms", {})
    rows = [
        Row(name, ms, colour, f"{ms * 1e3:,.0f} µs" if ms < 0.1 else f"{ms:.2f} ms")
        for colour, (name, ms) in enumerate(stages.items())
    ]
    return bars(rows) if rows else ""


def _throughputs(report: Mapping[str, Any]) -> str:
    rows = [
        Row(label, value, colour, f"{value:,.0f} /s")
        for label, path, colour in THROUGHPUTS
        if (value := figure(report, path)) is not None
    ]
    return bars(rows) if rows else ""


def _table(figures: Any) -> str:
    rows = [
        f"<tr><td>{escape(name)}</td><td class=number>{escape(text)}</td></tr>"
        for name, text in _leaves("", figures)
    ]
    return f"<table>{''.join(rows)}</table>"


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(f"{prefix} {name}".strip(), each)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(each, int | float) for each in value) and len(value) > MAX_LISTED:
            yield prefix, f"{number(min(value))} – {number(max(value))}, {len(value)} values"
        elif all(isinstance(each, int | float) for each in value):
            yield prefix, " – ".join(number(each) for each in value)
        else:
            for index, each in enumerate(value):
                yield from _leaves(f"{prefix} {index}", each)
    else:
        yield prefix, number(value) if isinstance(value, int | float) else str(value)
