"""Where an artefact is stored, and the errors if that fails."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from inference import model_section
from tests.unit.twinship.fleet.conftest import packed
from twinship.fleet import artefact_store
from twinship.fleet.artefact_store import CannotStore
from twinship.fleet.blob_store import BlobOptions
from twinship.fleet.connection import NotConfigured
from twinship.fleet.keys import SigningKey
from twinship.fleet.signed_artefact import CannotPublish, StoreKind, choose_store, sign

BLOB = BlobOptions()


def test_a_model_hosted_by_the_operator(artefact: Path, key: SigningKey) -> None:
    """The section contains the address, and the module reads it; the repr does not show it."""
    store = choose_store("https://files.example/m.tflite?sig=x", None, {}, BLOB)
    signed = sign(artefact, key, store)
    section = model_section.parse(signed.section())
    assert section.source == model_section.Uri("https://files.example/m.tflite?sig=x")
    assert section.ref == signed.ref
    assert "sig=x" not in repr(signed)


def test_an_artefact_is_compressed_once(
    artefact: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each device and attempt; the sections differ only in the attempt."""
    signed = sign(artefact, key)
    monkeypatch.setattr(model_section, "section_for", None)
    first, third = signed.section(), signed.section(3)
    assert (first["attempt"], third) == (1, {**first, "attempt": 3})


@pytest.mark.parametrize("url", ["http://files.example/m", "file:///m", "https://user:word@files.example/m"])
def test_an_address_that_devices_refuse_is_refused(artefact: Path, key: SigningKey, url: str) -> None:
    """The error comes before any twin is written."""
    with pytest.raises(CannotPublish, match=r"source\.uri.*cure"):
        sign(artefact, key, choose_store(url, None, {}, BLOB))


def test_the_simulators_folder(artefact: Path, key: SigningKey, tmp_path: Path) -> None:
    """The folder contains the complete file, named by its digest, and no temporary file."""
    folder = tmp_path / "files"
    folder.mkdir()
    variables = {
        artefact_store.FOLDER_VARIABLE: str(folder),
        artefact_store.URL_VARIABLE: "https://127.0.0.1:1/files",
    }
    signed = sign(artefact, key, choose_store(None, StoreKind.SIMULATOR, variables, BLOB))
    name = f"{hashlib.sha256(packed()).hexdigest()}.tflite"
    assert signed.uri == f"https://127.0.0.1:1/files/{name}"
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == packed()


def test_a_simulator_that_does_not_run(artefact: Path, key: SigningKey, tmp_path: Path) -> None:
    """A variable that is not set and a folder that does not exist each have an error with a cure."""
    with pytest.raises(CannotStore, match=r"MODEL_STORE_FOLDER.*--env-file"):
        choose_store(None, StoreKind.SIMULATOR, {}, BLOB)
    gone = {
        artefact_store.FOLDER_VARIABLE: str(tmp_path / "gone"),
        artefact_store.URL_VARIABLE: "https://127.0.0.1:1",
    }
    with pytest.raises(CannotStore, match="twinship simulate"):
        sign(artefact, key, choose_store(None, StoreKind.SIMULATOR, gone, BLOB))


def test_two_stores_at_once_are_refused() -> None:
    """The command does not guess which one is meant."""
    with pytest.raises(CannotStore, match="leave one out"):
        choose_store("https://x/y", StoreKind.BLOB, {}, BLOB)


STRING = "DefaultEndpointsProtocol={scheme};AccountName=name;{key};BlobEndpoint={scheme}://127.0.0.1:9/name;"
KEY = "AccountKey=c2VjcmV0LXNlY3JldC1zZWNyZXQ="


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "AZURE_STORAGE_CONNECTION_STRING"),
        ("no connection string", "copy it again"),
        (STRING.format(scheme="http", key=KEY), "https BlobEndpoint"),
        (STRING.format(scheme="https", key=KEY), "cannot be reached"),
    ],
)
def test_a_blob_store_that_cannot_be_used(artefact: Path, key: SigningKey, text: str, expected: str) -> None:
    """The error is one line without the key, and comes before any twin is written."""
    variables = {"AZURE_STORAGE_CONNECTION_STRING": text}
    with pytest.raises(CannotStore, match=expected) as raised:
        sign(artefact, key, choose_store(None, StoreKind.BLOB, variables, BLOB))
    assert "c2VjcmV0" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_placeholder_is_no_connection_string() -> None:
    """The value of .env.example is refused by name."""
    with pytest.raises(NotConfigured, match="<key>"):
        choose_store(None, StoreKind.BLOB, {"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=<key>"}, BLOB)


@pytest.mark.parametrize(("size", "stored"), [(1_000, None), (40_000, "https://files.example/m")])
def test_what_fits_into_a_twin_stays_there(size: int, stored: str | None) -> None:
    """Only a larger artefact goes to the other store."""
    data = np.random.default_rng(0).bytes(size)
    ref = model_section.ModelRef("m", "1", size, hashlib.sha256(data).hexdigest())
    assert artefact_store.inline_or(lambda ref, data: "https://files.example/m")(ref, data) == stored
