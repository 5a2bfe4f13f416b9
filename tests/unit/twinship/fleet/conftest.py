"""A hub with module twins in memory, and a small artefact."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from inference.artefact import InputSpec, Manifest, Probes, pack
from twinship.fleet.keys import SigningKey
from twinship.fleet.service import ModuleTwin, NotFound, PreconditionFailed
from twinship.fleet.twin_patch import merge

SPEC = InputSpec(height=2, width=2, channels=1)


def packed(version: str = "1.0.0", weights: bytes = b"weights", name: str = "digits") -> bytes:
    """A valid artefact with a flatbuffer that no runtime loads."""
    manifest = Manifest(
        schema="twinship.model.v1",
        name=name,
        version=version,
        architecture="micro",
        input=SPEC,
        latencyBudgetMs=20.0,
        created="2026-11-23",
    )
    return pack(b"\0\0\0\0TFL3" + weights, manifest, ("0", "1"), Probes(b"\0\1\2\3", ("1",)))


class FakeHub:
    """One device of IoT Hub: merges patches, increments `$version`, checks etags. `__` means `$`."""

    def __init__(self, **modules: Mapping[str, Any]) -> None:
        self.twins = {
            name: ModuleTwin(
                "twinship", name.replace("__", "$"), "e1", "Connected", {"$version": 1, **desired}, {}
            )
            for name, desired in modules.items()
        }
        self.patches: list[Mapping[str, Any]] = []
        self.on_read: list[Callable[[], None]] = []  # one is called before each read of a twin
        self.before_patch: list[Callable[[], None]] = []  # one is called before each patch

    def modules(self, device: str) -> tuple[str, ...]:
        return tuple(sorted(twin.module for twin in self.twins.values()))

    def module_twin(self, device: str, module: str) -> ModuleTwin:
        if self.on_read:
            self.on_read.pop(0)()
        key = module.replace("$", "__")
        if key not in self.twins:
            raise NotFound(f"module {device}/{module} is not here", 404)
        return self.twins[key]

    def patch_desired(self, device: str, module: str, patch: Mapping[str, Any], etag: str) -> ModuleTwin:
        if self.before_patch:
            self.before_patch.pop(0)()
        twin = self.twins[module]
        if etag != twin.etag:
            raise PreconditionFailed("someone else changed it", 412)
        self.patches.append(patch)
        self.change(module, merge(twin.desired, patch))
        return self.twins[module]

    def change(self, module: str, desired: Mapping[str, Any]) -> None:
        """Set the desired properties, as somebody else does."""
        twin = self.twins[module]
        version = twin.desired["$version"] + 1
        self.twins[module] = replace(twin, etag=f"e{version}", desired={**desired, "$version": version})

    def answer(self, module: str, **reported: Any) -> None:
        """Set reported properties, as the device does."""
        twin = self.twins[module]
        self.twins[module] = replace(twin, reported={**twin.reported, **reported})


@pytest.fixture
def key() -> SigningKey:
    """A signing key."""
    return SigningKey("0123456789abcdef", Ed25519PrivateKey.generate())


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """A model file."""
    path = tmp_path / "model.tflite"
    path.write_bytes(packed())
    return path
