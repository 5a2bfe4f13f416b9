"""Where a model is put, and what is said when it cannot get there."""

import hashlib
from pathlib import Path

import pytest

from inference import model_section
from tests.unit.twinship.fleet.conftest import packed
from twinship.fleet import sources
from twinship.fleet.connection import NotConfigured
from twinship.fleet.keys import SigningKey
from twinship.fleet.places import BlobOptions, CannotStore
from twinship.fleet.publish import CannotPublish, sign
from twinship.fleet.sources import StoreKind, chosen

BLOB = BlobOptions()


def test_a_model_that_the_operator_hosts(artefact: Path, key: SigningKey) -> None:
    """The section holds the address, and the module reads it back."""
    place = chosen("https://files.example/m.tflite?sig=x", None, {}, BLOB)
    signed = sign(artefact, key, place)
    wanted = model_section.parse(signed.section())
    assert wanted.source == model_section.Uri("https://files.example/m.tflite?sig=x")
    assert wanted.ref == signed.ref
    assert "sig=x" not in repr(signed)


@pytest.mark.parametrize("url", ["http://files.example/m", "file:///m", "https://user:word@files.example/m"])
def test_an_address_that_devices_do_not_take(artefact: Path, key: SigningKey, url: str) -> None:
    """Known before any twin is written."""
    with pytest.raises(CannotPublish, match=r"source\.uri.*cure"):
        sign(artefact, key, chosen(url, None, {}, BLOB))


def test_the_simulators_store(artefact: Path, key: SigningKey, tmp_path: Path) -> None:
    """The file lies whole in the folder, under its digest, and nothing lies beside it."""
    folder = tmp_path / "files"
    folder.mkdir()
    variables = {sources.FOLDER_VARIABLE: str(folder), sources.URL_VARIABLE: "https://127.0.0.1:1/files"}
    signed = sign(artefact, key, chosen(None, StoreKind.SIMULATOR, variables, BLOB))
    name = f"{hashlib.sha256(packed()).hexdigest()}.tflite"
    assert signed.uri == f"https://127.0.0.1:1/files/{name}"
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == packed()


def test_a_simulator_that_does_not_run(artefact: Path, key: SigningKey, tmp_path: Path) -> None:
    """Neither named nor there: each says the cure."""
    with pytest.raises(CannotStore, match=r"MODEL_STORE_FOLDER.*--env-file"):
        chosen(None, StoreKind.SIMULATOR, {}, BLOB)
    gone = {sources.FOLDER_VARIABLE: str(tmp_path / "gone"), sources.URL_VARIABLE: "https://127.0.0.1:1"}
    with pytest.raises(CannotStore, match="twinship simulate"):
        sign(artefact, key, chosen(None, StoreKind.SIMULATOR, gone, BLOB))


def test_two_places_are_one_too_many() -> None:
    """The command line must not guess."""
    with pytest.raises(CannotStore, match="leave one out"):
        chosen("https://x/y", StoreKind.BLOB, {}, BLOB)


STRING = "DefaultEndpointsProtocol={scheme};AccountName=name;{key};BlobEndpoint={scheme}://127.0.0.1:9/name;"
KEY = "AccountKey=c2VjcmV0LXNlY3JldC1zZWNyZXQ="


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "AZURE_STORAGE_CONNECTION_STRING"),
        ("no connection string", "copy it again"),
        (STRING.format(scheme="http", key=KEY), "https BlobEndpoint"),
        (STRING.format(scheme="https", key=KEY), "cannot be reached"),
    ],
)
def test_a_blob_store_that_cannot_be_had(artefact: Path, key: SigningKey, text: str, said: str) -> None:
    """One line, without the key, before any twin is written."""
    with pytest.raises(CannotStore, match=said) as raised:
        sign(artefact, key, chosen(None, StoreKind.BLOB, {"AZURE_STORAGE_CONNECTION_STRING": text}, BLOB))
    assert "c2VjcmV0" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_placeholder_is_no_connection_string() -> None:
    """As .env.example has it."""
    with pytest.raises(NotConfigured, match="<key>"):
        chosen(None, StoreKind.BLOB, {"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=<key>"}, BLOB)
