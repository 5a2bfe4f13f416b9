"""Models in Azure Blob Storage: the real storage SDK, a real Azurite, and the download by a real module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.e2e.conftest import Command, Edge
from tests.e2e.models import azurite
from tests.e2e.models.azurite import Azurite
from tests.e2e.models.test_model_sources import publish, too_large_for_a_twin, twin

pytestmark = [pytest.mark.e2e, pytest.mark.long]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azurite]:
    """Azurite; the environment has its account for the operator, and its CA for operator and device."""
    (tmp_path / "azurite").mkdir()
    with azurite.running(tmp_path / "azurite") as started:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", started.connection_string())
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(started.ca_pem))
        monkeypatch.setenv("SSL_CERT_FILE", str(started.ca_pem))
        yield started


def error_code(edge: Edge) -> str:
    """The error code that the device reports."""
    return str(twin(edge)[1]["modelStatus"].get("error", {}).get("code", ""))


def test_a_model_is_uploaded_downloaded_and_used(
    storage: Azurite, edge: Edge, twinship: Command, models: Path
) -> None:
    """An expired address is refused, and publishing again makes a new one; no output contains the SAS."""
    edge.simulator.start_modules()
    large = too_large_for_a_twin(models / "1.0.0" / "model.tflite", edge.folder)
    code, output = publish(edge, twinship, large, "--store", "blob", "--valid-days", "0.0000001")
    assert code == 1, output
    assert "source-denied" in output
    assert error_code(edge) == "source-denied"

    code, again = publish(edge, twinship, large, "--store", "blob", "--container", "models")
    assert code == 0, again
    uri = urlsplit(twin(edge)[0]["model"]["source"]["uri"])
    assert (uri.scheme, uri.port) == ("https", storage.port)
    sas = parse_qs(uri.query)
    assert (sas["sp"], sas["sr"], sas["spr"]) == (["r"], ["b"], ["https"])

    logs = "".join(path.read_text() for path in (edge.folder / "simulator" / "logs").iterdir())
    reported = json.dumps(twin(edge)[1])
    for text in (output, again, logs, reported, edge.upstream()):
        assert sas["sig"][0] not in text
        assert "sig=" not in text
        assert storage.key not in text


def test_a_store_that_refuses_the_upload(storage: Azurite, twinship: Command, models: Path) -> None:
    """A wrong key, http, an invalid container and a SAS each give one line without the key, and no patch."""
    assert twinship.run("keys", "new")[0] == 0
    model = str(models / "1.0.0" / "model.tflite")
    other = Azurite(storage.port, storage.ca_pem).key
    for expected, options, text in (
        ("403", [], storage.connection_string(key=other)),
        ("https BlobEndpoint", [], storage.connection_string("http")),
        ("container", ["--container", "No Such!"], storage.connection_string()),
        (
            "AccountKey",
            [],
            f"BlobEndpoint=https://127.0.0.1:{storage.port}/twinship;SharedAccessSignature=sv=1",
        ),
    ):
        code, line = twinship.run(
            "publish", model, "--print", "--store", "blob", *options, AZURE_STORAGE_CONNECTION_STRING=text
        )
        assert code == 1
        assert expected in line
        assert len(line.splitlines()) == 1, line
        assert storage.key not in line
        assert other not in line
