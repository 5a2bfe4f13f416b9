"""The query language of twins: what it finds, how it groups and pages, and what it refuses where."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twinship.simulator.iot_hub.query.language import QueryError, parse_condition, parse_query
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
def test_a_condition_lets_its_twins_through(condition: str, devices: str) -> None:
    """Comparison, lists, functions and nested paths; what is missing or of another type never matches."""
    assert "".join(row["deviceId"] for row in found(f"SELECT * FROM devices WHERE {condition}")) == devices


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT deviceId, tags.place.name AS town FROM devices WHERE deviceId != 'b'", 2),
        ("select count() from devices", [{"$1": 3}]),
        ("select COUNT(*) as n from devices where tags.floor = 99", [{"n": 0}]),
        ("select top 2 deviceId from devices", [{"deviceId": "a"}, {"deviceId": "b"}]),
        (
            "select status, count() as n from devices group by status",
            [{"status": "enabled", "n": 2}, {"status": "disabled", "n": 1}],
        ),
        (
            "select sum(tags.floor) as s, avg(tags.floor) as a, min(tags.floor) as l, max(tags.floor) as h "
            "from devices",
            [{"s": 3, "a": 1.5, "l": 1, "h": 2}],
        ),
        ("select count(tags.place) as n, max(tags.place) as h from devices", [{"n": 2}]),
    ],
)
def test_columns_are_projected_and_counted(query: str, expected: Any) -> None:
    """AS names a column, else its last word or its number; what is missing is left out of the row."""
    if expected == 2:
        expected = [{"deviceId": "a", "town": "Berlin"}, {"deviceId": "c"}]
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
        ("SELECT * FROM devices WHERE tags.x + 1", 36, "means nothing here"),
        ("SELECT * FROM devices WHERE tags.x = 'a", 38, "not closed"),
        ("SELECT * FROM devices WHERE tags.x IN (1)", 39, "expected '['"),
        ("SELECT * FROM devices WHERE tags.x = 1 tags.y", 40, "expected the end, found 'tags.y'"),
        ("SELECT * FROM devices WHERE lower(tags.x) = 'a'", 29, "no function 'lower'"),
        ("SELECT * FROM devices WHERE is_defined()", 29, "takes 1 value, found 0"),
        ("SELECT * FROM devices WHERE starts_with(status)", 29, "takes 2 values, found 1"),
        ("SELECT * FROM devices ORDER BY deviceId", 23, "no ORDER BY"),
        ("SELECT * FROM devices GROUP BY status", 38, "SELECT * does not go with GROUP BY"),
        ("SELECT median(tags.x) FROM devices", 8, "no function 'median'"),
        ("SELECT deviceId, count() FROM devices", 8, "neither in GROUP BY"),
        ("SELECT tags.x, properties.reported.x FROM devices", 16, "two columns are called 'x'"),
        ("SELECT TOP 0 * FROM devices", 12, "TOP takes a whole number above 0"),
        (f"SELECT * FROM devices WHERE {'(' * 60}tags.x{')' * 60}", 79, "nested deeper than 50"),
    ],
)
def test_what_is_no_query_is_refused_by_name_and_column(query: str, column: int, reason: str) -> None:
    """The reason names the word, the column says where it stands."""
    with pytest.raises(QueryError) as refused:
        parse_query(query)
    assert refused.value.column == column
    assert reason in refused.value.reason


def test_long_chains_are_no_recursion() -> None:
    """A thousand OR and NOT are still one flat condition."""
    condition = " OR ".join(["NOT " * 1001 + "tags.floor = 9"] * 1000)
    assert parse_condition(condition)(TWINS[0]) is True


def test_pages_follow_each_other_whatever_comes_in_between() -> None:
    """A page goes on after the last row that was seen, also when rows have come or gone since."""
    text = "SELECT deviceId FROM devices"
    query = parse_query(text)
    first = page(text, rows(query, TWINS), None, 2)
    assert [row["deviceId"] for row in first.rows] == ["a", "b"]
    later = [{"deviceId": "0"}, *TWINS[1:], {"deviceId": "d"}]
    second = page(text, rows(query, later), first.continuation, 2)
    assert ([row["deviceId"] for row in second.rows], second.continuation) == (["c", "d"], None)


@pytest.mark.parametrize("continuation", ["", "x", "bnVsbA==", "WzFd", "W10="])
def test_a_foreign_continuation_is_refused(continuation: str) -> None:
    """Garbage is no page, and neither is the continuation of another query."""
    text = "SELECT * FROM devices"
    with pytest.raises(ContinuationInvalid):
        page(text, [], continuation, 1)
    other = page("SELECT deviceId FROM devices", rows(parse_query(text), TWINS), None, 1)
    with pytest.raises(ContinuationInvalid):
        page(text, [], other.continuation, 1)


def test_a_row_is_json() -> None:
    """Whatever the aggregate."""
    assert json.dumps(found("select avg(tags.floor), count() from devices group by status"))
