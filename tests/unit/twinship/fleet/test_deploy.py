"""Deploying: what is refused before any hub is asked."""

import json
from pathlib import Path

import pytest

from twinship.fleet import deploy
from twinship.fleet.connection import Connection, NotConfigured
from twinship.fleet.deploy import BadManifest
from twinship.simulator import lint

ROOT = Path(__file__).parents[4]
TEMPLATE = ROOT / "deployment.template.json"
VARIABLES = {
    "CONTAINER_REGISTRY_SERVER": "registry.example",
    "MODEL_TRUSTED_KEYS": "0123456789abcdef:AAAA",
    "CAMERA_FOLDER": "/srv/pictures",
}
FAR = Connection("hub.azure-devices.net", "iothubowner", "c2VjcmV0")


def test_the_repositorys_manifest_needs_these_variables_and_no_others() -> None:
    """With the variables of .env.example set, nothing stays literal."""
    deployment = deploy.read_manifest(TEMPLATE, VARIABLES)
    assert lint.undefined(deployment) == ()
    assert deployment.modules["inference"].image == "registry.example/inference:0.2.0-amd64"
    assert set(lint.undefined(deploy.read_manifest(TEMPLATE, {}))) == set(VARIABLES)


def test_a_real_hub_gets_no_literal_variable() -> None:
    """A device cannot pull an image of `$CONTAINER_REGISTRY_SERVER`; the names are in the line."""
    with pytest.raises(BadManifest, match=r"needs CAMERA_FOLDER, MODEL_TRUSTED_KEYS; cure: set it in \.env"):
        deploy.deploy(FAR, TEMPLATE, {"CONTAINER_REGISTRY_SERVER": "registry.example"}, "twinship")


def test_a_placeholder_is_refused_by_name() -> None:
    """A registry that nobody filled in is not deployed."""
    with pytest.raises(
        NotConfigured, match="CONTAINER_REGISTRY_SERVER still holds the placeholder <registry>"
    ):
        deploy.read_manifest(TEMPLATE, {**VARIABLES, "CONTAINER_REGISTRY_SERVER": "<registry>.azurecr.io"})


def test_an_unused_placeholder_does_no_harm() -> None:
    """Who needs no password need not invent one."""
    deploy.read_manifest(TEMPLATE, {**VARIABLES, "CONTAINER_REGISTRY_PASSWORD": "<password>"})


def test_a_fault_of_the_manifest_is_one_line(tmp_path: Path) -> None:
    """A route to a module that is not there, and a template that is not there."""
    tree = json.loads(TEMPLATE.read_text())
    routes = tree["modulesContent"]["$edgeHub"]["properties.desired"]["routes"]
    routes["flow"] = "FROM /messages/modules/infrence/* INTO $upstream"
    for name, module in tree["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"].items():
        module["settings"]["image"] = name
    path = tmp_path / "deployment.template.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(BadManifest, match="route 'flow' names module 'infrence'"):
        deploy.read_manifest(path, VARIABLES)
    with pytest.raises(BadManifest, match=r"none\.json"):
        deploy.read_manifest(tmp_path / "none.json", VARIABLES)
