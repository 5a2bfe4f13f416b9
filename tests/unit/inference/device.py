"""A device for tests: the real Reconciler with child processes, a twin in memory, a publisher with keys."""

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from inference.model_section import ModelRef, ModelState, key_id, section_for
from inference.models.reconciler import Reconciler, ReconcilerSettings, Running
from inference.models.verification import Keyring
from tests.models import LABELS, quadrant, tiny_artefact

PATIENCE_S = 60.0
PASS = """echo '{"proved": {"runtime": "none", "load_ms": 1, "p50_ms": 1, "p95_ms": 1}}'"""
#: A proof that always passes and takes a millisecond.
BLIND = ReconcilerSettings(probation_frames=5, proof_command=("/bin/sh", "-c", PASS))
#: The real proof, and a short probation.
PROVING = ReconcilerSettings(probation_frames=5)


@dataclass(frozen=True)
class Publisher:
    """Signs models; a fixed seed gives a fixed key."""

    seed: int = 1

    @property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(bytes([self.seed] * 32))

    @property
    def public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    @property
    def trusted(self) -> str:
        """The value of MODEL_TRUSTED_KEYS."""
        return f"{key_id(self.public)}:{base64.b64encode(self.public).decode()}"

    @property
    def keyring(self) -> Keyring:
        return Keyring.from_environment(self.trusted, required=True)

    def ref(self, data: bytes, name: str = "tiny", version: str = "1.0.0", **other: Any) -> ModelRef:
        """A signed reference; `other` is signed like the rest."""
        facts = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **other}
        ref = ModelRef(name, version, **facts)
        signature = base64.b64encode(self._private.sign(ref.signed_bytes())).decode()
        return ModelRef(name, version, **facts, signature=signature, key_id=key_id(self.public))

    def section(self, version: str = "1.0.0", attempt: int = 1, **artefact: Any) -> dict[str, Any]:
        """The desired section for a tiny model."""
        data = tiny_artefact(version=version, **artefact)
        return section_for(self.ref(data, version=version), data, attempt)

    def section_of(self, data: bytes, version: str = "1.0.0", **ref: Any) -> dict[str, Any]:
        """The desired section for these bytes, whatever they are."""
        return section_for(self.ref(data, version=version, **ref), data)


def merge(document: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Merge a reported patch as the hub does."""
    for key, value in patch.items():
        if isinstance(value, Mapping):
            inner = document.setdefault(key, {})
            if not isinstance(inner, dict):
                inner = document[key] = {}
            merge(inner, value)
        elif value is None:
            document.pop(key, None)
        else:
            document[key] = value


@dataclass
class Device:
    """The reconciler of one module process; `with` starts and stops it."""

    folder: Path
    keyring: Keyring = field(default_factory=lambda: Publisher().keyring)
    settings: ReconcilerSettings = BLIND
    runtime: str = "auto"
    delegate: str = ""
    reported: dict[str, Any] = field(default_factory=dict)
    patches: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self.version = 0
        self.reconciler = Reconciler(
            self.folder,
            self.keyring,
            self._report,
            runtime=self.runtime,
            delegate=self.delegate,
            settings=self.settings,
        )

    def __enter__(self) -> "Device":
        self.reconciler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reconciler.stop()

    def _report(self, patch: Mapping[str, Any]) -> None:
        with self._changed:
            self.patches.append(patch)
            merge(self.reported, patch)
            self._changed.notify_all()

    def wait(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until the reported properties fulfil `holds`; returns modelStatus."""
        with self._changed:
            if not self._changed.wait_for(lambda: holds(self.reported), PATIENCE_S):
                raise AssertionError(f"still {self.reported}")
            status: dict[str, Any] = self.reported["modelStatus"]
            return status

    def until(self, state: ModelState) -> dict[str, Any]:
        """Wait until the device has answered the last section with this state."""
        return self.wait(
            lambda twin: (
                twin.get("modelStatus", {}).get("state") == state
                and twin["model"].get("av", 0) >= self.version
            )
        )

    def section(self, section: object) -> None:
        self.version += 1
        self.reconciler.section(section, self.version)

    def install(self, section: object) -> Running:
        """Set the section and let its model pass probation."""
        self.section(section)
        self.until(ModelState.PROBATION)
        self.answer(self.settings.probation_frames)
        self.until(ModelState.ACTIVE)
        return self.running

    @property
    def running(self) -> Running:
        running = self.reconciler.current
        assert running is not None
        return running

    def answer(self, frames: int, invoke_ms: float = 0.1) -> None:
        """Let the serving model answer frames."""
        for _ in range(frames):
            self.reconciler.answered(self.running, invoke_ms)

    def classify(self, place: int = 0) -> str:
        """The label that the serving model gives."""
        return LABELS[int(self.running.engine.infer(quadrant(place)).argmax())]

    def active(self) -> str:
        """The version of the serving model, or an empty text."""
        running = self.reconciler.current
        return running.ref.version if running else ""


def eventually(holds: Callable[[], object]) -> None:
    """Wait for something that is not reported."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "time-out"
        time.sleep(0.005)
