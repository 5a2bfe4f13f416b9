"""What the module runs with: its environment, read once in the entry point, and the twin's writable sections.

Applies nothing. The twin's `model` section is not here: see `wish`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inference.models.allowed_addresses import KINDS
from inference.runtimes import AUTO, RUNTIMES


class SettingsError(ValueError):
    """The environment cannot be used; one line that names the variable and the cure."""


@dataclass(frozen=True)
class Environment:
    """What the deployment sets for this module (its `env`), or its image."""

    data_folder: Path
    metrics_listen: str | None = None  # address:port; None = no listener
    runtime: str = AUTO
    delegate: str = ""  # an external delegate's shared library, as libedgetpu.so.1
    trusted_keys: str | None = field(default=None, repr=False)  # text for trust.Keyring
    signature_required: bool = True
    source_allow: frozenset[str] = frozenset()  # of addresses.KINDS: where models may come from besides

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        """From environment variables; raises SettingsError."""
        if not variables.get("DATA_FOLDER"):
            raise SettingsError(
                "DATA_FOLDER is not set: name a writable folder for models (images set /data)"
            )
        runtime = variables.get("INFERENCE_RUNTIME") or AUTO
        if runtime not in (AUTO, *RUNTIMES):
            raise SettingsError(f"INFERENCE_RUNTIME={runtime}: use {', '.join((AUTO, *RUNTIMES))}")
        signature = variables.get("MODEL_SIGNATURE") or "required"
        if signature not in ("required", "optional"):
            raise SettingsError(f"MODEL_SIGNATURE={signature}: use required or optional")
        allow = frozenset(filter(None, variables.get("MODEL_SOURCE_ALLOW", "").replace(" ", "").split(",")))
        if not allow <= KINDS.keys():
            raise SettingsError(
                f"MODEL_SOURCE_ALLOW={','.join(sorted(allow))}: use any of {', '.join(KINDS)}"
            )
        return cls(
            data_folder=Path(variables["DATA_FOLDER"]),
            metrics_listen=variables.get("METRICS_LISTEN") or None,
            runtime=runtime,
            delegate=variables.get("DELEGATE", "").strip(),
            trusted_keys=variables.get("MODEL_TRUSTED_KEYS"),
            signature_required=signature == "required",
            source_allow=allow,
        )
