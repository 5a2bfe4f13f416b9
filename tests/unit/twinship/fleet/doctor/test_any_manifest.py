"""No manifest makes doctor fail: every value may have any type."""

import copy
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.twinship.fleet.doctor.project_files import FAULTLESS, TEMPLATE
from twinship.fleet.doctor import examine
from twinship.fleet.doctor.positions import positions

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
REPLACEMENTS: tuple[Any, ...] = (None, 0, "{", [None], {"": {"": []}})


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, each in items for inner in paths(each, (*path, key)))]


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    """The value at a path."""
    for key in path:
        tree = tree[key]
    return tree


@pytest.mark.parametrize("replacement", REPLACEMENTS, ids=repr)
def test_any_value_may_have_any_type(replacement: Any) -> None:
    """Each value of the shipped manifest in turn is replaced by a value of another type."""
    tree = json.loads(TEMPLATE)
    for path in paths(tree)[1:]:
        changed = copy.deepcopy(tree)
        at(changed, path[:-1])[path[-1]] = replacement
        examine(replace(FAULTLESS, manifest=json.dumps(changed), model=None))


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_any_json_is_examined(value: Any) -> None:
    """As the whole file, and as the desired properties of the system modules."""
    sections = {name: {"properties.desired": value} for name in ("$edgeAgent", "$edgeHub", "m")}
    for tree in (value, {"modulesContent": value}, {"modulesContent": sections}):
        examine(replace(FAULTLESS, manifest=json.dumps(tree), model=None))


@given(JSON, st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_every_value_has_a_line(value: Any, indent: int) -> None:
    """The scan of positions finds every path that the parser finds, and no other."""
    text = json.dumps(value, indent=indent or None)
    lines, twice = positions(text)
    assert set(lines) == set(paths(json.loads(text)))
    assert twice == []
    assert max(lines.values()) <= text.count("\n") + 1


def test_a_cut_manifest_is_one_finding() -> None:
    """A file that a full disk has cut is TW001 or, at a variable, TW016."""
    cuts = random.Random(1).sample(range(1, len(TEMPLATE) - 2), 40)
    for cut in cuts:
        found = examine(replace(FAULTLESS, manifest=TEMPLATE[:cut])).findings
        assert [each.rule.id for each in found] == ["TW001"]
