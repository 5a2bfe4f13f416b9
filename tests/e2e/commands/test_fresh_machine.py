"""tests/tools/fresh_machine.sh: the README's commands on a new Debian, as a user without root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

SCRIPT = Path("tests", "tools", "fresh_machine.sh")


def _may_mount() -> bool:
    probe = ["unshare", "--mount", "--mount-proc", "--pid", "--fork", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


POSSIBLE = os.geteuid() == 0 and shutil.which("debootstrap") is not None and _may_mount()
needs_root = pytest.mark.skipif(not POSSIBLE, reason="a fresh machine needs root, debootstrap and mounts")


def run(checkout: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of the script in this checkout."""
    done = subprocess.run(
        ["bash", str(checkout / SCRIPT), *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        check=False,
    )
    return done.returncode, done.stdout


def changed_checkout(folder: Path, old: str, new: str) -> Path:
    """A clone whose README is changed; it uses the installed systems of this checkout."""
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@example.com", "-C", str(folder))
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    readme = (folder / "README.md").read_text()
    assert old in readme
    (folder / "README.md").write_text(readme.replace(old, new))
    shutil.copy(ROOT / SCRIPT, folder / SCRIPT)
    subprocess.run([*git, "commit", "--quiet", "--all", "--message=changed"], check=True)
    systems = ROOT / "build" / "fresh_machine"
    systems.mkdir(parents=True, exist_ok=True)
    (folder / "build").mkdir()
    (folder / "build" / "fresh_machine").symlink_to(systems)
    return folder


@pytest.mark.long
@needs_root
@pytest.mark.parametrize(("suite", "python"), [("bookworm", "3.11"), ("trixie", "3.13")])
def test_the_readmes_first_command_succeeds_on_a_fresh_machine(
    suite: str, python: str, tmp_path: Path
) -> None:
    """About five minutes each: packages, training, 300 frames with a swap; nothing is left of the machine."""
    code, output = run(ROOT, suite, "--first", TMPDIR=str(tmp_path))
    assert code == 0, output
    assert f"Python {python}." in output
    assert "every frame is accounted for" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@needs_root
def test_a_broken_command_in_the_readme_is_found(tmp_path: Path) -> None:
    """The counter-proof: the script runs what the README says, and ends with the command's exit code."""
    checkout = changed_checkout(tmp_path / "clone", "\nmake demo  ", "\nmake dmeo  ")
    (tmp_path / "machine").mkdir()
    code, output = run(checkout, "bookworm", TMPDIR=str(tmp_path / "machine"))
    assert code == 2, output
    assert "$ make dmeo" in output
    assert "make test" not in output.split("exit code 2")[-1], "nothing runs after a failure"
    assert list((tmp_path / "machine").iterdir()) == []


def test_a_readme_without_commands_is_found(tmp_path: Path) -> None:
    """Before anything is installed, in one line."""
    checkout = changed_checkout(tmp_path / "clone", "## Two commands", "## Commands")
    assert run(checkout, "bookworm") == (
        1,
        "fresh machine: README.md has no commands under: ## Two commands\n",
    )


def test_without_debootstrap_there_is_one_line(tmp_path: Path) -> None:
    """It names what is missing and the cure; without root, that comes first."""
    tools = ("bash", "git", "awk", "id", "dirname", "realpath")
    for tool in tools:
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    code, output = run(ROOT, "bookworm", "true", PATH=str(tmp_path))
    expected = "debootstrap is missing; cure: apt install" if os.geteuid() == 0 else "only root can make one"
    assert (code, output.count("\n")) == (1, 1), output
    assert expected in output


def test_an_unknown_option_is_a_usage_error() -> None:
    """One line, exit code 2."""
    code, output = run(ROOT, "trixie", "--second")
    assert (code, output.count("\n")) == (2, 1)
    assert "usage:" in output
