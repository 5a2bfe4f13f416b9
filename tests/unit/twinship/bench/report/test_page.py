"""The page `report.html`."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from twinship.bench.report.page import html
from twinship.bench.report.svg_bars import Row, bars
from twinship.bench.report.thresholds import results

REPORT = {
    "commit": "abc",
    "machine": {"processor": "<b>&"},
    "single": {"50": {"p50_ms": 2.5, "p50_range_ms": [2.0, 3.0], "stages_p50_ms": {"invoke": 0.05}}},
    "floor": {"50": {"p50_ms": 1.0}},
    "startup_s": 1.5,
}


def page() -> str:
    """The page of a small report."""
    return html({**REPORT, "bars": [each.to_json() for each in results(REPORT)]})


def test_figures_and_bars_are_on_the_page() -> None:
    """All figures are there as text."""
    for text in ("2.50 ms", "1.00 ms", "50 µs", "start to first prediction", "1.5", "2 – 3"):
        assert text in page()


def test_of_a_long_list_the_range_is_on_the_page() -> None:
    """Samples over time are for programs; a short list is shown whole."""
    assert "1 – 90, 90 values" in html({"soak": {"rss_mb": list(range(1, 91))}})
    assert "1 – 2 – 3" in html({"soak": {"rss_mb": [1, 2, 3]}})


def test_the_page_loads_nothing() -> None:
    """It has no links to other files, styles or scripts."""
    assert not re.search(r"(src|href)=|@import|url\(", page())


def test_texts_of_the_report_are_escaped() -> None:
    """The name of a processor is not markup."""
    assert "&lt;b&gt;&amp;" in page()
    assert "<b>&" not in page()


def test_a_report_without_figures_gives_a_page() -> None:
    """It has no charts."""
    assert "<svg" not in html({})


def test_bars_are_as_long_as_their_numbers() -> None:
    """The length of a bar is proportional to its number; the SVG is well-formed."""
    drawn = bars([Row("a", 1.0, 0, "1"), Row("b & c", 2.0, 1, "2")])
    widths = [float(each.attrib["width"]) for each in ElementTree.fromstring(drawn).iter("rect")]
    assert len(widths) == 2
    assert widths[1] == 2 * widths[0]
