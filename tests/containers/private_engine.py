"""A second Docker engine, in a network of its own.

iotedgehubdev publishes 443, 5671 and 8883 on every address. In this engine's network nobody else uses them.
Nothing of this machine changes: the engine gets images of other registries through a proxy of the tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.containers.engine import ROOT, docker

CLONE_NEWNET = 0x4000_0000  # linux/sched.h
PROXY_PORT = 3128
READY_WITHIN_S = 60
STOP_WITHIN_S = 30
T = TypeVar("T")


@dataclass(frozen=True)
class PrivateEngine:
    """The running engine: its address, and the process that is in its network."""

    host: str
    pid: int

    def docker(self, *words: str, timeout_s: float = 120, check: bool = True) -> str:
        """Run `docker …` on this engine."""
        return docker(*words, timeout_s=timeout_s, check=check, DOCKER_HOST=self.host)

    def inside(self, work: Callable[[], T]) -> T:
        """Call `work` in this engine's network: the sockets that it makes belong there."""

        def entered() -> T:
            with open(f"/proc/{self.pid}/ns/net") as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return work()

        with ThreadPoolExecutor(1) as thread:  # its only thread stays in that network until it ends
            return thread.submit(entered).result()


@contextlib.contextmanager
def running_engine(folder: Path, ca_pem: Path) -> Iterator[PrivateEngine]:
    """Start it, and remove all that it made. `ca_pem` is the authority of the registries behind the proxy."""
    _skip_unless_possible()
    (ROOT / "build").mkdir(exist_ok=True)
    data = tempfile.mkdtemp(prefix="engine-", dir=ROOT / "build")  # overlay2 needs a file system of the disk
    host = f"unix://{folder}/docker.sock"
    command = (
        f"ip link set lo up && exec dockerd --host {host} --data-root {data} --exec-root {folder}/run "
        f"--pidfile {folder}/pid --storage-driver overlay2"
    )
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "HTTPS_PROXY": f"http://127.0.0.1:{PROXY_PORT}",
        "SSL_CERT_FILE": str(ca_pem),
    }
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", command],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    engine = PrivateEngine(host, process.pid)
    try:
        _wait(engine, process, folder / "dockerd.log")
        yield engine
    finally:
        if names := engine.docker("ps", "--all", "--quiet", check=False).split():
            engine.docker("rm", "--force", "--volumes", *names, check=False)
        process.terminate()
        process.wait(STOP_WITHIN_S)
        shutil.rmtree(data, ignore_errors=True)


def _skip_unless_possible() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may start an engine in a network of its own")
    for program in ("dockerd", "unshare", "ip"):
        if not shutil.which(program):
            pytest.skip(f"an engine in a network of its own needs {program}")


def _wait(engine: PrivateEngine, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not engine.docker("info", "--format", "{{.ServerVersion}}", check=False).strip():
        if process.poll() is not None:  # a kernel or a container that allows no second engine
            last = (log.read_text(errors="replace").splitlines() or ["no output"])[-1]
            pytest.skip(f"no engine in a network of its own can be started here: {last[-300:]}")
        assert time.monotonic() < deadline, "the private engine does not answer"
        time.sleep(0.2)
