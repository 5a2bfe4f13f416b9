"""Messages as routes see them, also with a body that is not what its sender declares."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.routing.message import MISSING, UNDEFINED, JsonPath, RoutedMessage, Value, parse_path

JSON = {"contentType": "application/json", "contentEncoding": "utf-8"}
DOCUMENT = {
    "n": 1,
    "f": -2.5,
    "t": "text",
    "b": True,
    "z": None,
    "o": {"in": {"deep": 7}, "A-b": "x"},
    "l": [10, {"k": "v"}, [3]],
    "date": "2024-05-01T10:00:00Z",
    "day": "2024-05-01",
}


def message(body: bytes, system: dict[str, str] = JSON) -> RoutedMessage:
    """A message with this body and these system properties."""
    return RoutedMessage("/messages/modules/m", {}, system, body)


def at(path: str, document: object = DOCUMENT) -> Value:
    """The value of a JSON body at this path."""
    return message(json.dumps(document).encode()).body_value(parse_path(path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("n", 1.0),
        ("f", -2.5),
        ("t", "text"),
        ("b", True),
        ("z", None),
        ("o.in.deep", 7.0),
        ("o.A-b", "x"),
        ("l[0]", 10.0),
        ("l[1].k", "v"),
        ("day", "2024-05-01"),
        ("o", UNDEFINED),
        ("l", UNDEFINED),
        ("l[2]", UNDEFINED),
        ("date", UNDEFINED),
        ("N", MISSING),
        ("o.none", MISSING),
        ("t.none", MISSING),
        ("l[3]", MISSING),
        ("o[0]", MISSING),
        ("l.k", MISSING),
    ],
)
def test_a_path_into_the_body(path: str, value: Value) -> None:
    """Scalars as they are, objects and dates undefined, a missing path MISSING (ref 4.6)."""
    assert at(path) == value
    assert type(at(path)) is type(value)


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", "a[]", "a[x]", "a[0][1]", "[0]", "a[-1]", "*", "a.*"]
)
def test_a_bad_path_is_refused(path: str) -> None:
    """Wildcards and nested indices too."""
    with pytest.raises(ValueError, match="is not a path"):
        parse_path(path)


@pytest.mark.parametrize(
    "system",
    [
        {},
        {"contentType": "application/json"},
        {"contentEncoding": "utf-8"},
        {"contentType": "text/plain", "contentEncoding": "utf-8"},
        {"contentType": "application/json", "contentEncoding": "latin-1"},
        {"contentType": "application/json; charset=utf-8", "contentEncoding": "utf-8"},
    ],
)
def test_a_body_is_json_only_if_declared(system: dict[str, str]) -> None:
    """Content type and encoding must both be set to values that edgeHub knows (statement 50)."""
    assert message(b'{"n": 1}', system).body_value(("n",)) is UNDEFINED


@pytest.mark.parametrize(
    ("name", "codec"), [("UTF-8", "utf-8"), ("utf-16", "utf-16-le"), ("Utf-32", "utf-32-le")]
)
def test_three_encodings(name: str, codec: str) -> None:
    """Encoding and content type match in any letter case."""
    system = {"CONTENTTYPE": "Application/JSON", "contentEncoding": name}
    assert message('{"n": "ä"}'.encode(codec), system).body_value(("n",)) == "ä"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"n": 1',
        b"[1]",
        b"1",
        b'{"n": 1} x',
        b"\xff\xfe\x00",
        '{"n": 1}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"n":' * 50_000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_wrongly_declared_body_is_undefined(body: bytes) -> None:
    """A body that is declared as JSON and is not a JSON object does not raise."""
    assert message(body).body_value(("n",)) is UNDEFINED
    assert message(body).body_has(("n",)) is UNDEFINED


def test_very_long_numbers() -> None:
    """A number of ten thousand digits is a float, as in edgeHub, and NaN is undefined."""
    body = b'{"n": ' + b"9" * 10_000 + b', "x": NaN, "y": -Infinity, "bad": "\xff"}'
    assert message(body).body_value(("n",)) == float("inf")
    assert message(body).body_value(("x",)) is UNDEFINED
    assert message(body).body_value(("y",)) == float("-inf")
    assert message(body).body_value(("bad",)) == "\ufffd"


paths = st.lists(st.text("abl", min_size=1) | st.integers(0, 3), min_size=1, max_size=4).map(tuple)


@given(st.binary() | st.text().map(str.encode), paths)
def test_no_body_raises(body: bytes, path: JsonPath) -> None:
    """With any bytes and any path."""
    message(body).body_value(path)


def test_body_has_finds_nulls_and_objects() -> None:
    """twin_change_includes needs it: a removed property is null in a notification."""
    body = message(json.dumps(DOCUMENT).encode())
    assert [body.body_has((name,)) for name in ("z", "o", "n", "none")] == [True, True, True, False]


def test_property_names_ignore_case() -> None:
    """As in edgeHub; an exact match has precedence."""
    bag = {"Label": "exact", "label": "other"}
    found = RoutedMessage("/", bag, {"contentType": "t"}, b"")
    assert found.application_property("label") == "other"
    assert found.application_property("LABEL") == "exact"
    assert found.system_property("CONTENTtype") == "t"
    assert found.application_property("none") is UNDEFINED


def test_the_body_is_read_once() -> None:
    """Ten routes that read the body parse it once."""
    body = message(b'{"n": 1}')
    assert body.body_value(("n",)) == 1.0
    assert body._document is body._document
