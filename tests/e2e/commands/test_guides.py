"""The code blocks of the guides are run; what is shown below a command is what the command prints."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inference.frames.outcomes import Outcome
from tests.e2e.commands.guides import ROOT, TRAINED, Block, GuideFailed, Reader, blocks

pytestmark = pytest.mark.e2e

GUIDES = (*sorted((ROOT / "docs" / "guides").glob("*.md")), ROOT / "README.zh-CN.md")
#: Guide → how many of its blocks are not run. A block that is switched off has to be counted here.
NOT_RUN = {"my-camera.md": 1, "seeing-and-operating.md": 1, "simulator-and-real.md": 1, "README.zh-CN.md": 1}


def follow(markdown: str, folder: Path) -> None:
    """Run all blocks of a text in a new folder."""
    with Reader(folder) as reader:
        for block in blocks(markdown):
            reader.follow(block)


def not_run(path: Path) -> list[Block]:
    """The blocks of a guide that no test runs."""
    return [block for block in blocks(path.read_text()) if block.not_run]


@pytest.fixture(scope="session")
def demo_models() -> None:
    """The two models of `make demo`, trained once for all guides and workers."""
    TRAINED.mkdir(parents=True, exist_ok=True)
    with (TRAINED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        train = (
            "from pathlib import Path; from twinship.demo.models import ensure;"
            f"ensure(Path({str(TRAINED / 'demo-models')!r}), 'auto', None, lambda text, share: None)"
        )
        subprocess.run([sys.executable, "-c", train], check=True, cwd=ROOT)


@pytest.mark.long
@pytest.mark.usefixtures("demo_models")
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_the_blocks_of_a_guide_do_what_it_says(
    guide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command succeeds in the order of the guide, and prints what the guide shows."""
    follow(guide.read_text(), tmp_path)
    with capsys.disabled():
        for block in not_run(guide):
            print(f"\n{guide.name}:{block.line}: not run: {block.not_run}")  # noqa: T201


def test_no_block_is_switched_off_silently() -> None:
    """The number of blocks that no test runs is the stated one."""
    assert {path.name: len(found) for path in GUIDES if (found := not_run(path))} == NOT_RUN


def test_the_readme_leads_to_each_guide() -> None:
    """A reader finds all of them."""
    readme = (ROOT / "README.md").read_text()
    assert all(str(path.relative_to(ROOT)) in readme for path in GUIDES)


def test_each_link_of_a_guide_leads_somewhere() -> None:
    """The file is there, and the heading that an anchor names."""
    for guide in GUIDES:
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", guide.read_text()):
            name, _, anchor = target.partition("#")
            path = guide.parent / name
            assert path.is_file(), f"{guide.name}: {target}"
            assert not anchor or anchor in anchors(path.read_text()), f"{guide.name}: {target}"


def anchors(markdown: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_guide_explains_each_outcome_of_a_frame() -> None:
    """Whatever a counter is called, the table says what it means."""
    guide = (ROOT / "docs" / "guides" / "seeing-and-operating.md").read_text()
    assert [each for each in Outcome if f"`{each.value}`" not in guide] == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("```sh\ntwinship predikt model.tflite\n```\n", "line 1: exit code"),
        ("```sh\necho one\nfalse\necho two\n```\n", "line 1: exit code"),
        ("Text.\n\n```python\nimport twinshop\n```\n", "line 3: exit code"),
        ("```sh\necho one\n```\n\n```text\ntwo\n```\n", "line 5: another output"),
        ("```sh background=ready:\necho done\n```\n", "line 1: ended before 'ready:'"),
        ('```json\n{"camera": {"fsp": 10}}\n```\n', "line 1: .*fsp"),
        (
            "```diff\n--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-No title\n+Title\n```\n",
            "line 1: exit code",
        ),
        ("```bash\ntrue\n```\n", "line 1: a block of kind 'bash'"),
        ("```sh skip=yes\ntrue\n```\n", "mark skip='yes'"),
        ("```sh not-run=\nfalse\n```\n", "mark not-run=''"),
    ],
    ids=["command", "one-of-three", "import", "output", "terminal", "twin", "diff", "kind", "mark", "reason"],
)
def test_a_wrong_block_is_found(planted: str, found: str, tmp_path: Path) -> None:
    """The failure names the line of the guide."""
    with pytest.raises(GuideFailed, match=f"(?s){found}"):
        follow(planted, tmp_path)


def test_the_right_ones_of_these_blocks_pass(tmp_path: Path) -> None:
    """Also an output of which the guide shows a part, and a file that a block writes for the next one."""
    right = (
        "```sh\necho one two three\n```\n\n```text\none ... three\n```\n"
        "```python file=own.py\nNUMBER = 7\n```\n```python\nimport own\nprint(own.NUMBER)\n```\n"
        "```text\n7\n```\n"
        "```sh background=ready:\necho ready:\nsleep 60\n```\n"
        "```sh not-run='no camera'\nfalse\n```\n"
    )
    follow(right, tmp_path)
    assert (tmp_path / "own.py").exists()
