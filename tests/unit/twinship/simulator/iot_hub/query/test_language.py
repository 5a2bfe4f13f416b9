"""The query language of twins: conditions, columns, pages, and refusals with their column."""

from __future__ import annotations

from typing import Any

import pytest

from twinship.simulator.common.tokens import ExpressionError
from twinship.simulator.iot_hub.query.language import parse_condition, parse_query
from twinship.simulator.iot_hub.query.rows import ContinuationInvalid, page, rows

TWINS: list[dict[str, Any]] = [
    {
        "deviceId": "a",
        "status": "enabled",
        "tags": {"floor": 1, "place": {"name": "Berlin"}, "none": [], "my tag": 7},
        "capabilities": {"iotEdge": True},
        "configurations": {"my-c:1": {"status": "Applied"}},
        "properties": {"desired": {"$version": 3}, "reported": {"$version": 1, "up": False}},
    },
    {"deviceId": "b", "status": "disabled", "tags": {"floor": 2, "place": {"name": "Bonn"}}},
    {"deviceId": "c", "status": "enabled", "tags": {"floor": "2"}},
]


def found(text: str) -> list[Any]:
    """The rows of a query over TWINS."""
    return [row for _, row in rows(parse_query(text), TWINS)]


@pytest.mark.parametrize(
    ("condition", "devices"),
    [
        ("deviceId = 'a'", "a"),
        ("DEVICEID = \"a\" OR DeviceId='b'", "ab"),
        ("tags.floor = 2", "b"),
        ("tags.floor <> 2", "a"),
        ("tags.floor >= 1 AND tags.floor < 2.5", "ab"),
        ("NOT tags.floor = 1", "b"),
        ("NOT NOT tags.floor = 1", "a"),
        ("tags.floor IN [1, '2']", "ac"),
        ("tags.floor NIN [1, 3]", "bc"),
        ("tags.place.name NIN ['Bonn']", "a"),
        ("is_defined(tags.place.name)", "ab"),
        ("NOT is_defined(tags.place)", "c"),
        ("IS_NULL(tags.none) OR is_array(tags.none)", "a"),
        ("is_string(tags.floor)", "c"),
        ("is_number(tags.floor) AND is_object(tags.place) AND is_primitive(status)", "ab"),
        ("starts_with(tags.place.name, 'B')", "ab"),
        ("STARTSWITH(tags.place.name, 'Be')", "a"),
        ("ends_with(status, 'abled') AND contains(tags.place.name, 'on')", "b"),
        ("capabilities.iotEdge", "a"),
        ("capabilities.iotEdge = true", "a"),
        ("properties.reported.up = false", "a"),
        ("properties.desired.$version = 3", "a"),
        ("configurations.[[my-c:1]].status = 'Applied'", "a"),
        ("tags.[[my tag]] = 7", "a"),
        ("tags.floor = 1 OR tags.floor = 2 AND status = 'enabled'", "a"),
        ("(tags.floor = 1 OR tags.floor = 2) AND status = 'disabled'", "b"),
        ("tags.missing = tags.missing", ""),
        ("status < 'enabled'", "b"),
        ("status < 5", ""),
        ("tags.place.name = 'it\\'s'", ""),
    ],
)
def test_a_condition_selects_twins(condition: str, devices: str) -> None:
    """Comparisons, lists, functions and paths; a missing value or one of another type never matches."""
    assert "".join(row["deviceId"] for row in found(f"SELECT * FROM devices WHERE {condition}")) == devices


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "SELECT deviceId, tags.place.name AS town FROM devices WHERE deviceId != 'b'",
            [{"deviceId": "a", "town": "Berlin"}, {"deviceId": "c"}],
        ),
        ("select count() from devices", [{"$1": 3}]),
        ("select COUNT(*) as n from devices where tags.floor = 99", [{"n": 0}]),
    ],
)
def test_select_returns_columns_or_the_count(query: str, expected: Any) -> None:
    """AS names a column, else its path does; a row leaves out a missing value; COUNT() is one row."""
    assert found(query) == expected


@pytest.mark.parametrize(
    ("query", "column", "reason"),
    [
        ("", 1, "expected 'SELECT'"),
        ("SELECT", 7, "expected a name"),
        ("SELECT * FROM jobs", 15, "expected devices or devices.modules, found 'jobs'"),
        ("SELECT * FROM devices.jobs", 15, "no jobs"),
        ("SELECT * FROM devices WHERE", 28, "expected a value, found the end"),
        ("SELECT * FROM devices WHERE tag.x = 1", 29, "no 'tag'"),
        ("SELECT * FROM devices WHERE tags.x + 1", 36, "has no meaning here"),
        ("SELECT * FROM devices WHERE tags.x = 'a", 38, "not closed"),
        ("SELECT * FROM devices WHERE tags.x IN (1)", 39, "expected '['"),
        ("SELECT * FROM devices WHERE tags.x = 1 tags.y", 40, "expected the end, found 'tags.y'"),
        ("SELECT * FROM devices WHERE lower(tags.x) = 'a'", 29, "no function 'lower'"),
        ("SELECT * FROM devices WHERE is_defined()", 29, "takes 1 value, found 0"),
        ("SELECT * FROM devices WHERE starts_with(status)", 29, "takes 2 values, found 1"),
        ("SELECT * FROM devices ORDER BY deviceId", 23, "no ORDER BY"),
        ("SELECT * FROM devices GROUP BY status", 23, "GROUP BY is not in this simulator"),
        ("SELECT sum(tags.x) FROM devices", 8, "SUM() as a column is not in this simulator"),
        ("SELECT deviceId, count() FROM devices", 18, "COUNT() as a column is not in this simulator"),
        ("SELECT count(), deviceId FROM devices", 15, "COUNT() beside another column"),
        ("SELECT count(tags.x) FROM devices", 8, "COUNT() of a path is not in this simulator"),
        ("SELECT TOP 2 deviceId FROM devices", 8, "TOP is not in this simulator"),
        ("SELECT tags.x, properties.reported.x FROM devices", 16, "two columns are called 'x'"),
        (f"SELECT * FROM devices WHERE {'(' * 60}tags.x{')' * 60}", 79, "nested deeper than 50"),
    ],
)
def test_a_bad_query_is_refused_with_its_column(query: str, column: int, reason: str) -> None:
    """The reason names the word at fault and the column gives its position."""
    with pytest.raises(ExpressionError) as refused:
        parse_query(query)
    assert refused.value.column == column
    assert reason in refused.value.reason


def test_a_long_chain_needs_no_recursion() -> None:
    """A thousand NOT and hundreds of OR compile to one flat condition."""
    condition = " OR ".join(["NOT " * 1001 + "tags.floor = 9", *["1=2"] * 580])
    assert parse_condition(condition)(TWINS[0]) is True


def test_a_page_begins_after_the_last_row_seen() -> None:
    """Rows that come or go between two pages neither repeat nor hide another row."""
    text = "SELECT deviceId FROM devices"
    query = parse_query(text)
    first = page(text, rows(query, TWINS), None, 2)
    assert [row["deviceId"] for row in first.rows] == ["a", "b"]
    later = [{"deviceId": "0"}, *TWINS[1:], {"deviceId": "d"}]
    second = page(text, rows(query, later), first.continuation, 2)
    assert ([row["deviceId"] for row in second.rows], second.continuation) == (["c", "d"], None)


@pytest.mark.parametrize("continuation", ["", "x", "bnVsbA==", "WzFd", "W10="])
def test_a_foreign_continuation_is_refused(continuation: str) -> None:
    """Garbage and the continuation of another query are both refused."""
    text = "SELECT * FROM devices"
    with pytest.raises(ContinuationInvalid):
        page(text, [], continuation, 1)
    other = page("SELECT deviceId FROM devices", rows(parse_query(text), TWINS), None, 1)
    with pytest.raises(ContinuationInvalid):
        page(text, [], other.continuation, 1)


def test_a_long_query_is_refused() -> None:
    """Before it is read: 100,000 ORs took seconds in the hub's event loop."""
    condition = "status = 'a'"
    assert found(f"SELECT * FROM devices WHERE {condition}{' OR deviceId = 1' * 500}") == []
    with pytest.raises(ExpressionError, match="characters, at most 8192"):
        parse_query(f"SELECT * FROM devices WHERE {condition}{' OR deviceId = 1' * 100_000}")
    with pytest.raises(ExpressionError, match="characters, at most 8192"):
        parse_condition(condition + " OR deviceId = 1" * 100_000)


def test_a_query_with_half_a_surrogate_pair_has_pages() -> None:
    """JSON text can hold one, in a string or in a quoted name."""
    text = "SELECT * FROM devices WHERE deviceId != '\ud800'"
    found = rows(parse_query(text), [{"deviceId": "a"}, {"deviceId": "b"}])
    first = page(text, found, None, 1)
    assert page(text, found, first.continuation, 1).rows == [{"deviceId": "b"}]
