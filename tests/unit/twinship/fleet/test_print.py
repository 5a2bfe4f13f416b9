"""`publish --print`: what any twin client may write, for each kind of source; options that make no sense."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import twinship.__main__ as twinship
from inference import model_section
from twinship.fleet import FleetError, keys


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without .env, a key, a store, and no hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWINSHIP_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv("IOTHUB_CONNECTION_STRING", raising=False)
    monkeypatch.setenv("MODEL_STORE_FOLDER", str(tmp_path / "files"))
    monkeypatch.setenv("MODEL_STORE_URL", "https://127.0.0.1:1/files")
    (tmp_path / "files").mkdir()
    keys.new(tmp_path / "keys")


def printed(model: Path, *options: str) -> Any:
    """The JSON of `publish --print`; raises what the command raises."""
    words = ["publish", str(model), "--print", *options]
    result = CliRunner().invoke(twinship.app, words, standalone_mode=False)
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
def test_what_is_printed_is_what_a_module_reads(artefact: Path, options: list[str], kind: type) -> None:
    """Without any hub: az, the portal or an SDK writes it."""
    section = printed(artefact, *options)["properties"]["desired"]["model"]
    assert isinstance(model_section.parse(section).source, kind)


def test_a_layer_is_printed_as_az_takes_it(artefact: Path) -> None:
    """`az iot edge deployment create --layered --content` reads this."""
    content = printed(artefact, "--deployment", "digits")["modulesContent"]
    assert model_section.parse(content["inference"]["properties.desired.model"]).ref.version == "1.0.0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--store", "attic"], "blob or simulator"),
        (["--url", "http://files.example/m"], "not an https address"),
        (["--url", "https://files.example/m", "--store", "blob"], "leave one out"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(artefact: Path, options: list[str], said: str) -> None:
    """Before anything is put anywhere."""
    with pytest.raises(Exception, match=said):
        printed(artefact, *options)


def test_a_deployment_must_name_its_devices(artefact: Path) -> None:
    """Nobody's whole fleet is meant by an option left out."""
    words = ["publish", str(artefact), "--deployment", "digits"]
    result = CliRunner().invoke(twinship.app, words, standalone_mode=False)
    assert isinstance(result.exception, FleetError)
    assert "--target-condition" in str(result.exception)
