"""The page: one file that loads nothing and says what the report says."""

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
    """As text, not as a picture only."""
    for words in ("2.50 ms", "1.00 ms", "50 µs", "start to first prediction", "1.5", "2 – 3"):
        assert words in page()


def test_the_page_loads_nothing() -> None:
    """It is sent around and opened without a network."""
    assert not re.search(r"(src|href)=|@import|url\(", page())


def test_what_a_report_says_is_text() -> None:
    """A processor's name is no markup."""
    assert "&lt;b&gt;&amp;" in page()
    assert "<b>&" not in page()


def test_a_report_without_figures_is_a_page_too() -> None:
    """A scenario that was not run has no section."""
    assert "<svg" not in html({})


def test_bars_are_as_long_as_their_numbers() -> None:
    """Twice the figure is twice the length, in parts too; the picture is well-formed."""
    drawn = bars([Row("a", [(1.0, 0)], "1"), Row("b & c", [(0.5, 0), (1.5, 1)], "2")], ["one", "two"])
    widths = [float(each.attrib["width"]) for each in ElementTree.fromstring(drawn).iter("rect")]
    assert len(widths) == 5
    assert sum(widths[3:]) == 2 * widths[2]
