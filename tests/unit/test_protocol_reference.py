"""Each citation of the protocol reference (`ref 4.4`, `statements 46 to 48`) has its target there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.table import STATEMENTS, number_of

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/protocol.md").read_text()
FOLDERS = ("edgekit", "modules", "training", "twinship", "tests")
ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
_SECTION = r"\d+(?:\.\d+)?"
_SECTIONS = re.compile(rf"\bref ({_SECTION}(?:(?:, | and )(?:ref )?{_SECTION})*)", re.IGNORECASE)
_STATEMENTS = re.compile(r"\bstatements? (\d+(?:(?:, | and | to |-)\d+)*)", re.IGNORECASE)
#: A line's end inside a docstring or a comment, which may stand in the middle of a citation.
_LINE_END = re.compile(r"\s*\n\s*(?:#:?\s*)?")


def cited(text: str) -> Iterator[str]:
    """The anchors that a source text cites; ranges of statements are expanded.

    >>> list(cited("(ref 5.1, 5.4; ref 0)"))
    ['ref-5-1', 'ref-5-4', 'ref-0']
    >>> list(cited("Statements 7, 46 to 48 and 51"))
    ['statement-7', 'statement-46', 'statement-47', 'statement-48', 'statement-51']
    """
    text = _LINE_END.sub(" ", text)
    for match in _SECTIONS.finditer(text):
        for section in re.findall(_SECTION, match[1]):
            yield "ref-" + section.replace(".", "-")
    for match in _STATEMENTS.finditer(text):
        for first, last in re.findall(r"(\d+)(?:(?: to |-)(\d+))?", match[1]):
            for number in range(int(first), int(last or first) + 1):
                yield f"statement-{number}"


def sources() -> list[Path]:
    """Every Python file that may cite the reference. This file's own examples are not citations."""
    return [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]


def without_target(text: str) -> list[str]:
    """The citations in a source text that have no anchor in docs/protocol.md."""
    anchors = set(ANCHOR.findall(REFERENCE))
    return [anchor for anchor in cited(text) if anchor not in anchors]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_citation_has_a_target(folder: str) -> None:
    """Each section and statement that code and tests cite exists in docs/protocol.md."""
    found = {
        str(path.relative_to(ROOT)): missing
        for path in sources()
        if path.is_relative_to(ROOT / folder) and (missing := without_target(path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ('"""As ref 4.44 says."""', ["ref-4-44"]),
        ("# (ref 4.4,\n    #: 99)", ["ref-99"]),
        ('"""Sends (ref\n    4.77)."""', ["ref-4-77"]),
        ("Statements 95 to 98", ["statement-97", "statement-98"]),
        ("statement 51, ref 0", []),
        ("reference 99, pref 99, the statement that 99", []),
    ],
)
def test_a_citation_without_a_target_is_found(text: str, missing: list[str]) -> None:
    """The counter-proof: every form of a citation is read, over a line's end too."""
    assert without_target(text) == missing


def test_the_citations_of_the_simulator_are_found() -> None:
    """The search reaches the files: the router cites how edgeHub accepts a publish."""
    assert "ref-4-4" in set(cited((ROOT / "twinship/simulator/edge_hub/router.py").read_text()))
    assert ROOT / "twinship/simulator/edge_hub/router.py" in sources()


def test_no_anchor_exists_twice() -> None:
    """A link to an anchor leads to one place."""
    anchors = ANCHOR.findall(REFERENCE)
    assert sorted(set(anchors)) == sorted(anchors)


def test_every_section_has_the_anchor_of_its_number() -> None:
    """The anchor `ref-4-4` stands before the heading `4.4`."""
    sections = re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", REFERENCE, re.MULTILINE)
    anchored = re.findall(r'<a id="ref-([\d-]+)"></a>\n\n#{2,3} (\d+(?:\.\d+)?)\.? ', REFERENCE)
    assert [number for _, number in anchored] == sections
    assert all(anchor == number.replace(".", "-") for anchor, number in anchored)


def test_every_statement_has_one_anchor_and_its_number() -> None:
    """Statements 1 to 96 exist once each, in order, and are those of the conformance table."""
    items = re.findall(r'^(\d+)\. <a id="statement-(\d+)"></a>', REFERENCE, re.MULTILINE)
    assert [int(anchor) for _, anchor in items] == list(STATEMENTS)
    assert all(number == anchor for number, anchor in items)


def test_the_conformance_tests_know_no_other_statement() -> None:
    """Numbers in the names of conformance tests and in refused.json are statements of the reference."""
    names = [
        name
        for path in (ROOT / "tests/conformance").glob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    ]
    tested = {number for name in names if (number := number_of(f"file::{name}")) is not None}
    refused = {int(number) for number in json.loads((ROOT / "tests/conformance/refused.json").read_text())}
    assert tested | refused == set(STATEMENTS)
