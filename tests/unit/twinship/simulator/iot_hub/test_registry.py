"""The registry: identities, keys, twins, deployments, also after a restart."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid, Unsupported
from twinship.simulator.iot_hub.registry import (
    AlreadyExists,
    InvalidConfiguration,
    NotFound,
    PreconditionFailed,
    Registry,
    SystemModule,
)
from twinship.simulator.iot_hub.twin_limits import TwinRefused
from twinship.simulator.store import Store

EDGE = Identity("edge")
EDGE_BODY = {"capabilities": {"iotEdge": True}}
KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "hub.sqlite")
    yield opened
    asyncio.run(opened.close())


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, "127.0.0.1", lambda: 1000.0)


def content(*modules: str, **twins: Mapping[str, Any]) -> dict[str, Any]:
    """A modulesContent with these modules."""
    specified = {name: {"type": "docker", "settings": {"image": name}} for name in modules}
    return {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": specified}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
        **{name: {"properties.desired": dict(desired)} for name, desired in twins.items()},
    }


def names(registry: Registry, device: str = "edge") -> list[str | None]:
    return [document.identity.module for document in registry.modules(device)]


def test_an_edge_device_comes_with_its_system_modules(registry: Registry) -> None:
    """`$edgeAgent` and `$edgeHub` exist as soon as the device is an edge device."""
    registry.create(EDGE, EDGE_BODY)
    assert names(registry) == ["$edgeAgent", "$edgeHub"]
    registry.create(Identity("leaf"))
    assert names(registry, "leaf") == []
    registry.update(Identity("leaf"), EDGE_BODY, if_match="*")
    assert names(registry, "leaf") == ["$edgeAgent", "$edgeHub"]


def test_keys_are_generated_or_given(registry: Registry) -> None:
    """A body without keys gives two random ones, with both keys those, with one key an error."""
    made = registry.create(Identity("a"))
    assert len(base64.b64decode(made.primary_key)) == 64
    assert made.primary_key != made.secondary_key
    body = {"authentication": {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}}
    registry.create(Identity("b"), body)
    assert registry.keys(Identity("b")) == (KEY, KEY)
    half = {"authentication": {"symmetricKey": {"primaryKey": KEY}}}
    with pytest.raises(ArgumentInvalid, match="secondaryKey must be base64") as caught:
        registry.create(Identity("c"), half)
    assert KEY not in str(caught.value)
    assert KEY not in repr(registry.get(Identity("b")))


def test_only_key_authentication_is_supported(registry: Registry) -> None:
    """X.509 identities are refused by name."""
    with pytest.raises(Unsupported, match="authentication type 'selfSigned'"):
        registry.create(EDGE, {"authentication": {"type": "selfSigned"}})


def test_an_existing_identity_is_not_created_again(registry: Registry) -> None:
    """A second create is refused, for devices and modules; a module needs its device."""
    registry.create(EDGE)
    registry.create(Identity("edge", "m"))
    for identity in (EDGE, Identity("edge", "m")):
        with pytest.raises(AlreadyExists):
            registry.create(identity)
    with pytest.raises(NotFound) as caught:
        registry.create(Identity("ghost", "m"))
    assert caught.value.identity == Identity("ghost")


def test_an_etag_protects_an_update(registry: Registry) -> None:
    """A stale etag is refused; each update sets a new one; `*` matches any."""
    first = registry.create(EDGE)
    second = registry.update(EDGE, {"statusReason": "moved"}, if_match=first.etag)
    assert second.etag != first.etag
    with pytest.raises(PreconditionFailed):
        registry.update(EDGE, {}, if_match=first.etag)
    registry.update(EDGE, {}, if_match="*")
    with pytest.raises(PreconditionFailed):
        registry.delete(EDGE, if_match=first.etag)


def test_a_disabled_device_and_its_modules_have_no_keys(registry: Registry) -> None:
    """The registry returns no key for them, and their connections are revoked."""
    registry.create(EDGE)
    module = Identity("edge", "m")
    registry.create(module)
    revoked: list[Identity] = []
    registry.on_revoked.append(revoked.append)
    registry.update(EDGE, {"statusReason": "only words"}, if_match="*")
    assert revoked == []
    registry.update(EDGE, {"status": "disabled"}, if_match="*")
    assert revoked == [EDGE, module]
    assert (registry.keys(EDGE), registry.keys(module)) == (None, None)


def test_deleting_a_device_deletes_its_modules(registry: Registry, store: Store) -> None:
    """Memory and store keep nothing of them, and the callbacks are called for each."""
    registry.create(EDGE, EDGE_BODY)
    removed: list[Identity] = []
    registry.on_removed.append(removed.append)
    registry.delete(EDGE)
    assert [str(identity) for identity in removed] == ["edge", "edge/$edgeAgent", "edge/$edgeHub"]
    assert (store.documents("identity"), store.documents("twin")) == ({}, {})
    assert store.documents("report") == {}
    with pytest.raises(NotFound):
        registry.twin(EDGE)


def test_system_modules_cannot_be_deleted(registry: Registry) -> None:
    """`$edgeHub` is deleted only with its device."""
    registry.create(EDGE, EDGE_BODY)
    with pytest.raises(SystemModule):
        registry.delete(Identity("edge", "$edgeHub"))


def test_a_missing_device_is_named_before_its_module(registry: Registry) -> None:
    """NotFound names the missing one of the two: they are different errors of the service (ref 5.4)."""
    registry.create(EDGE)
    with pytest.raises(NotFound) as module:
        registry.get(Identity("edge", "ghost"))
    with pytest.raises(NotFound) as device:
        registry.get(Identity("ghost", "m"))
    assert (module.value.identity, device.value.identity) == (Identity("edge", "ghost"), Identity("ghost"))


def test_twin_changes_are_delivered_with_their_version(registry: Registry) -> None:
    """A patch as it is, a PUT as its changes; `$version` rises by one (statement 65; statement 81)."""
    registry.create(EDGE)
    delivered: list[tuple[Identity, Mapping[str, Any]]] = []
    registry.on_desired.append(lambda identity, patch: delivered.append((identity, patch)))
    registry.patch_twin(EDGE, desired={"a": 1, "b": 2})
    registry.patch_twin(EDGE, desired={"b": 3}, replace=True)
    registry.patch_twin(EDGE, tags={"floor": 1})
    assert delivered == [(EDGE, {"a": 1, "b": 2, "$version": 2}), (EDGE, {"a": None, "b": 3, "$version": 3})]
    assert registry.twin(EDGE).desired == {"b": 3}


def test_a_stale_twin_etag_is_refused(registry: Registry) -> None:
    """A module's report does not make an etag stale (statement 80)."""
    registry.create(EDGE)
    etag = registry.twin(EDGE).etag
    registry.patch_reported(EDGE, {"temperature": 20})
    registry.patch_twin(EDGE, desired={"a": 1}, if_match=etag)
    with pytest.raises(PreconditionFailed):
        registry.patch_twin(EDGE, desired={"a": 2}, if_match=etag)
    assert registry.twin(EDGE).desired == {"a": 1}


def test_a_deployment_creates_and_removes_modules(registry: Registry) -> None:
    """The next deployment removes the modules of the last one, and no other module."""
    registry.create(EDGE, EDGE_BODY)
    registry.create(Identity("edge", "mine"))
    registry.apply_configuration("edge", content("camera", "inference", camera={"fps": 10}))
    assert names(registry) == ["$edgeAgent", "$edgeHub", "camera", "inference", "mine"]
    assert registry.get(Identity("edge", "camera")).managed_by == "IotEdge"
    registry.apply_configuration("edge", content("inference"))
    assert names(registry) == ["$edgeAgent", "$edgeHub", "inference", "mine"]


def test_a_deployment_replaces_desired_properties(registry: Registry) -> None:
    """Every module named gets exactly the properties of the manifest (ref 8); others keep theirs."""
    registry.create(EDGE, EDGE_BODY)
    registry.apply_configuration("edge", content("camera", "inference", camera={"fps": 10, "old": 1}))
    registry.patch_twin(Identity("edge", "inference"), desired={"model": {"name": "digits"}})
    delivered: dict[str, Mapping[str, Any]] = {}
    registry.on_desired.append(lambda identity, patch: delivered.update({str(identity): patch}))
    registry.apply_configuration("edge", content("camera", "inference", camera={"fps": 20}))
    assert delivered["edge/camera"] == {"fps": 20, "old": None, "$version": 3}
    assert registry.twin(Identity("edge", "inference")).desired == {"model": {"name": "digits"}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"$edgeHub": {"properties.desired": {}}}, "needs both"),
        (content("camera", ghost={"a": 1}), "names 'ghost', which is not a module of 'edge'"),
    ],
)
def test_a_bad_deployment_changes_nothing(registry: Registry, wrong: dict[str, Any], message: str) -> None:
    """A deployment is applied completely or not at all."""
    registry.create(EDGE, EDGE_BODY)
    registry.apply_configuration("edge", content("camera", camera={"fps": 10}))
    with pytest.raises(InvalidConfiguration, match=message):
        registry.apply_configuration("edge", wrong)
    with pytest.raises(TwinRefused):
        registry.apply_configuration("edge", content("other", "camera", camera={"text": "x" * 5000}))
    assert names(registry) == ["$edgeAgent", "$edgeHub", "camera"]
    assert registry.twin(Identity("edge", "camera")).desired == {"fps": 10}


def test_a_deployment_needs_an_edge_device(registry: Registry) -> None:
    """Another device has no edgeAgent."""
    registry.create(EDGE)
    with pytest.raises(InvalidConfiguration, match="not an IoT Edge device"):
        registry.apply_configuration("edge", content())


def test_the_store_keeps_everything(registry: Registry, store: Store) -> None:
    """A second registry on the same store has the same identities, keys and twins."""
    registry.create(EDGE, EDGE_BODY)
    registry.apply_configuration("edge", content("camera", camera={"fps": 10}))
    registry.patch_reported(Identity("edge", "camera"), {"sent": 7})
    again = Registry(store, "127.0.0.1", lambda: 2000.0)
    assert again.modules("edge") == registry.modules("edge")
    assert again.twin(Identity("edge", "camera")) == registry.twin(Identity("edge", "camera"))


def test_the_newer_of_report_and_whole_twin_counts_after_a_restart(registry: Registry, store: Store) -> None:
    """A report is stored apart from the desired properties; a later change of the service stores all."""
    registry.create(EDGE, EDGE_BODY)
    for desired in ({"a": 1}, {"a": 2}):
        registry.patch_twin(EDGE, desired=desired)
        assert Registry(store, "127.0.0.1", lambda: 2000.0).twin(EDGE) == registry.twin(EDGE)
        registry.patch_reported(EDGE, {"b": desired["a"]})
        assert Registry(store, "127.0.0.1", lambda: 2000.0).twin(EDGE) == registry.twin(EDGE)


def test_callbacks_get_each_new_identity_once(registry: Registry) -> None:
    """A second deployment of the same modules calls them for none."""
    created: list[str] = []
    registry.on_created.append(lambda identity: created.append(str(identity)))
    registry.create(EDGE, EDGE_BODY)
    registry.apply_configuration("edge", content("camera"))
    registry.apply_configuration("edge", content("camera"))
    assert created == ["edge", "edge/$edgeAgent", "edge/$edgeHub", "edge/camera"]
