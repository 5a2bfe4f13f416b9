"""The environment variables of the module, which the entry point reads once.

The settings in the twin are in `frames.settings` and `model_section`.

>>> Environment.read({"DATA_FOLDER": "/data", "MODEL_SIGNATURE": "optional"}).signature_required
False
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inference.models.allowed_addresses import KINDS
from inference.runtimes import AUTO, RUNTIMES


class SettingsError(ValueError):
    """A variable is invalid; the message names it and the allowed values in one line."""


@dataclass(frozen=True)
class Environment:
    """The variables that the deployment (`env`) or the image sets."""

    data_folder: Path
    metrics_listen: str | None = None  # address:port; None: no listener
    runtime: str = AUTO
    delegate: str = ""  # shared library of an external delegate, e.g. libedgetpu.so.1
    trusted_keys: str | None = field(default=None, repr=False)  # text for Keyring.from_environment
    signature_required: bool = True
    source_allow: frozenset[str] = frozenset()  # of KINDS: address ranges that downloads may use in addition
    health_file: Path | None = None  # touched while the module works; for the image's HEALTHCHECK

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        """Read the environment variables; raises SettingsError."""
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
            health_file=Path(variables["HEALTH_FILE"]) if variables.get("HEALTH_FILE") else None,
            metrics_listen=variables.get("METRICS_LISTEN") or None,
            runtime=runtime,
            delegate=variables.get("DELEGATE", "").strip(),
            trusted_keys=variables.get("MODEL_TRUSTED_KEYS"),
            signature_required=signature == "required",
            source_allow=allow,
        )
