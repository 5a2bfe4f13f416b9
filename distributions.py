"""Build hooks of the six distributions: one version, exact pins between our own packages, packaged files.

The version is the file VERSION plus `+local`. A public index refuses local versions (PEP 440), so only wheels
of this tree meet a pin on one: pip never takes a stranger's package of the same name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).parent
VERSION = (ROOT / "VERSION").read_text().strip() + "+local"


class OwnVersions(MetadataHookInterface):
    """Version and dependencies from [tool.hatch.metadata.hooks.custom]; `extra-own`: extra → our packages."""

    def update(self, metadata: dict[str, Any]) -> None:
        metadata["version"] = VERSION
        metadata["dependencies"] = [*_pinned(self.config.get("own", [])), *self.config.get("third-party", [])]
        if extras := self.config.get("extra-own"):
            metadata["optional-dependencies"] = {name: _pinned(own) for name, own in extras.items()}


def _pinned(names: list[str]) -> list[str]:
    return [f"{name}=={VERSION}" for name in names]


class ProjectFiles(BuildHookInterface[Any]):
    """Puts the project's files beside twinship/project/__init__.py; an editable install finds them here."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            names = ["deployment.template.json", "deployment.dashboard.template.json", ".env.example"]
            names += [str(path.relative_to(ROOT)) for path in ROOT.glob("modules/*/module.json")]
            build_data["force_include"].update({name: f"twinship/project/{name}" for name in names})
