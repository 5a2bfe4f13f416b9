"""Where a model can be stored for devices, and the error when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inference.model_section import ModelRef
from twinship.fleet import FleetError

DEFAULT_CONTAINER = "models"


DEFAULT_DAYS = 30


#: Puts a signed artefact somewhere; its address, or None for inside the twin.
ArtefactStore = Callable[[ModelRef, bytes], str | None]


class CannotStore(FleetError):
    """The model did not get to where devices would find it; no twin was changed."""


@dataclass(frozen=True)
class BlobOptions:
    """In which container, and for how many days its address is good."""

    container: str = DEFAULT_CONTAINER
    days: float = DEFAULT_DAYS
