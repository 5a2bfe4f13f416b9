"""A twin's transitions: merging, versions, metadata, and the two views of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.twin import TwinDocument, TwinRefused, changes, merge

NOW = 1_700_000_000.0
STAMP = "2023-11-14T22:13:20.000000Z"
LATER_STAMP = "2023-11-14T22:13:30.000000Z"

names = st.text("abcd", min_size=1, max_size=2)
plain = (
    st.booleans() | st.integers(-5, 5) | st.text("xy", max_size=2) | st.lists(st.integers(0, 3), max_size=2)
)


def sections(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Small nested objects, so that names meet."""
    values = st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8)
    return st.dictionaries(names, values, max_size=4)


documents = sections(plain)
patches = sections(plain | st.none())


def reference_merge(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, as its pseudocode says it."""
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
    """Merging agrees with the RFC's own pseudocode and leaves its inputs alone."""
    before = json.dumps([document, patch])
    assert merge(document, patch) == reference_merge(document, patch)
    assert json.dumps([document, patch]) == before


@given(documents, patches)
def test_merging_twice_changes_nothing(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """A patch that is delivered twice does no harm."""
    once = merge(document, patch)
    assert merge(once, patch) == once
    assert merge(once, {}) == once


@given(documents, patches)
def test_no_null_survives_a_merge(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """Null deletes, at every level, also below a name that was not there before."""
    assert "null" not in json.dumps(merge(document, patch))


@given(documents, documents)
def test_changes_lead_from_one_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    """What a PUT delivers turns the old desired properties into the new ones, and is empty for equal ones."""
    patch = changes(before, after)
    assert json.dumps(merge(before, patch), sort_keys=True) == json.dumps(after, sort_keys=True)
    assert changes(after, after) == {}


def test_true_is_not_one() -> None:
    """In JSON they differ, although Python finds them equal."""
    assert changes({"a": 1, "b": [1]}, {"a": True, "b": [True]}) == {"a": True, "b": [True]}


def test_a_new_twin_is_empty_and_shows_the_year_one() -> None:
    """As IoT Hub shows a twin that nobody has touched (ref 5.3)."""
    twin = TwinDocument()
    assert twin.for_module() == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    metadata = twin.for_service(Identity("d"))["properties"]["desired"]["$metadata"]
    assert metadata == {"$lastUpdated": "0001-01-01T00:00:00Z"}


def test_each_desired_change_raises_the_version_by_one_and_says_so() -> None:
    """A delivered patch always carries its $version (statement 65); equal values count as a change too."""
    twin = TwinDocument()
    for expected in (2, 3, 4):
        twin, delivered = twin.patch_desired({"fps": 10}, NOW)
        assert delivered == {"fps": 10, "$version": expected}
        assert twin.for_module()["desired"] == {"fps": 10, "$version": expected}


def test_a_delivered_patch_keeps_its_nulls() -> None:
    """The module must hear what went (statement 81)."""
    twin, _ = TwinDocument().patch_desired({"a": {"b": 1, "c": 2}}, NOW)
    twin, delivered = twin.patch_desired({"a": {"b": None}}, NOW)
    assert delivered == {"a": {"b": None}, "$version": 3}
    assert twin.desired == {"a": {"c": 2}}


def test_replace_drops_what_is_not_named() -> None:
    """A PUT delivers what changed, null for each name that went (statement 81)."""
    twin, _ = TwinDocument().patch_desired({"keep": 1, "drop": 2, "in": {"x": 1, "y": 2}}, NOW)
    twin, delivered = twin.replace_desired({"keep": 1, "in": {"x": 3}, "new": 4}, NOW)
    assert delivered == {"drop": None, "in": {"x": 3, "y": None}, "new": 4, "$version": 3}
    assert twin.desired == {"keep": 1, "in": {"x": 3}, "new": 4}


def test_a_twin_read_changed_and_sent_back_whole_is_taken() -> None:
    """$version and $metadata of a twin that was read are no properties to write."""
    twin, _ = TwinDocument().patch_desired({"a": 1}, NOW)
    read = twin.for_service(Identity("d", "m"))
    twin, delivered = twin.replace_service(NOW, desired=read["properties"]["desired"], tags=read["tags"])
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


def test_what_is_refused_changes_nothing() -> None:
    """Good tags do not get in beside bad desired properties: both or neither."""
    twin = TwinDocument()
    with pytest.raises(TwinRefused):
        twin.patch_service(NOW, desired={"a.b": 1}, tags={"t": 1})
    assert twin == TwinDocument()


@pytest.mark.parametrize("change", ["patch_desired", "replace_desired"])
def test_the_whole_of_desired_stays_within_32_kb(change: str) -> None:
    """Twenty patches of 4 KB pass one by one only as long as their sum fits."""
    twin = TwinDocument()
    for name in "abcdefgh"[:7]:
        twin, _ = twin.patch_desired({name: "x" * 4096}, NOW)
    too_much = {"h": "x" * 4096}
    whole = {**twin.desired, **too_much}
    with pytest.raises(TwinRefused, match="32776 bytes, 32768 allowed"):
        getattr(twin, change)(too_much if change == "patch_desired" else whole, NOW)


def test_the_whole_of_reported_stays_within_32_kb() -> None:
    """IoT Hub keeps no more; the module hears of it at once."""
    twin = TwinDocument()
    for name in "abcdefgh"[:7]:
        twin = twin.patch_reported({name: "x" * 4096}, NOW)
    with pytest.raises(TwinRefused, match="bytes"):
        twin.patch_reported({"h": "x" * 4096}, NOW)
    assert twin.patch_reported({"a": None, "h": "x" * 4096}, NOW).reported["h"]


def test_tags_have_8_kb() -> None:
    """Tags are the service's, and smaller."""
    twin = TwinDocument().patch_tags({"a": "x" * 4096})
    assert twin.patch_tags({"b": "x" * 4094}).tags["b"]
    with pytest.raises(TwinRefused, match="tags has 8193 bytes, 8192 allowed"):
        twin.patch_tags({"b": "x" * 4095})
    assert twin.replace_tags({"b": "x" * 4095}).tags == {"b": "x" * 4095}


def test_reported_merges_and_null_removes() -> None:
    """The next get_twin shows the merge, and reported.$version rises (statement 60)."""
    twin = TwinDocument().patch_reported({"a": 1, "b": {"c": 2, "d": 3}}, NOW)
    twin = twin.patch_reported({"a": None, "b": {"c": None}}, NOW)
    assert twin.for_module()["reported"] == {"b": {"d": 3}, "$version": 3}


@pytest.mark.parametrize("patch", [{"a": [None]}, {"$version": 1}, {"a.b": 1}, None, []])
def test_a_bad_report_is_refused(patch: Any) -> None:
    """What edgeHub answers with 400 raises, and a null cannot hide a bad name."""
    with pytest.raises(TwinRefused):
        TwinDocument().patch_reported(patch, NOW)


def test_a_report_leaves_the_etag_alone() -> None:
    """Otherwise a module that reports every few seconds would spoil each publisher's If-Match."""
    twin = TwinDocument()
    after = twin.patch_reported({"a": 1}, NOW)
    assert after.etag == twin.etag
    assert after.version == twin.version + 1


def test_the_etag_is_base64_and_never_comes_twice() -> None:
    """Opaque, without quotes."""
    twin, seen = TwinDocument(), set()
    for _ in range(5):
        base64.b64decode(twin.etag, validate=True)
        seen.add(twin.etag)
        twin = twin.patch_tags({"n": len(seen)})
    assert len(seen) == 5


def test_metadata_stands_on_every_level() -> None:
    """$lastUpdated and, for desired, $lastUpdatedVersion: new on the touched path, old beside it."""
    twin, _ = TwinDocument().patch_desired({"a": {"b": 1, "c": 2}, "d": [1]}, NOW)
    twin, _ = twin.patch_desired({"a": {"b": 5}}, NOW + 10)
    old = {"$lastUpdated": STAMP, "$lastUpdatedVersion": 2}
    new = {"$lastUpdated": LATER_STAMP, "$lastUpdatedVersion": 3}
    assert twin.for_service(Identity("d"))["properties"]["desired"]["$metadata"] == {
        **new,
        "a": {**new, "b": new, "c": old},
        "d": old,
    }


def test_reported_metadata_has_no_version() -> None:
    """Only desired properties say in which version they changed; what was removed leaves no trace."""
    twin = TwinDocument().patch_reported({"a": {"b": 1}, "c": 1}, NOW).patch_reported({"c": None}, NOW + 10)
    old = {"$lastUpdated": STAMP}
    metadata = twin.for_service(Identity("d"))["properties"]["reported"]["$metadata"]
    assert metadata == {"$lastUpdated": LATER_STAMP, "a": {**old, "b": old}}


def test_the_modules_view_has_no_metadata_and_no_tags() -> None:
    """Exactly desired and reported, each with an integer $version (statement 59)."""
    twin, _ = TwinDocument().patch_service(NOW, desired={"a": 1}, tags={"t": 1})
    assert twin.for_module() == {"desired": {"a": 1, "$version": 2}, "reported": {"$version": 1}}


def test_the_services_view() -> None:
    """Names, etag, version, the identity's attributes, tags, both sections (ref 5.3)."""
    view = TwinDocument().patch_tags({"t": 1}).for_service(Identity("d", "m"), status="enabled")
    assert (view["deviceId"], view["moduleId"], view["status"], view["tags"]) == (
        "d",
        "m",
        "enabled",
        {"t": 1},
    )
    assert "moduleId" not in TwinDocument().for_service(Identity("d"))
    assert set(view["properties"]) == {"desired", "reported"}


changing = st.sampled_from(
    ["patch_desired", "replace_desired", "patch_reported", "patch_tags", "replace_tags"]
)


@given(st.lists(st.tuples(changing, patches), max_size=5))
def test_a_twin_survives_being_kept(history: list[tuple[str, dict[str, Any]]]) -> None:
    """to_json is JSON, from_json gives back the same document; metadata has the values' shape."""
    twin = TwinDocument()
    for number, (change, patch) in enumerate(history):
        when = () if change.endswith("tags") else (NOW + number,)
        result = getattr(twin, change)(patch, *when)
        twin = result[0] if isinstance(result, tuple) else result
    assert TwinDocument.from_json(json.loads(json.dumps(twin.to_json()))) == twin
    for section in twin.for_service(Identity("d"))["properties"].values():
        assert_stamped(section, section["$metadata"])


def assert_stamped(section: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Every name has its metadata, and nothing else has any."""
    assert {key for key in metadata if key[0] != "$"} == {key for key in section if key[0] != "$"}
    assert "$lastUpdated" in metadata
    for key, value in section.items():
        if isinstance(value, dict) and key[0] != "$":
            assert_stamped(value, metadata[key])
