"""Every check refuses its own fault. Faulty models are correctly signed, so no earlier check catches them."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.artefact import Artefact, read
from inference.model_section import section_for
from inference.models.child_process import ChildProcess
from inference.models.download import Fetcher, FetchSettings
from inference.models.errors import ModelRefused
from inference.models.installer import Installer
from inference.models.prove import Prover
from inference.models.store import ModelStore, StoredModel
from inference.models.verification import Keyring
from tests.models import LABELS, quadrant, tiny_artefact, tiny_tflite
from tests.unit.inference.fixtures.device import Publisher

OURS, THEIRS = Publisher(1), Publisher(2)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


def installer_with(store: ModelStore, keyring: Keyring) -> Installer:
    child = ChildProcess()
    fetcher = Fetcher(store, child, FetchSettings(connect_s=5.0))
    return Installer(keyring, store, fetcher, Prover("auto", child=child), "auto")


@pytest.fixture
def installer(store: ModelStore) -> Installer:
    return installer_with(store, OURS.keyring)


def resized() -> dict[str, Any]:
    data = tiny_artefact()
    return section_for(OURS.ref(data, size=len(data) - 1), data)


def flipped() -> dict[str, Any]:
    data = tiny_artefact()
    return section_for(OURS.ref(data), data[:100] + bytes([data[100] ^ 1]) + data[101:])


def renamed() -> dict[str, Any]:
    return OURS.section_of(tiny_artefact(version="1.0.0"), version="1.0.1")


def unsigned() -> dict[str, Any]:
    data = tiny_artefact()
    return section_for(replace(OURS.ref(data), signature="", key_id=""), data)


def addressed() -> dict[str, Any]:
    return {**OURS.section(), "source": {"uri": "https://127.0.0.1:9/model.tflite"}}


def oversized() -> dict[str, Any]:
    data = tiny_artefact()
    return section_for(OURS.ref(data, size=2**40), data)


def without_chunk(name: str) -> dict[str, Any]:
    section = OURS.section()
    del section["source"]["inline"]["parts"][name]
    return section


def garbled() -> dict[str, Any]:
    section = OURS.section()
    section["source"]["inline"]["parts"] = {"00": base64.b64encode(b"no zlib stream").decode()}
    return section


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (lambda: 5, "bad-section"),
        (dict, "bad-section"),
        (lambda: without_chunk("00"), "bad-section"),
        (garbled, "bad-section"),
        (addressed, "source-forbidden"),
        (oversized, "too-large"),
        (resized, "wrong-size"),
        (unsigned, "unsigned"),
        (lambda: THEIRS.section(), "unknown-key"),
        (lambda: {**OURS.section(), "version": "1.0.1"}, "bad-signature"),
        (flipped, "wrong-digest"),
    ],
)
def test_a_check_refuses_its_own_fault(installer: Installer, fault: Callable[[], object], code: str) -> None:
    """The code names the check."""
    with pytest.raises(ModelRefused) as raised:
        installer.check(fault())
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (lambda: OURS.section_of(b"no artefact"), "bad-artefact"),
        (lambda: OURS.section_of(tiny_artefact()[:-30]), "bad-artefact"),
        (renamed, "wrong-name"),
        (lambda: OURS.section(expected=LABELS[::-1]), "wrong-answers"),
        (lambda: OURS.section(labels=(*LABELS, "north")), "does-not-load"),
        (lambda: OURS.section(minimum_runtime={"litert": "99"}), "runtime-too-old"),
        (lambda: OURS.section(tflite=tiny_tflite()[:1500]), "does-not-load"),
    ],
)
def test_a_proof_refuses_its_own_fault(
    installer: Installer, fault: Callable[[], dict[str, Any]], code: str
) -> None:
    """These models pass every check before the proof."""
    candidate = installer.check(fault())
    with pytest.raises(ModelRefused) as raised:
        installer.prove(candidate)
    assert raised.value.code == code


def test_nothing_parses_an_artefact_before_its_attempt_is_saved(
    installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the parser in this process would be remembered nowhere. The child parses it first."""
    parsed: list[bytes] = []

    def watched(data: bytes) -> Artefact:
        parsed.append(data)
        return read(data)

    monkeypatch.setattr("inference.models.installer.read", watched)
    candidate = installer.check(OURS.section())
    installer.prove(candidate)
    assert not parsed
    installer.load(candidate)  # `step` saves the attempt before this
    assert parsed == [candidate.data]


@pytest.mark.parametrize(
    ("fault", "code"), [(lambda: OURS.section_of(b"no artefact"), "bad-artefact"), (renamed, "wrong-name")]
)
def test_a_load_repeats_the_checks_of_the_proof(
    installer: Installer, fault: Callable[[], object], code: str
) -> None:
    """A stored file is loaded without a proof."""
    candidate = installer.check(fault())
    with pytest.raises(ModelRefused) as raised:
        installer.load(candidate)
    assert raised.value.code == code


def test_a_device_without_keys_names_the_reason(store: ModelStore) -> None:
    """A variable that the deployment did not replace is named."""
    keyring = Keyring.from_environment("$MODEL_TRUSTED_KEYS", required=True)
    with pytest.raises(ModelRefused) as raised:
        installer_with(store, keyring).check(OURS.section())
    assert raised.value.code == "keys-literal"


def test_a_stored_model_is_verified_before_it_is_loaded(installer: Installer, store: ModelStore) -> None:
    """The signature too: keys may be removed."""
    data = tiny_artefact()
    stored = StoredModel(OURS.ref(data), "section")
    with pytest.raises(ModelRefused, match="0 bytes"):
        installer.restore(stored)
    store.put(stored.ref.sha256, data)
    assert installer.restore(stored).engine.infer(quadrant(3)).argmax() == 3
    with pytest.raises(ModelRefused, match="trusted"):
        installer_with(store, THEIRS.keyring).restore(stored)
