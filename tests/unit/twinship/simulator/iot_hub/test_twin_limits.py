"""The limits of twin sections, each from just inside and just outside (statement 62, ref 4.9)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.iot_hub.twin_limits import (
    TwinRefused,
    counted_bytes,
    json_bytes,
    validate_desired,
    validate_reported,
    validate_tags,
)

EVERYWHERE = [validate_reported, validate_desired, validate_tags]


def nested(levels: int) -> dict[str, Any]:
    """A section with `levels` nested objects and a value in the innermost."""
    return {"a": nested(levels - 1)} if levels else {"value": 1}


def sized(size: int, measure: Callable[[object], int]) -> dict[str, str]:
    """A flat section of exactly `size` bytes by this measure, with strings of allowed length."""
    section: dict[str, str] = {}
    while (rest := size - measure(section)) > 0:
        name = f"k{len(section):02}"
        overhead = measure({**section, name: ""}) - measure(section)
        # the rest must stay large enough for one more name
        section[name] = "x" * min(rest - overhead, 4000)
    assert measure(section) == size
    return section


JUST_INSIDE = [
    {"text": "x" * 4096},
    {"text": "ü" * 2048},
    nested(10),
    {"n" * 1024: 1},
    {"ü" * 512: 1},
    {"highest": 2**52 - 1, "lowest": -(2**52)},
    {"list": [1, "two", {"three": [True, 4.5]}]},
    {"float": 1e300, "yes": True, "gone": None, "deep": {"gone": None}},
    {"matrix": [[[1]]]},
    {"dash-under_colon:ü": 1},
    {},
]
JUST_OUTSIDE = [
    {"text": "x" * 4097},
    {"list": ["x" * 4097]},
    {"text": "ü" * 2048 + "x"},
    nested(11),
    {"list": [nested(10)]},
    {"n" * 1025: 1},
    {"high": 2**52},
    {"low": -(2**52) - 1},
    {"list": [1, None]},
    {"list": [{"a": None}]},
    {"list": [[{"a": {"b": None}}]]},
    {"do.t": 1},
    {"dol$lar": 1},
    {"$version": 1},
    {"sp ace": 1},
    {"tab\t": 1},
    {"list": [{"do.t": 1}]},
    {"deep": {"do.t": None}},
    {"control\x07": 1},
    {"c1\x85": 1},
    {"nan": float("nan")},
    {"set": {1}},
    {1: 1},
]


@pytest.mark.parametrize("validate", EVERYWHERE)
@pytest.mark.parametrize("section", JUST_INSIDE)
def test_just_inside_the_limit_passes(validate: Callable[[object], None], section: object) -> None:
    """A section of exactly the limit is accepted."""
    validate(section)


@pytest.mark.parametrize("validate", EVERYWHERE)
@pytest.mark.parametrize("section", JUST_OUTSIDE)
def test_just_outside_the_limit_is_refused(validate: Callable[[object], None], section: object) -> None:
    """Every limit of ref 4.9 applies to every section."""
    with pytest.raises(TwinRefused):
        validate(section)


def test_only_edge_hub_refuses_a_hash_in_a_name() -> None:
    """edgeHub reserves `#` in addition to the characters that IoT Hub reserves."""
    with pytest.raises(TwinRefused, match="'#'"):
        validate_reported({"a#b": 1})
    validate_desired({"a#b": 1})


@pytest.mark.parametrize(
    ("validate", "limit", "measure"),
    [
        (validate_reported, 32 * 1024, json_bytes),
        (validate_desired, 32 * 1024, counted_bytes),
        (validate_tags, 8 * 1024, counted_bytes),
    ],
)
def test_the_size_of_a_section(
    validate: Callable[[object], None], limit: int, measure: Callable[[object], int]
) -> None:
    """The limit is exact to the byte; tags have a quarter of it."""
    validate(sized(limit, measure))
    with pytest.raises(TwinRefused, match=f"{limit + 1} bytes, {limit} allowed"):
        validate(sized(limit + 1, measure))


def test_counted_bytes() -> None:
    """Names and strings count in UTF-8, a number 8, a boolean 4, punctuation 0."""
    section = {"n": 1, "f": 1.5, "b": True, "s": "ü", "l": [1, "a"], "o": {"x": None}}
    assert counted_bytes(section) == (1 + 8) + (1 + 8) + (1 + 4) + (1 + 2) + (1 + 8 + 1) + (1 + 1)


@pytest.mark.parametrize("section", [None, [], "x", 1])
def test_a_section_is_an_object(section: object) -> None:
    """Any other value is refused with the name of the section."""
    with pytest.raises(TwinRefused, match="reported is not a JSON object"):
        validate_reported(section)


def test_the_refusal_names_the_path() -> None:
    """The message contains the path to the bad value."""
    with pytest.raises(TwinRefused, match=r"^reported\.a\.b\[1\]\.c is outside -2\^52"):
        validate_reported({"a": {"b": [0, {"c": 2**60}]}})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)


@given(st.dictionaries(st.text(), anything))
def test_any_document_is_accepted_or_refused(document: dict[str, Any]) -> None:
    """No document raises another exception; lone surrogates are text too."""
    for section in (document, json.loads(json.dumps(document) or "{}"), {"s": "\ud800"}):
        for validate in EVERYWHERE:
            with contextlib.suppress(TwinRefused):
                validate(section)


def test_depth_is_refused_without_deep_recursion() -> None:
    """A document of 900 levels is refused before the check recurses into it."""
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    with pytest.raises(TwinRefused, match="deeper than 10 levels"):
        validate_reported({"deep": deep})
