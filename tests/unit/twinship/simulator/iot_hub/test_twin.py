"""Twin documents: merging, versions, metadata and the two views."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.twin import TwinDocument, changes, merge
from twinship.simulator.iot_hub.twin_limits import TwinRefused

NOW = 1_700_000_000.0
STAMP = "2023-11-14T22:13:20.000000Z"
LATER_STAMP = "2023-11-14T22:13:30.000000Z"

names = st.text("abcd", min_size=1, max_size=2)
plain = (
    st.booleans() | st.integers(-5, 5) | st.text("xy", max_size=2) | st.lists(st.integers(0, 3), max_size=2)
)


def sections(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Small nested objects, so that names occur in several of them."""
    values = st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8)
    return st.dictionaries(names, values, max_size=4)


documents = sections(plain)
patches = sections(plain | st.none())


def reference_merge(target: Any, patch: Any) -> Any:
    """The pseudocode of RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = reference_merge(merged.get(name), value)
    return merged


@given(documents, patches)
def test_merge_is_rfc_7396(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """Merging agrees with the pseudocode of the RFC and does not change its arguments."""
    before = json.dumps([document, patch])
    assert merge(document, patch) == reference_merge(document, patch)
    assert json.dumps([document, patch]) == before


@given(documents, patches)
def test_merging_twice_changes_nothing(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """A patch that is delivered twice has the effect of one."""
    once = merge(document, patch)
    assert merge(once, patch) == once
    assert merge(once, {}) == once


@given(documents, patches)
def test_a_merge_leaves_no_null(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """Null deletes at every level, also below a new name."""
    assert "null" not in json.dumps(merge(document, patch))


@given(documents, documents)
def test_changes_lead_from_one_document_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The patch turns the first into the second, and is empty for equal documents."""
    patch = changes(before, after)
    assert json.dumps(merge(before, patch), sort_keys=True) == json.dumps(after, sort_keys=True)
    assert changes(after, after) == {}


def test_true_and_one_differ() -> None:
    """JSON distinguishes them, although they are equal in Python."""
    assert changes({"a": 1, "b": [1]}, {"a": True, "b": [True]}) == {"a": True, "b": [True]}
    assert changes({"a": 1, "b": "1"}, {"a": "1", "b": 1}) == {"a": "1", "b": 1}


def test_a_new_twin_is_empty_and_shows_the_year_one() -> None:
    """IoT Hub shows an unchanged twin in this way (ref 5.3)."""
    twin = TwinDocument()
    assert twin.for_module() == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    metadata = twin.for_service(Identity("d"))["properties"]["desired"]["$metadata"]
    assert metadata == {"$lastUpdated": "0001-01-01T00:00:00Z"}


def test_each_desired_change_raises_the_version_by_one() -> None:
    """A delivered patch contains its $version (statement 65); equal values count as a change too."""
    twin = TwinDocument()
    for expected in (2, 3, 4):
        twin, delivered = twin.patch_service(NOW, desired={"fps": 10})
        assert delivered == {"fps": 10, "$version": expected}
        assert twin.for_module()["desired"] == {"fps": 10, "$version": expected}


def test_a_delivered_patch_keeps_its_nulls() -> None:
    """The module must learn which names were removed (statement 81)."""
    twin, _ = TwinDocument().patch_service(NOW, desired={"a": {"b": 1, "c": 2}})
    twin, delivered = twin.patch_service(NOW, desired={"a": {"b": None}})
    assert delivered == {"a": {"b": None}, "$version": 3}
    assert twin.desired == {"a": {"c": 2}}


def test_replace_removes_names_that_it_does_not_contain() -> None:
    """A PUT delivers the changes, with null for each removed name (statement 81)."""
    twin, _ = TwinDocument().patch_service(NOW, desired={"keep": 1, "drop": 2, "in": {"x": 1, "y": 2}})
    twin, delivered = twin.patch_service(NOW, desired={"keep": 1, "in": {"x": 3}, "new": 4}, replace=True)
    assert delivered == {"drop": None, "in": {"x": 3, "y": None}, "new": 4, "$version": 3}
    assert twin.desired == {"keep": 1, "in": {"x": 3}, "new": 4}


def test_a_whole_twin_may_be_sent_back() -> None:
    """$version and $metadata of a twin that was read are ignored."""
    twin, _ = TwinDocument().patch_service(NOW, desired={"a": 1})
    read = twin.for_service(Identity("d", "m"))
    twin, delivered = twin.patch_service(
        NOW, desired=read["properties"]["desired"], tags=read["tags"], replace=True
    )
    assert twin.desired == {"a": 1}
    assert delivered == {"$version": 3}


def test_one_service_call_is_one_step() -> None:
    """Tags and desired in one PATCH raise version once and change the etag once (statement 80)."""
    twin = TwinDocument()
    after, delivered = twin.patch_service(NOW, desired={"a": 1}, tags={"t": "x"})
    assert (after.version, after.desired_version) == (twin.version + 1, twin.desired_version + 1)
    assert after.etag != twin.etag
    assert delivered == {"a": 1, "$version": 2}
    assert after.patch_service(NOW, tags={"t": None})[1] is None


def test_a_refused_change_changes_nothing() -> None:
    """Bad desired properties also refuse the tags of the same request."""
    twin = TwinDocument()
    with pytest.raises(TwinRefused):
        twin.patch_service(NOW, desired={"a.b": 1}, tags={"t": 1})
    assert twin == TwinDocument()


@pytest.mark.parametrize("replace", [False, True])
def test_the_whole_of_desired_stays_within_32_kb(replace: bool) -> None:
    """The limit applies to the result of a patch or a replacement, not only to its argument."""
    twin = TwinDocument()
    for name in "abcdefgh"[:7]:
        twin, _ = twin.patch_service(NOW, desired={name: "x" * 4096})
    too_much = {"h": "x" * 4096}
    whole = {**twin.desired, **too_much}
    with pytest.raises(TwinRefused, match="32776 bytes, 32768 allowed"):
        twin.patch_service(NOW, desired=whole if replace else too_much, replace=replace)


def test_the_whole_of_reported_stays_within_32_kb() -> None:
    """A patch that makes the section larger is refused."""
    twin = TwinDocument()
    for name in "abcdefgh"[:7]:
        twin = twin.patch_reported({name: "x" * 4096}, NOW)
    with pytest.raises(TwinRefused, match="bytes"):
        twin.patch_reported({"h": "x" * 4096}, NOW)
    assert twin.patch_reported({"a": None, "h": "x" * 4096}, NOW).reported["h"]


def test_tags_have_8_kb() -> None:
    """The limit of tags is smaller than that of properties."""
    twin, _ = TwinDocument().patch_service(NOW, tags={"a": "x" * 4096})
    assert twin.patch_service(NOW, tags={"b": "x" * 4094})[0].tags["b"]
    with pytest.raises(TwinRefused, match="tags has 8193 bytes, 8192 allowed"):
        twin.patch_service(NOW, tags={"b": "x" * 4095})
    assert twin.patch_service(NOW, tags={"b": "x" * 4095}, replace=True)[0].tags == {"b": "x" * 4095}


def test_reported_merges_and_null_removes() -> None:
    """The twin shows the merge, and reported.$version rises (statement 60)."""
    twin = TwinDocument().patch_reported({"a": 1, "b": {"c": 2, "d": 3}}, NOW)
    twin = twin.patch_reported({"a": None, "b": {"c": None}}, NOW)
    assert twin.for_module()["reported"] == {"b": {"d": 3}, "$version": 3}


@pytest.mark.parametrize("patch", [{"a": [None]}, {"$version": 1}, {"a.b": 1}, None, []])
def test_a_bad_report_is_refused(patch: Any) -> None:
    """A report that edgeHub answers with 400 raises; a null value does not hide a bad name."""
    with pytest.raises(TwinRefused):
        TwinDocument().patch_reported(patch, NOW)


def test_a_report_does_not_change_the_etag() -> None:
    """Otherwise a module that reports every few seconds would invalidate each publisher's If-Match."""
    twin = TwinDocument()
    after = twin.patch_reported({"a": 1}, NOW)
    assert after.etag == twin.etag
    assert after.version == twin.version + 1


def test_the_etag_is_base64_and_unique() -> None:
    """It is opaque and has no quotes."""
    twin, seen = TwinDocument(), set()
    for _ in range(5):
        base64.b64decode(twin.etag, validate=True)
        seen.add(twin.etag)
        twin, _ = twin.patch_service(NOW, tags={"n": len(seen)})
    assert len(seen) == 5


def test_every_level_has_metadata() -> None:
    """$lastUpdated and $lastUpdatedVersion are new along the changed path and old beside it."""
    twin, _ = TwinDocument().patch_service(NOW, desired={"a": {"b": 1, "c": 2}, "d": [1]})
    twin, _ = twin.patch_service(NOW + 10, desired={"a": {"b": 5}})
    old = {"$lastUpdated": STAMP, "$lastUpdatedVersion": 2}
    new = {"$lastUpdated": LATER_STAMP, "$lastUpdatedVersion": 3}
    assert twin.for_service(Identity("d"))["properties"]["desired"]["$metadata"] == {
        **new,
        "a": {**new, "b": new, "c": old},
        "d": old,
    }


def test_reported_metadata_has_no_version() -> None:
    """Only desired properties have $lastUpdatedVersion; removed names leave no metadata."""
    twin = TwinDocument().patch_reported({"a": {"b": 1}, "c": 1}, NOW).patch_reported({"c": None}, NOW + 10)
    old = {"$lastUpdated": STAMP}
    metadata = twin.for_service(Identity("d"))["properties"]["reported"]["$metadata"]
    assert metadata == {"$lastUpdated": LATER_STAMP, "a": {**old, "b": old}}


def test_the_modules_view_has_no_metadata_and_no_tags() -> None:
    """It has exactly desired and reported, each with an integer $version (statement 59)."""
    twin, _ = TwinDocument().patch_service(NOW, desired={"a": 1}, tags={"t": 1})
    assert twin.for_module() == {"desired": {"a": 1, "$version": 2}, "reported": {"$version": 1}}


def test_the_services_view() -> None:
    """It has names, etag, version, the attributes of the identity, tags and both sections (ref 5.3)."""
    twin, _ = TwinDocument().patch_service(NOW, tags={"t": 1})
    view = twin.for_service(Identity("d", "m"), status="enabled")
    assert (view["deviceId"], view["moduleId"], view["status"], view["tags"]) == (
        "d",
        "m",
        "enabled",
        {"t": 1},
    )
    assert "moduleId" not in TwinDocument().for_service(Identity("d"))
    assert set(view["properties"]) == {"desired", "reported"}


changing = st.sampled_from(
    [
        lambda twin, now, section: twin.patch_service(now, desired=section)[0],
        lambda twin, now, section: twin.patch_service(now, desired=section, replace=True)[0],
        lambda twin, now, section: twin.patch_service(now, tags=section)[0],
        lambda twin, now, section: twin.patch_service(now, tags=section, replace=True)[0],
        lambda twin, now, section: twin.patch_reported(section, now),
    ]
)


@given(st.lists(st.tuples(changing, patches), max_size=5))
def test_a_twin_is_the_same_after_storing(history: list[tuple[Any, dict[str, Any]]]) -> None:
    """to_json is JSON, from_json returns the same document; metadata has the shape of the values."""
    twin = TwinDocument()
    for number, (change, patch) in enumerate(history):
        twin = change(twin, NOW + number, patch)
    assert TwinDocument(**json.loads(json.dumps(twin.to_json()))) == twin
    for section in twin.for_service(Identity("d"))["properties"].values():
        assert_stamped(section, section["$metadata"])


def assert_stamped(section: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Every name has metadata, and metadata has no other names."""
    assert {key for key in metadata if key[0] != "$"} == {key for key in section if key[0] != "$"}
    assert "$lastUpdated" in metadata
    for key, value in section.items():
        if isinstance(value, dict) and key[0] != "$":
            assert_stamped(value, metadata[key])
