"""Deploying: what is refused before any request to a hub."""

import json
from pathlib import Path

import pytest

from tests.unit.twinship.cli.command import run
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
    """With the variables of .env.example set, every placeholder is replaced."""
    deployment = deploy.read_manifest(TEMPLATE, VARIABLES)
    assert lint.undefined(deployment) == ()
    assert deployment.modules["inference"].image == "registry.example/inference:0.2.0-amd64"
    assert set(lint.undefined(deploy.read_manifest(TEMPLATE, {}))) == set(VARIABLES)


def test_undefined_variables_are_refused_for_a_real_hub() -> None:
    """A device cannot pull an image of `$CONTAINER_REGISTRY_SERVER`; the error names the variables."""
    with pytest.raises(BadManifest, match=r"needs CAMERA_FOLDER, MODEL_TRUSTED_KEYS; cure: set it in \.env"):
        deploy.deploy(FAR, TEMPLATE, {"CONTAINER_REGISTRY_SERVER": "registry.example"}, "twinship")


def test_a_placeholder_is_refused() -> None:
    """The error names the variable that nobody filled in."""
    with pytest.raises(
        NotConfigured, match="CONTAINER_REGISTRY_SERVER still contains the placeholder <registry>"
    ):
        deploy.read_manifest(TEMPLATE, {**VARIABLES, "CONTAINER_REGISTRY_SERVER": "<registry>.azurecr.io"})


def test_an_unused_placeholder_is_allowed() -> None:
    """A registry without a password needs no value for it."""
    deploy.read_manifest(TEMPLATE, {**VARIABLES, "CONTAINER_REGISTRY_PASSWORD": "<password>"})


def test_a_fault_in_the_manifest_is_a_one_line_error(tmp_path: Path) -> None:
    """A route to an unknown module, and a template that does not exist."""
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


def credentials(variables: dict[str, str]) -> object:
    """The registryCredentials that a deployment with these variables sends."""
    content = deploy.read_manifest(TEMPLATE, {**VARIABLES, **variables}).modules_content
    settings = content["$edgeAgent"]["properties.desired"]["runtime"]["settings"]
    return settings.get("registryCredentials")


def test_the_device_gets_the_credentials_of_the_registry() -> None:
    """edgeAgent pulls from a private registry only with them; a password may contain any character."""
    login = {"CONTAINER_REGISTRY_USERNAME": "puller", "CONTAINER_REGISTRY_PASSWORD": 'a"$b\\c'}
    assert credentials(login) == {
        "registry": {"username": "puller", "password": 'a"$b\\c', "address": "registry.example"}
    }


@pytest.mark.parametrize("login", [{}, {"CONTAINER_REGISTRY_USERNAME": ""}])
def test_without_a_user_name_there_are_no_credentials(login: dict[str, str]) -> None:
    """The whole block is left out: an empty user name would make edgeAgent send an empty login."""
    assert credentials({**login, "CONTAINER_REGISTRY_PASSWORD": "left over"}) is None


def test_a_user_name_without_a_password_is_refused() -> None:
    """The literal `$CONTAINER_REGISTRY_PASSWORD` would be sent as the password."""
    variables = {**VARIABLES, "CONTAINER_REGISTRY_USERNAME": "puller"}
    with pytest.raises(BadManifest, match="needs CONTAINER_REGISTRY_PASSWORD; cure"):
        deploy.deploy(FAR, TEMPLATE, variables, "twinship")


def test_the_password_is_in_no_representation() -> None:
    """Logs and errors that print a deployment do not contain the password."""
    login = {"CONTAINER_REGISTRY_USERNAME": "puller", "CONTAINER_REGISTRY_PASSWORD": "sw0rdfish$HOME"}
    deployment = deploy.read_manifest(TEMPLATE, {**VARIABLES, **login})
    assert "sw0rdfish" not in repr(deployment)
    assert lint.undefined(deployment) == ()


def test_print_shows_what_az_takes_and_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Apart from the password, it is what deploy sends; no hub is asked."""
    login = {"CONTAINER_REGISTRY_USERNAME": "puller", "CONTAINER_REGISTRY_PASSWORD": "sw0rdfish"}
    monkeypatch.chdir(tmp_path)
    for name, value in {**VARIABLES, **login}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("IOTHUB_CONNECTION_STRING", raising=False)
    done = run(capsys, monkeypatch, "deploy", "--print", f"--template={TEMPLATE}")
    assert (done.code, done.err) == (0, "")
    assert "sw0rdfish" not in done.out
    sent = deploy.read_manifest(TEMPLATE, {**VARIABLES, **login}).modules_content
    replaced = done.out.replace("$CONTAINER_REGISTRY_PASSWORD", "sw0rdfish")
    assert json.loads(replaced) == {"modulesContent": sent}


def test_print_refuses_an_undefined_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed content is for a real device, which cannot run it."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    done = run(capsys, monkeypatch, "deploy", "--print", f"--template={TEMPLATE}")
    assert done.code == 1
    assert done.out == ""
    assert "needs CAMERA_FOLDER" in done.err
