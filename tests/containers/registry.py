"""Debian's docker-registry on loopback: the registry that the tools push to."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.relays import LOOPBACK, listening

READY_WITHIN_S = 20


def program() -> str:
    """The registry's program; skips the test if there is none."""
    found = os.environ.get("REGISTRY_PROGRAM") or shutil.which("docker-registry")
    if not found:
        pytest.skip("no docker-registry: make test-containers fetches Debian's package where it may")
    return found


@contextlib.contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """The registry as 127.0.0.1:PORT, which Docker takes without TLS."""
    with contextlib.closing(listening()) as free:
        address = f"{LOOPBACK}:{free.getsockname()[1]}"
    settings = folder / "registry.yml"
    storage = f"storage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}"
    settings.write_text(f"version: 0.1\nlog: {{level: error}}\n{storage}\nhttp: {{addr: '{address}'}}\n")
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([program(), "serve", str(settings)], stdout=log, stderr=log)
    try:
        _wait(f"http://{address}/v2/", process, folder / "registry.log")
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        assert process.poll() is None, log.read_text()[-1000:]
        assert time.monotonic() < deadline, "the registry does not answer"
        time.sleep(0.05)
