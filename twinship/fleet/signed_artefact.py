"""Read a model's artefact, sign it and store it where devices find it: all of `publish` that needs no hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from inference import artefact as artefacts
from inference import model_section
from inference.model_section import ModelRef
from twinship.fleet import FleetError
from twinship.fleet.artefact_store import ArtefactStore, CannotStore, Hosted, inline, simulator_folder
from twinship.fleet.blob_store import BlobOptions, blob_store
from twinship.fleet.keys import SigningKey

Section = dict[str, Any]


class CannotPublish(FleetError):
    """This cannot work. Raised before the twin was changed."""


class StoreKind(StrEnum):
    """The values of `publish --store`."""

    BLOB = "blob"  # Azure Blob Storage
    SIMULATOR = "simulator"  # the folder that a running simulator serves


@dataclass(frozen=True)
class SignedArtefact:
    """An artefact that is signed and stored: its section can be written into any twin."""

    ref: ModelRef
    data: bytes = field(repr=False)
    uri: str | None = field(default=None, repr=False)  # None: the twin contains the artefact

    def section(self, attempt: int = 1) -> Section:
        """The desired `model` section."""
        return {**self._first_section, "attempt": attempt}

    @cached_property
    def _first_section(self) -> Section:
        """Made once for all devices and attempts, because compression takes milliseconds."""
        if self.uri is None:
            return model_section.section_for(self.ref, self.data)
        return model_section.section_at(self.ref, self.uri)

    def patch(self, attempt: int = 1) -> Section:
        """The patch of the desired properties for az or the portal.

        It is for a twin without a `model` section. Keys of an older section that this one lacks would remain,
        and the device refuses a section with such keys.
        """
        return {"model": self.section(attempt)}


def choose_store(
    url: str | None, kind: StoreKind | None, variables: Mapping[str, str], blob: BlobOptions
) -> ArtefactStore:
    """The store that the options of the command name. Raises CannotStore, NotConfigured."""
    if url is not None and kind is not None:
        raise CannotStore("--url and --store exclude each other; cure: leave one out")
    if url is not None:
        return Hosted(url)
    if kind is StoreKind.SIMULATOR:
        return simulator_folder(variables)
    if kind is StoreKind.BLOB:
        return blob_store(variables, blob)
    return inline


def sign(path: Path, key: SigningKey, store: ArtefactStore = inline) -> SignedArtefact:
    """Read an artefact, sign it and store it. Raises CannotStore, or CannotPublish if the file is no artefact
    or does not fit."""
    return store_signed(path, *read_and_sign(path, key), store)


def read_and_sign(path: Path, key: SigningKey) -> tuple[ModelRef, bytes]:
    """The signed reference and the bytes of an artefact. Raises CannotPublish."""
    data = _read(path)
    try:
        artefact = artefacts.read(data)
    except artefacts.BadArtefact as error:
        raise CannotPublish(
            f"{path} is no model artefact ({error.reason}); cure: publish the model.tflite of twinship train"
        ) from error
    manifest = artefact.manifest
    unsigned = ModelRef(manifest.name, manifest.version, artefact.size, artefact.sha256)
    signature = key.sign(unsigned.signed_bytes())
    return replace(unsigned, signature=signature, key_id=key.key_id), data


def store_signed(path: Path, ref: ModelRef, data: bytes, store: ArtefactStore) -> SignedArtefact:
    """Store what `read_and_sign` returned. Raises CannotStore, or CannotPublish if it does not fit."""
    signed = SignedArtefact(ref, data, store(ref, data))
    _refuse_misfit(path, signed)
    return signed


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(artefacts.MAX_ARTEFACT_BYTES + 1)
    except OSError as error:
        raise CannotPublish(
            f"{path} cannot be read ({error.strerror}); cure: twinship train makes build/model/model.tflite"
        ) from error


def _refuse_misfit(path: Path, signed: SignedArtefact) -> None:
    try:
        signed.section()
    except model_section.DoesNotFit as error:
        raise CannotPublish(
            f"{path} takes {error.characters:,} characters inside the twin, {error.limit:,} are allowed; "
            "cure: --store blob (Azure Storage), --store simulator, --url URL (an https address where you "
            "host it), or a smaller model (twinship train --arch micro)"
        ) from error
    except model_section.InvalidSection as error:
        raise CannotPublish(f"devices do not accept this address ({error}); cure: --url https://…") from error


def layer(signed: SignedArtefact, module: str) -> Section:
    """The content of a layered deployment that adds only the model to the module's twin (ref 8).

    The layer stays when the manifest is applied again. Its `attempt` is 1 for every device: a device that
    refused this model tries it again when it gets another section, or when its method `reload` is called.
    """
    return {module: {"properties.desired.model": signed.section()}}
