"""Where a device finds a model that it shall run: inside the twin, behind an address, in a store.

Puts the artefact there and says the address. What the twin then holds is inference.model_section's to say; Azure's
blob store is blob_store.py's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from inference.model_section import ModelRef
from twinship.fleet.connection import refuse_placeholder
from twinship.fleet.places import ArtefactStore, BlobOptions, CannotStore

FOLDER_VARIABLE = "MODEL_STORE_FOLDER"
URL_VARIABLE = "MODEL_STORE_URL"


class StoreKind(StrEnum):
    """What `publish --store` knows."""

    BLOB = "blob"  # Azure Blob Storage
    SIMULATOR = "simulator"  # the folder that a running simulator serves


def inline(ref: ModelRef, data: bytes) -> None:
    """Inside the twin."""


def chosen(
    url: str | None, store: StoreKind | None, variables: Mapping[str, str], blob: BlobOptions
) -> ArtefactStore:
    """What the command line asks for. Raises CannotStore, NotConfigured."""
    if url is not None and store is not None:
        raise CannotStore("--url and --store name two places; cure: leave one out")
    if url is not None:
        return lambda _ref, _data: url
    if store is StoreKind.SIMULATOR:
        return _served_folder(variables)
    if store is StoreKind.BLOB:
        from twinship.fleet import blob_store

        return blob_store.uploading(variables, blob)
    return inline


def _served_folder(variables: Mapping[str, str]) -> ArtefactStore:
    folder, url = variables.get(FOLDER_VARIABLE, ""), variables.get(URL_VARIABLE, "")
    for name, value in ((FOLDER_VARIABLE, folder), (URL_VARIABLE, url)):
        if not value:
            raise CannotStore(
                f"{name} is not set; cure: name a running simulator's file, "
                "--env-file build/simulator/service.env"
            )
        refuse_placeholder(name, value)

    def put(ref: ModelRef, data: bytes) -> str:
        name = f"{ref.sha256}.tflite"
        try:
            _write_whole(Path(folder) / name, data)
        except OSError as error:
            raise CannotStore(
                f"{folder} cannot be written ({error.strerror}); cure: twinship simulate, which makes it"
            ) from error
        return f"{url.rstrip('/')}/{name}"

    return put


def _write_whole(path: Path, data: bytes) -> None:
    """A device never finds half of it."""
    descriptor, half = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".half")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(half, path)
    except BaseException:
        Path(half).unlink(missing_ok=True)
        raise
