"""The Docker engine, by its command: images, containers, figures."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEFAULT_BASE = "python:3.11-slim-bookworm"  # of every Dockerfile
BASE = os.environ.get("BASE", DEFAULT_BASE)
TAG = f"{(ROOT / 'VERSION').read_text().strip()}-amd64"
HARDENED = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--memory", "128m", "--pids-limit", "100"),
)
MB = 1_000_000
BUILD_S = 600


def docker(*words: str, timeout_s: float = 120, check: bool = True, **environment: str) -> str:
    """Run `docker …` in the repository; return stdout. A failure shows the end of stderr."""
    ended = subprocess.run(
        ["docker", *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert not check or ended.returncode == 0, f"docker {' '.join(words[:4])}: {ended.stderr[-2000:]}"
    return ended.stdout


def missing() -> str:
    """Why these tests cannot run here; empty if they can."""
    try:
        docker("version", timeout_s=10)
        docker("compose", "version", timeout_s=10)
    except (OSError, AssertionError, subprocess.TimeoutExpired):
        return "no Docker engine with Compose v2 answers; make test-containers starts one where it may"
    return ""


def inspect(name: str, kind: str = "container") -> dict[str, Any]:
    """What the engine knows of a container or an image."""
    found: list[dict[str, Any]] = json.loads(docker(kind, "inspect", name))
    return found[0]


def added_bytes(image: str) -> int:
    """The size of an image on top of its base."""
    return int(inspect(image, "image")["Size"]) - int(inspect(BASE, "image")["Size"])


def layers(image: str) -> list[str]:
    """The digests of an image's layers, without those of the base."""
    below = inspect(BASE, "image")["RootFS"]["Layers"]
    return list(inspect(image, "image")["RootFS"]["Layers"])[len(below) :]


def layer_bytes(image: str, folder: str) -> int:
    """The size of the layer that copies this folder."""
    history = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image)
    return next(int(line.split(" ", 1)[0]) for line in history.splitlines() if folder in line)


@dataclass(frozen=True)
class Container:
    """A running container of a module's image."""

    name: str

    @classmethod
    def run(cls, module: str, env_file: Path, *options: str) -> Container:
        """Start a module's image, hardened, as `twinship simulate --except` advises; its name is `module`."""
        docker("rm", "--force", module, check=False)
        variables = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
        sockets = Path(variables["IOTEDGE_WORKLOADURI"].removeprefix("unix://")).parent
        docker(
            *("run", "--detach", "--name", module, "--network", "host", *HARDENED),
            *("--env-file", str(env_file), "--env", "METRICS_LISTEN=", *options),
            *("--volume", f"{sockets}:{sockets}"),
            *("--volume", f"{variables['SSL_CERT_FILE']}:{variables['SSL_CERT_FILE']}:ro"),
            f"{module}:{TAG}",
        )
        return cls(module)

    def events(self) -> list[dict[str, Any]]:
        """The log, one JSON object for each line of the module."""
        lines = docker("logs", self.name).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def first_line_s(self) -> float:
        """Seconds from the start of the process to its first log line, by the engine's clock."""
        first = docker("logs", "--timestamps", self.name).split(" ", 1)[0]
        return (_time(first) - _time(inspect(self.name)["State"]["StartedAt"])).total_seconds()

    def health(self) -> str:
        """`starting`, `healthy` or `unhealthy`."""
        return str(inspect(self.name)["State"]["Health"]["Status"])

    def memory(self) -> Mapping[str, float]:
        """MB of the main process: resident, and the anonymous part, which the kernel cannot take back."""
        status = Path(f"/proc/{inspect(self.name)['State']['Pid']}/status").read_text()
        kilobytes = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if "kB" in line}
        found = {"resident_mb": "VmRSS", "anonymous_mb": "RssAnon"}
        return {name: round(int(kilobytes[key]) * 1024 / MB, 1) for name, key in found.items()}

    def stop(self) -> tuple[int, float]:
        """SIGTERM; return the exit status, and the seconds that it took."""
        began = time.monotonic()
        docker("stop", "--time", "10", self.name)
        return int(inspect(self.name)["State"]["ExitCode"]), time.monotonic() - began


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00")  # Python has microseconds only
