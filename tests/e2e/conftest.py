"""Fixtures of the end-to-end tests: two real models, the command as a process, and a running edge."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.page.browsing import page_errors as page_errors  # of every test that opens a page
from tests.e2e.waiting import wait_until
from twinship.fleet import keys
from twinship.simulator.launcher import Simulator, SimulatorSettings

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "build" / "test-models" / "demo"  # stays between runs: training is cached by content


@dataclass(frozen=True)
class Command:
    """Runs `twinship …` as a process in a folder of its own."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start the command; stdout and stderr are one stream."""
        process = subprocess.Popen(
            [sys.executable, "-m", "twinship", *words],
            cwd=self.folder,
            env={**os.environ, "TWINSHIP_KEYS": str(self.folder / "keys"), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a signal of a test goes to the command alone, not to its children
        )
        self.started.append(process)
        return process

    def run(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run the command; return its exit code and its output."""
        process = self.start(*words, **environment)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output


@pytest.fixture
def twinship(tmp_path: Path) -> Iterator[Command]:
    """The command in a new folder; processes that a failed test left running are killed."""
    command = Command(tmp_path)
    yield command
    for process in command.started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def models() -> Path:
    """A folder with the two models of the demo, trained on scikit-learn's digits once for all workers."""
    MODELS.mkdir(parents=True, exist_ok=True)
    with (MODELS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from pathlib import Path; from twinship.demo.models import ensure;"
                f"ensure(Path({str(MODELS)!r}), 'digits', None, lambda text, share: None)",
            ],
            check=True,
            cwd=ROOT,
        )
    return MODELS


@dataclass(frozen=True)
class Edge:
    """A running simulator with a signing key that its inference module trusts."""

    simulator: Simulator
    keys: Path
    folder: Path

    @property
    def env_file(self) -> str:
        """The value of `--env-file`."""
        return str(self.simulator.endpoints.service_env)

    def upstream(self) -> str:
        """All messages that have arrived upstream, as complete lines: the hub may be writing the next one."""
        path = self.simulator.endpoints.upstream
        text = path.read_text(errors="replace") if path.exists() else ""
        return text[: text.rfind("\n") + 1]

    def wait_upstream(self, seen: Callable[[str], bool], what: str) -> None:
        """Wait until the upstream messages satisfy `seen`."""
        wait_until(lambda: seen(self.upstream()), what)


@pytest.fixture
def edge(request: pytest.FixtureRequest, tmp_path: Path, models: Path) -> Iterator[Edge]:
    """The manifest's modules on a simulator; the camera replays held-out digits.

    An indirect parameter names the modules that are not started, because the test replaces them.
    """
    keys.new(tmp_path / "keys")
    variables = {
        "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(tmp_path / "keys"),
        "CAMERA_FOLDER": str(models / "1.0.0" / "frames"),
    }
    settings = SimulatorSettings(
        ROOT / "deployment.template.json",
        tmp_path / "simulator",
        variables,
        leave_out=frozenset(getattr(request, "param", ())),
    )
    with Simulator(settings) as simulator:
        yield Edge(simulator, tmp_path / "keys", tmp_path)
