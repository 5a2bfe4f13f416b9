"""Runs the code blocks of a guide in order, as a reader does: one new folder, one command after the other.

The word behind the opening fence is the kind of a block, and marks follow it. Markdown shows neither.

    ```sh                        bash -e
    ```sh background="ready:"    in another terminal, until the guide ends; goes on when the text has appeared
    ```python                    python -c
    ```python file=PATH          written into the file
    ```diff                      applied to the file that it names
    ```json                      sections of a twin, each checked by its module's settings
    ```text                      the output of the block before; "..." stands for anything
    ```sh not-run="REASON"       of any kind: not run

>>> [block.kind for block in blocks("```sh not-run='no camera'\\nfalse\\n```\\n")]
['sh']
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel

from camera_sim.settings import CameraSettings
from inference.frames.settings import InferenceSection, TelemetrySection
from tests.e2e.waiting import wait_until

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "build" / "test-models" / "guides"  # stays between runs: trainings are cached by content
KEPT = ("HOME", "LANG", "TMPDIR", "MNIST_NPZ")  # of this process's environment
PACKAGES = (".", "edgekit", "modules/camera_sim", "modules/dashboard", "modules/inference", "training")
STAMPS = ("locked", "ready")  # of make setup
FRAMES = "100"  # of a demo, instead of 300
BLOCK_S = 240.0
SECTIONS: Mapping[str, type[BaseModel]] = {
    "camera": CameraSettings,
    "inference": InferenceSection,
    "telemetry": TelemetrySection,
}
_FENCE = re.compile(r"^```(?P<kind>\w+)(?P<marks>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARKS = ("background", "file", "not-run")


class GuideFailed(AssertionError):
    """A block of a guide does not do what the guide says."""


@dataclass(frozen=True)
class Block:
    """A code block: its kind, its marks, its text, and the line where it begins."""

    kind: str
    marks: Mapping[str, str]
    text: str
    line: int

    @property
    def not_run(self) -> str:
        """Why the block is not run; "" if it is."""
        return self.marks.get("not-run", "")


def blocks(markdown: str) -> list[Block]:
    """All code blocks. Raises GuideFailed for a mark that is unknown or empty."""
    return [
        Block(each["kind"], _marks(each["marks"]), each["text"], markdown.count("\n", 0, each.start()) + 1)
        for each in _FENCE.finditer(markdown)
    ]


def shows(output: str, expected: str) -> bool:
    """Whether an output is the expected one. "..." stands for anything, and any white space for any other.

    >>> shows("model  state\\n1.0.0  active 3 s\\n", "model state\\n... active ... s")
    True
    >>> shows("1.0.0  refused", "... active ...")
    False
    """
    text = " ".join(output.split())
    first, *rest = (" ".join(each.split()) for each in expected.split("..."))
    if not rest:
        return text == first
    at, end = len(first), len(text) - len(rest[-1])
    for piece in rest[:-1]:
        if (found := text.find(piece, at, max(0, end))) < 0:
            return False
        at = found + len(piece)
    return at <= end and text.startswith(first) and text.endswith(rest[-1])


def _marks(text: str) -> dict[str, str]:
    found = dict(word.partition("=")[::2] for word in shlex.split(text))
    for name, value in found.items():
        if name not in _MARKS or not value.strip():
            raise GuideFailed(f"mark {name}={value!r}: use {', '.join(_MARKS)}, each with a value")
    return found


@dataclass
class Reader:
    """Somebody who follows a guide in a copy of the repository. Leaving the context presses Ctrl-C."""

    folder: Path
    output: str = ""  # of the last block
    _terminals: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)

    def __enter__(self) -> Self:
        _copy_repository(self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outputs = [self._end(process, shown) for process, shown in self._terminals]
        if kind is None and any("Traceback" in each for each in outputs):
            raise GuideFailed(f"a traceback in another terminal: {outputs}")

    def follow(self, block: Block) -> None:
        """Run one block. Raises GuideFailed."""
        if block.not_run:
            return
        if block.kind not in _KINDS:
            raise GuideFailed(f"line {block.line}: a block of kind {block.kind!r}: use {', '.join(_KINDS)}")
        try:
            _KINDS[block.kind](self, block)
        except (GuideFailed, ValueError) as error:
            raise GuideFailed(f"line {block.line}: {error}") from error

    @property
    def environment(self) -> dict[str, str]:
        """The variables of each command."""
        return {
            "LANG": "C.UTF-8",
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            "PATH": f"{self.folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(str(self.folder / each) for each in PACKAGES),
            "TWINSHIP_KEYS": str(self.folder / "keys"),
            "GIT_CEILING_DIRECTORIES": str(self.folder.parent),  # `git apply` looks for no repository above
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "COLUMNS": "160",
            "FRAMES": FRAMES,
        }

    def shell(self, block: Block) -> None:
        """Run it, or start it in another terminal."""
        command = ["bash", "-e", "-c", block.text]
        if ready := block.marks.get("background"):
            self._start(command, ready)
        else:
            self._run(command)

    def python(self, block: Block) -> None:
        """Run it, or write it into a file."""
        if path := block.marks.get("file"):
            (self.folder / path).write_text(block.text)
        else:
            self._run(["python", "-c", block.text])

    def change(self, block: Block) -> None:
        """Change the files as the block says."""
        self._run(["git", "apply", "--recount", "-"], block.text)

    def sections(self, block: Block) -> None:
        """Check that a module accepts each section."""
        for name, section in json.loads(block.text).items():
            if name not in SECTIONS:
                raise GuideFailed(f"no module has a section {name!r}")
            SECTIONS[name].model_validate(section)

    def compare(self, block: Block) -> None:
        """Compare the output of the block before."""
        if not shows(self.output, block.text):
            raise GuideFailed(f"another output:\n{self.output}\nThe guide has:\n{block.text}")

    def _run(self, command: list[str], text: str | None = None) -> None:
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            self.output, _ = process.communicate(text, timeout=BLOCK_S)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise GuideFailed(f"no end after {BLOCK_S:.0f} s: {process.communicate()[0]}") from error
        if process.returncode:
            raise GuideFailed(f"exit code {process.returncode}: {self.output}")

    def _start(self, command: list[str], ready: str) -> None:
        shown = Path(tempfile.mkstemp(dir=self.folder, prefix="terminal-")[1])
        with shown.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._terminals.append((process, shown))
        wait_until(lambda: ready in shown.read_text() or process.poll() is not None, repr(ready), BLOCK_S)
        self.output = shown.read_text()
        if process.poll() is not None:
            raise GuideFailed(f"ended before {ready!r}: {self.output}")

    @staticmethod
    def _end(process: subprocess.Popen[bytes], shown: Path) -> str:
        """Press Ctrl-C and wait for the end; return all that was shown."""
        try:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            process.kill()
        return shown.read_text()


_KINDS: Mapping[str, Callable[[Reader, Block], None]] = {
    "sh": Reader.shell,
    "python": Reader.python,
    "diff": Reader.change,
    "json": Reader.sections,
    "text": Reader.compare,
}


def _copy_repository(folder: Path) -> None:
    """The files of the repository, its virtual environment, and the folders of trained models by links."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)  # with its time: make compares it
    _link_environment(Path(sys.prefix), folder / ".venv")
    for name in ("demo-models", "models"):
        (TRAINED / name).mkdir(parents=True, exist_ok=True)
        (folder / "build").mkdir(exist_ok=True)
        (folder / "build" / name).symlink_to(TRAINED / name)


def _link_environment(real: Path, linked: Path) -> None:
    """The virtual environment under another name, with new time stamps: make installs nothing into it."""
    linked.mkdir()
    for entry in real.iterdir():
        if entry.name not in STAMPS:
            (linked / entry.name).symlink_to(entry)
    for name in STAMPS:
        (linked / name).touch()
