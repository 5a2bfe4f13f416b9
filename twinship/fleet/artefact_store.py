"""Stores a signed artefact where devices find it: in the twin, at an address, or in the simulator's folder.

blob_store.py has the store in Azure. `inference.model_section` defines what the twin then contains.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inference.model_section import DoesNotFit, ModelRef, section_for
from twinship.fleet import FleetError
from twinship.fleet.connection import refuse_placeholder

FOLDER_VARIABLE = "MODEL_STORE_FOLDER"
URL_VARIABLE = "MODEL_STORE_URL"

#: Stores a signed artefact and returns its https address, or None if the twin itself shall contain it.
ArtefactStore = Callable[[ModelRef, bytes], str | None]


class CannotStore(FleetError):
    """The artefact could not be stored where devices would find it; no twin was changed."""


def inline(ref: ModelRef, data: bytes) -> None:
    """Store nothing: the twin contains the artefact."""


def inline_or(other: ArtefactStore) -> ArtefactStore:
    """The twin contains an artefact that fits into it; `other` stores one that does not."""

    def store(ref: ModelRef, data: bytes) -> str | None:
        try:
            section_for(ref, data)
        except DoesNotFit:
            return other(ref, data)
        return None

    return store


@dataclass(frozen=True)
class Hosted:
    """Store nothing: the operator hosts the artefact at this address."""

    url: str

    def __call__(self, ref: ModelRef, data: bytes) -> str:
        return self.url


def simulator_folder(variables: Mapping[str, str]) -> ArtefactStore:
    """Write artefacts into the folder that a running simulator serves. Raises CannotStore, NotConfigured."""
    folder, url = variables.get(FOLDER_VARIABLE, ""), variables.get(URL_VARIABLE, "")
    for name, value in ((FOLDER_VARIABLE, folder), (URL_VARIABLE, url)):
        if not value:
            raise CannotStore(
                f"{name} is not set; cure: name the file of a running simulator, "
                "--env-file build/simulator/service.env"
            )
        refuse_placeholder(name, value)

    def store(ref: ModelRef, data: bytes) -> str:
        name = f"{ref.sha256}.tflite"
        try:
            _write_atomically(Path(folder) / name, data)
        except OSError as error:
            raise CannotStore(
                f"{folder} cannot be written ({error.strerror}); cure: start twinship simulate, it makes it"
            ) from error
        return f"{url.rstrip('/')}/{name}"

    return store


def _write_atomically(path: Path, data: bytes) -> None:
    """A device never downloads a half-written file."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".half")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
