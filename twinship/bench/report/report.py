"""`report.json`: what was measured, on which machine, of which commit. Each scenario owns one key."""

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
    """What the figures depend on, as far as the system tells. Names no host and no user."""
    return {"system": platform.system(), **device(), "python": platform.python_version()}


def commit(folder: Path) -> str:
    """The commit that `folder` is at, `+` behind it when files differ; empty outside a repository."""
    found = _git(folder, "rev-parse", "--short=12", "HEAD")
    return found + ("+" if found and _git(folder, "status", "--porcelain") else "")


def named_commit(word: str) -> str:
    """The commit that a branch, a tag or HEAD~1 stands for here, as reports name it; empty for none."""
    return _git(Path(), "rev-parse", "--short=12", "--verify", "--quiet", f"{word}^{{commit}}")


def read(path: Path) -> dict[str, Any]:
    """The report at this path; {} when there is none yet. Raises ValueError for another file."""
    if not path.exists():
        return {}
    report: dict[str, Any] = json.loads(path.read_text())
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no report of twinship bench")
    return report


def write(path: Path, facts: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Put these scenarios' figures into the report at `path`, and leave the others there."""
    report = {"schema": SCHEMA, "profile": PROFILE, **read(path), **facts, **figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(report, indent=2) + "\n")
    beside.replace(path)
    return report


def _git(folder: Path, *words: str) -> str:
    ended = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    return ended.stdout.strip() if ended.returncode == 0 else ""
