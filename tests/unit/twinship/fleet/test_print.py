"""`publish --print`: the patch for each kind of source, and options that contradict each other."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import twinship.__main__ as twinship
from inference import model_section
from twinship.fleet import FleetError, keys


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without .env, with a key and a store, and no hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWINSHIP_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv("IOTHUB_CONNECTION_STRING", raising=False)
    monkeypatch.setenv("MODEL_STORE_FOLDER", str(tmp_path / "files"))
    monkeypatch.setenv("MODEL_STORE_URL", "https://127.0.0.1:1/files")
    (tmp_path / "files").mkdir()
    keys.new(tmp_path / "keys")


def printed(model: Path, *options: str) -> Any:
    """The JSON of `publish --print`; raises the command's error."""
    arguments = ["publish", str(model), "--print", *options]
    result = CliRunner().invoke(twinship.app, arguments, standalone_mode=False)
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ([], model_section.Inline),
        (["--url", "https://files.example/m.tflite?sig=x"], model_section.Uri),
        (["--store", "simulator"], model_section.Uri),
    ],
)
def test_a_module_can_read_the_printed_section(artefact: Path, options: list[str], kind: type) -> None:
    """No hub is needed: az, the portal or an SDK writes the section."""
    section = printed(artefact, *options)["properties"]["desired"]["model"]
    assert isinstance(model_section.parse(section).source, kind)


def test_a_layer_is_printed_for_az(artefact: Path) -> None:
    """`az iot edge deployment create --layered --content` reads this JSON."""
    content = printed(artefact, "--deployment", "digits")["modulesContent"]
    assert model_section.parse(content["inference"]["properties.desired.model"]).ref.version == "1.0.0"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--store", "attic"], "blob or simulator"),
        (["--url", "http://files.example/m"], "not an https address"),
        (["--url", "https://files.example/m", "--store", "blob"], "leave one out"),
    ],
)
def test_contradicting_options_are_refused(artefact: Path, options: list[str], expected: str) -> None:
    """The error comes before anything is stored."""
    with pytest.raises(Exception, match=expected):
        printed(artefact, *options)


def test_a_deployment_needs_a_target_condition(artefact: Path) -> None:
    """A missing option must not mean all devices."""
    arguments = ["publish", str(artefact), "--deployment", "digits"]
    result = CliRunner().invoke(twinship.app, arguments, standalone_mode=False)
    assert isinstance(result.exception, FleetError)
    assert "--target-condition" in str(result.exception)
