"""Merging and splitting reported patches."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgekit.hub.reports import merged, queued, split

NAMES = st.sampled_from(["a", "b", "c"])
PATCHES = st.recursive(
    st.dictionaries(NAMES, st.none() | st.integers(0, 3), max_size=3),
    lambda inner: st.dictionaries(NAMES, st.none() | st.integers(0, 3) | inner, max_size=3),
    max_leaves=10,
)


def applied(document: Any, patch: Any) -> Any:
    """RFC 7396, written from its pseudo code."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = applied(result.get(name), value)
    return result


@given(PATCHES, PATCHES, PATCHES)
def test_a_merged_patch_has_the_effect_of_both(document: Any, first: Any, then: Any) -> None:
    """For every document, the merged patch has the same result as the two patches."""
    twin = applied({}, document)
    one = merged(first, then)
    if one is not None:
        assert applied(twin, one) == applied(applied(twin, first), then)


@given(PATCHES, st.lists(PATCHES, max_size=5))
def test_a_queue_has_the_effect_of_all_its_patches(document: Any, patches: list[Any]) -> None:
    """Patches that cannot be merged stay in order."""
    twin = expected = applied({}, document)
    waiting: tuple[dict[str, Any], ...] = ()
    for patch in patches:
        waiting = queued(waiting, patch)
        expected = applied(expected, patch)
    for patch in waiting:
        twin = applied(twin, patch)
    assert twin == expected


def test_a_removal_survives_merging() -> None:
    """null in a patch removes a property; merging must keep it."""
    assert merged({"a": {"b": 1}}, {"a": {"b": None}}) == {"a": {"b": None}}


def test_an_object_after_a_removal_is_not_merged() -> None:
    """The merged patch would keep properties that the first patch removes."""
    assert merged({"a": None}, {"a": {"b": 1}}) is None
    assert queued(({"a": None},), {"a": {"b": 1}}) == ({"a": None}, {"a": {"b": 1}})


def test_a_patch_splits_by_section() -> None:
    """Each section becomes one patch."""
    assert split({"a": 1, "b": {"c": 2}}) == ({"a": 1}, {"b": {"c": 2}})
