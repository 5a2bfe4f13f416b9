"""This project as iotedgedev sees it: variables, a home folder, a folder for its output."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.peers.tools import run_tool
from tests.containers.engine import ROOT

ENGINE_VARIABLES = ("DOCKER_HOST", "DOCKER_CONFIG")


@dataclass(frozen=True)
class Solution:
    """The variables are those of a .env file; the folder is of the tests."""

    folder: Path
    variables: Mapping[str, str]

    def iotedgedev(
        self, *words: str, timeout_s: float = 120, variables: Mapping[str, str] | None = None
    ) -> str:
        """Run iotedgedev in the repository, with this engine; return its output."""
        environment = {
            **{name: os.environ[name] for name in ENGINE_VARIABLES if name in os.environ},
            **self.variables,
            "DOTENV_FILE": str(self.folder / "none.env"),  # not the .env of who runs the tests
            "CONFIG_OUTPUT_DIR": str(self.folder / "config"),
            **(variables or {}),
        }
        return run_tool(
            self.folder / "home",
            "iotedgedev",
            *words,
            cwd=ROOT,
            environment=environment,
            timeout_s=timeout_s,
        )

    @property
    def registry(self) -> str:
        """The registry of the images, as HOST:PORT."""
        return self.variables["CONTAINER_REGISTRY_SERVER"]

    @property
    def manifest_file(self) -> Path:
        """What genconfig, build and push write."""
        return self.folder / "config" / "deployment.amd64.json"

    def manifest(self) -> dict[str, Any]:
        """The generated `modulesContent`."""
        content: dict[str, Any] = json.loads(self.manifest_file.read_text())["modulesContent"]
        return content
