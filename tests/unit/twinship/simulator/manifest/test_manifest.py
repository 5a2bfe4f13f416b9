"""The deployment template: placeholders, createOptions, modules, routes, and error messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from twinship.simulator import lint
from twinship.simulator.manifest.manifest import MAX_BYTES, expand, load
from twinship.simulator.manifest.modules_content import (
    ManifestError,
    deployment,
    joined_options,
    split_options,
)
from twinship.simulator.manifest.placeholders import ModuleJson

REPOSITORY = Path(__file__).parents[5]
MODULES = {"camera": ModuleJson("$REGISTRY/Camera", "1.2.0", ("amd64", "arm64v8", "amd64.debug"))}


def template(
    *,
    routes: Mapping[str, Any] | None = None,
    module: Mapping[str, Any] | None = None,
    others: Mapping[str, Any] | None = None,
) -> str:
    """A template with one module 'camera'; `module` replaces its fields."""
    camera = {"type": "docker", "settings": {"image": "${MODULES.camera}"}, **(module or {})}
    content = {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {"camera": camera}}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": dict(routes or {})}},
        **(others or {}),
    }
    return json.dumps({"$schema-template": "4.0.0", "modulesContent": content}, indent=2)


def test_the_template_of_this_repository_is_read() -> None:
    """It has the expected modules, routes and twins."""
    read = load(REPOSITORY / "deployment.template.json", {"CONTAINER_REGISTRY_SERVER": "Registry.Example"})
    assert [read.modules[name].startup_order for name in ("inference", "camera_sim")] == [1, 2]
    assert read.modules["camera_sim"].image == "registry.example/camera_sim:0.2.0-amd64"
    assert (read.routes["frames"].priority, read.routes["frames"].ttl_s) == (1, 10)
    assert read.routes["latency"].priority is None
    assert read.twins["camera_sim"]["camera"]["fps"] == 10


@pytest.mark.parametrize(
    ("placeholder", "environment", "image"),
    [
        ("${MODULES.camera}", {"REGISTRY": "Hub.io/X"}, "hub.io/x/camera:1.2.0-amd64"),
        ("${MODULES.camera.arm64v8}", {"REGISTRY": "r"}, "r/camera:1.2.0-arm64v8"),
        ("${MODULES.camera.debug}", {"REGISTRY": "r"}, "r/camera:1.2.0-amd64.debug"),
        ("${MODULES.camera}", {"REGISTRY": "r", "DEFAULT_PLATFORM": "arm64v8"}, "r/camera:1.2.0-arm64v8"),
        ("${MODULES.camera}", {"REGISTRY": "r", "CONTAINER_TAG": "beta"}, "r/camera:1.2.0-beta-amd64"),
        ("${MODULES.camera}", {}, "$REGISTRY/camera:1.2.0-amd64"),
    ],
)
def test_images_are_named_as_iotedgedev_names_them(
    placeholder: str, environment: dict[str, str], image: str
) -> None:
    """Repository in lower case, version, tag and platform; an undefined variable keeps its name (ref 7.2)."""
    repository = environment.get("REGISTRY", "$REGISTRY") + "/Camera"
    modules = {"camera": ModuleJson(repository, "1.2.0", MODULES["camera"].platforms)}
    text = template(module={"settings": {"image": placeholder}})
    assert expand(text, environment, modules).modules["camera"].image == image


def test_undefined_variables_stay_literal() -> None:
    """`$VAR` and `${VAR}` are replaced if defined (ref 7.2)."""
    env = {"A": {"value": "$KNOWN/${KNOWN}/$UNKNOWN/${UNKNOWN}"}}
    read = expand(template(module={"env": env}), {"KNOWN": "here"}, MODULES)
    assert read.modules["camera"].environment == {"A": "here/here/$UNKNOWN/${UNKNOWN}"}


def test_a_value_may_hold_quotes_and_backslashes() -> None:
    """The value of a variable is escaped, so the result stays valid JSON."""
    path = 'C:\\pictures "new"\n'
    read = expand(template(module={"env": {"A": {"value": "$FOLDER"}}}), {"FOLDER": path}, MODULES)
    assert read.modules["camera"].environment == {"A": path}


def test_a_number_may_come_from_a_variable() -> None:
    """Outside of strings the value is inserted as it is."""
    text = template(module={"startupOrder": 4711}).replace("4711", "$ORDER")
    assert expand(text, {"ORDER": "3"}, MODULES).modules["camera"].startup_order == 3


def test_env_values_become_text() -> None:
    """Numbers and booleans become the text that Docker passes."""
    env = {"N": {"value": 3}, "F": {"value": 0.5}, "T": {"value": True}, "S": {"value": "x"}}
    read = expand(template(module={"env": env}), {}, MODULES)
    assert read.modules["camera"].environment == {"N": "3", "F": "0.5", "T": "true", "S": "x"}


def test_create_options_are_split_and_joined() -> None:
    """An object becomes strings of at most 512 characters, and these become the same object again."""
    options = {"HostConfig": {"Binds": [f"/pictures/{number}:/data" for number in range(60)]}}
    written = split_options({"image": "i", "createOptions": options})
    assert all(len(part) <= 512 for part in written.values())
    assert list(written)[:3] == ["image", "createOptions", "createOptions01"]
    assert json.loads(joined_options(written)) == options


def test_modules_content_has_create_options_as_strings() -> None:
    """A hub accepts only strings; reading them again gives the same modules."""
    settings = {"image": "${MODULES.camera}", "createOptions": {"a": 1}}
    read = expand(template(module={"settings": settings}), {}, MODULES)
    sent = read.modules_content["$edgeAgent"]["properties.desired"]["modules"]["camera"]["settings"]
    assert sent["createOptions"] == '{"a":1}'
    assert read.modules["camera"].create_options == '{"a":1}'
    assert deployment(read.modules_content).modules == read.modules


def test_the_length_of_create_options_is_limited() -> None:
    """More than eight parts is an error, as in iotedgedev (ref 7.2)."""
    settings = {"image": "i", "createOptions": {"a": "x" * 5000}}
    with pytest.raises(ManifestError, match="createOptions of module 'camera' is 5008 characters long"):
        expand(template(module={"settings": settings}), {}, MODULES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"modulesContent": }', "line 1 column 20: not JSON"),
        ('{\n  "a": 1\n  "b": 2\n}', "line 3 column 3: not JSON"),
        ("[]", "the outermost value must be an object"),
        ("[" * 100_000, "not JSON: it nests too deep"),
        (template(others={"x": 7}), "'x' must be an object"),
        (template(others={"x": {}}), "'x' has no 'properties.desired' object"),
        (template(module={"settings": 7}), "'settings' of module 'camera' must be an object"),
        (
            template(module={"settings": {"image": "i", "createOptions": "[" * 100_000}}),
            "createOptions of module 'camera' is not JSON: it nests too deep",
        ),
        ("{}", "has no 'modulesContent' object"),
        (
            '{"modulesContent": {"$edgeAgent": {"properties.desired": {}}}}',
            "needs both '$edgeAgent' and '$edgeHub'",
        ),
        (template(others={"x": {"properties.desired.a": 1}}), "layered deployments are not supported"),
        (template(others={"ghost": {"properties.desired": {}}}), "there is a twin for 'ghost'"),
        (template(module={"settings": {}}), "module 'camera' has no image"),
        (template(module={"settings": {"image": "${MODULES.ghost}"}}), "${MODULES.ghost} names no folder"),
        (template(module={"settings": {"image": "${MODULES.camera.riscv}"}}), "lists no platform 'riscv'"),
        (
            template(module={"settings": {"image": "${MODULEDIR<../x>}"}}),
            "${MODULEDIR<../x>} is not supported",
        ),
        (
            template(module={"settings": {"image": "i", "createOptions": "{"}}),
            "createOptions of module 'camera' is not",
        ),
        (
            template(module={"restartPolicy": "sometimes"}),
            "restartPolicy 'sometimes' of module 'camera' is not one of",
        ),
        (template(module={"startupOrder": -1}), "startupOrder -1 of module 'camera' must be 0 to"),
        (template(module={"env": {"A": "x"}}), "env 'A' of module 'camera' must be"),
        (template(routes={"r": 7}), "route 'r' must be text, or an object"),
        (template(routes={"r": {"route": "x", "priority": "high"}}), "priority 'high' of route 'r'"),
        (
            template(routes={"r": "FROM /messages/modules/camra/outputs/x INTO $upstream"}),
            "route 'r' names module 'camra', which the manifest does not have",
        ),
        (
            template(routes={"r": 'FROM /messages/* INTO BrokeredEndpoint("/modules/infrence/inputs/x")'}),
            "route 'r' names module 'infrence', which the manifest does not have",
        ),
    ],
)
def test_errors_name_the_file_and_the_item(text: str, message: str) -> None:
    """Each error is one line that begins with the name of the file."""
    with pytest.raises(ManifestError) as caught:
        expand(text, {}, MODULES)
    assert str(caught.value).startswith("deployment.template.json: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, not UTF-8, or larger than any deployment: one line with the name of the file."""
    path = tmp_path / "deployment.template.json"
    with pytest.raises(ManifestError, match=r"^deployment.template.json: cannot be read: No such file"):
        load(path, {})
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ManifestError, match=r"^deployment.template.json: is not UTF-8 at byte 7$"):
        load(path, {})
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(ManifestError, match="has more than 1,048,576 bytes"):
        load(path, {})


def test_module_names_in_routes_match_in_any_case() -> None:
    """edgeHub ignores the letter case of a module in a route (statement 46)."""
    expand(template(routes={"r": "FROM /messages/modules/CAMERA/outputs/x INTO $upstream"}), {}, MODULES)


def test_a_condition_may_contain_any_text() -> None:
    """Text after WHERE is not read as the name of a module."""
    condition = "FROM /messages/* WHERE a = '/messages/modules/ghost/' INTO $upstream"
    expand(template(routes={"r": condition}), {}, MODULES)


def test_the_service_does_not_look_names_up() -> None:
    """IoT Hub accepts a route from an unknown module; only a template must contain the modules it names."""
    content = json.loads(template(routes={"r": "FROM /messages/modules/ghost INTO $upstream"}))[
        "modulesContent"
    ]
    assert deployment(content).routes["r"].text.endswith("$upstream")


def test_generated_manifests_are_read_too() -> None:
    """The output of iotedgedev genconfig: split createOptions, both forms of routes (statement 93)."""
    text = json.dumps({"a": "x" * 600})
    settings = {"image": "r/camera:1-amd64", "createOptions": text[:512], "createOptions01": text[512:]}
    routes = {"old": "FROM /* INTO $upstream", "new": {"route": "FROM /* INTO $upstream", "priority": 2}}
    read = expand(template(module={"settings": settings}, routes=routes), {}, {})
    assert json.loads(read.modules["camera"].create_options) == {"a": "x" * 600}
    assert (read.routes["old"].priority, read.routes["new"].priority) == (None, 2)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """The error names a missing template and a broken module.json."""
    with pytest.raises(ManifestError, match=r"nowhere\.json: cannot be read: No such file"):
        load(tmp_path / "nowhere.json", {})
    (tmp_path / "modules" / "camera").mkdir(parents=True)
    (tmp_path / "modules" / "camera" / "module.json").write_text('{"image": {}}')
    (tmp_path / "t.json").write_text(template())
    with pytest.raises(ManifestError, match=r"modules/camera/module\.json: 'image' needs"):
        load(tmp_path / "t.json", {})


def test_lint_finds_content_that_a_hub_refuses() -> None:
    """A bad route and a twin that is too large."""
    text = template(
        routes={"r": "FROM /messages/modules/camera INTO nowhere"},
        others={"camera": {"properties.desired": {"text": "x" * 5000}}},
    )
    route, twin = lint.errors(expand(text, {}, MODULES))
    assert "route 'r'" in route
    assert "'camera'" in twin


def test_variables_without_a_value_are_named_as_they_are_written() -> None:
    """In an image, whose repository is lower-case, and in the environment; in either form."""
    modules = {"camera": ModuleJson("${Registry}/Camera", "1", ("amd64",))}
    env = {"A": {"value": "$UNSET"}, "B": {"value": "$SET"}}
    read = expand(template(module={"env": env}), {"SET": "x"}, modules)
    assert lint.undefined(read) == ("Registry", "UNSET")


def test_secrets_are_not_shown() -> None:
    """A module's environment may contain keys, so no repr shows it."""
    read = expand(template(module={"env": {"TOKEN": {"value": "hunter2"}}}), {}, MODULES)
    assert "hunter2" not in repr(read)
