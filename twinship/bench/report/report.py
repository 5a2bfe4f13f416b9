"""`report.json`: the figures, the machine and the commit. Each scenario writes one key."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.benchmark import device
from twinship.demo.run import PROFILE

SCHEMA = "twinship.bench.v1"


def machine() -> dict[str, Any]:
    """The hardware and the system that the figures depend on, without host or user names."""
    return {"system": platform.system(), **device(), "python": platform.python_version()}


def commit(folder: Path) -> str:
    """The commit of the checkout, with `+` if files differ from it; empty outside a repository."""
    found = _git(folder, "rev-parse", "--short=12", "HEAD")
    return found + ("+" if found and _git(folder, "status", "--porcelain") else "")


def named_commit(name: str) -> str:
    """The commit of a branch, a tag or `HEAD~1`, as reports name it; empty if there is none."""
    return _git(Path(), "rev-parse", "--short=12", "--verify", "--quiet", f"{name}^{{commit}}")


def read(path: Path) -> dict[str, Any]:
    """The report at this path; {} if there is no file yet. Raises ValueError for any other file."""
    if not path.exists():
        return {}
    report: dict[str, Any] = json.loads(path.read_text())
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not a report of twinship bench")
    return report


def write(path: Path, facts: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Write facts and figures into the report at `path`; its other keys stay. Return the report."""
    report = {"schema": SCHEMA, "profile": PROFILE, **read(path), **facts, **figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(report, indent=2) + "\n")
    new.replace(path)
    return report


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""
