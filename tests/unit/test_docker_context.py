"""The build context of the images has what a Dockerfile copies, and nothing else of a working copy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
RULES = (ROOT / ".dockerignore").read_text().splitlines()
DOCKERFILES = sorted(ROOT.glob("modules/*/Dockerfile.*"))
VERSION = (ROOT / "VERSION").read_text().strip()
NEEDED = (".py", ".html", ".js", ".css", ".svg", ".toml", ".lock", "py.typed", "VERSION")
EVERYTHING_BELOW_MODULES = ["*", "!modules", "**/*.pyc"]
TOKENS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches(pattern: str, path: str) -> bool:
    """Whether a rule's pattern is this path or one of its parents, as Docker's patternmatcher decides."""
    tokens = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    expression = "".join(TOKENS.get(token, re.escape(token)) for token in tokens)
    return re.fullmatch(f"{expression}(?:/.*)?", path) is not None


def sent(path: str, rules: Sequence[str] = RULES) -> bool:
    """Whether the builder gets this file.

    The last rule that matches decides, `!` takes it in. Docker 20.10 enters a folder that the rules leave out
    only if the text of a `!` rule begins with the folder's path.
    """
    folders = [parent.as_posix() for parent in PurePosixPath(path).parents if parent.name]
    return _taken(path, rules) and all(_taken(each, rules) or _entered(each, rules) for each in folders)


def _entered(folder: str, rules: Sequence[str]) -> bool:
    return any(rule.startswith(f"!{folder}/") for rule in rules)


def _taken(path: str, rules: Sequence[str]) -> bool:
    result = True
    for rule in rules:
        if rule and not rule.startswith("#") and matches(rule.removeprefix("!"), path):
            result = rule.startswith("!")
    return result


def copied(dockerfile: Path) -> set[str]:
    """The files and folders of the context that a Dockerfile copies."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE)
    return {source for line in lines for source in line.split()[:-1]}


def needed(dockerfile: Path) -> set[str]:
    """The copied files of a kind that pip or a wheel reads, without the output of earlier builds."""
    found = set()
    for source in copied(dockerfile):
        path = ROOT / source
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        found |= {each.relative_to(ROOT).as_posix() for each in files if each.name.endswith(NEEDED)}
    return {each for each in found if "/build/" not in each and "/." not in each}


def name_of(dockerfile: Path) -> str:
    """Module and platform, for the name of a test."""
    return f"{dockerfile.parent.name}-{dockerfile.name.removeprefix('Dockerfile.')}"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)
def test_the_context_has_every_file_that_a_dockerfile_copies(dockerfile: Path) -> None:
    """A file that is left out would be missing in the image."""
    files = needed(dockerfile)
    assert {"VERSION", "distributions.py", "modules/build.lock", "edgekit/pyproject.toml"} < files
    assert f"modules/{dockerfile.parent.name}/{dockerfile.parent.name}/__main__.py" in files
    assert [each for each in sorted(files) if not sent(each)] == []


@pytest.mark.parametrize("folder", ["twinship", "training/twinship_training"])
def test_the_context_has_every_file_of_the_workbench(folder: str) -> None:
    """The image of `twinship/Dockerfile` copies these folders whole."""
    paths = [each for each in (ROOT / folder).rglob("*") if each.suffix in (".py", ".json", ".lock")]
    files = [each.relative_to(ROOT).as_posix() for each in paths if "__pycache__" not in each.parts]
    assert len(files) > 40
    assert [each for each in sorted(files) if not sent(each)] == []


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)
def test_an_image_runs_as_an_ordinary_user_and_names_its_version(dockerfile: Path) -> None:
    """The base is an argument with a tag; the version is the one in the file VERSION."""
    text = dockerfile.read_text()
    assert re.search(r"^ARG BASE=\S+:3\.11-slim-bookworm(@sha256:[0-9a-f]{64})?$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}", "third-party"}
    assert "\nUSER 1000\n" in text
    assert f'org.opencontainers.image.version="{VERSION}"' in text


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)
def test_every_package_of_an_image_comes_from_one_index(dockerfile: Path) -> None:
    """An extra index could replace a package by one of the same name. arm32v7 has no hashes for some."""
    text = dockerfile.read_text()
    assert "--extra-index-url" not in text
    installs = [line for line in text.splitlines() if re.search(r"pip (install|wheel|--python)", line)]
    unchecked = [each for each in installs if "--require-hashes" not in each and "--no-index" not in each]
    piwheels = "arm32v7" in dockerfile.name and dockerfile.parent.name != "dashboard"  # PyPI has its wheels
    assert len(unchecked) == (1 if piwheels else 0), unchecked


@pytest.mark.parametrize("module", ["camera_sim", "dashboard", "inference"])
def test_the_images_of_two_64_bit_platforms_differ_in_the_base_only(module: str) -> None:
    """Each platform has its Dockerfile, because iotedgedev looks for one."""
    amd64, arm64 = (
        (ROOT / "modules" / module / f"Dockerfile.{platform}").read_text()
        for platform in ("amd64", "arm64v8")
    )
    assert amd64.replace("BASE=python", "BASE=arm64v8/python") == arm64


PLANTED = [
    ".env",
    ".git/config",
    "build/simulator/service.env",
    "edgekit/.env",
    "edgekit/edgekit/__pycache__/log.cpython-311.pyc",
    "edgekit/edgekit/notes.txt",
    "modules/.env",
    "modules/notes.md",
    "modules/notes.py",
    "modules/camera_sim/.env",
    "modules/camera_sim/camera_sim/.env",
    "modules/camera_sim/camera_sim/.hidden/settings.py",
    "modules/camera_sim/camera_sim/picture.png",
    "modules/camera_sim/pictures/3/a.jpg",
    "modules/inference/.venv/lib/python3.11/site-packages/x.py",
    "modules/inference/Dockerfile.amd64",
    "modules/inference/build/lib/inference/old.py",
    "modules/inference/id_rsa",
    "modules/inference/inference/frames/__pycache__/queue.cpython-311.pyc",
    "modules/inference/inference/key.pem",
    "modules/inference/inference/models/model.tflite",
    "modules/inference/keys/0123456789abcdef.pem",
    "modules/inference/service.env",
    "modules/other/notes.txt",
    "modules/secrets.toml",
    "training/twinship_training/data/picture.png",
    "twinship/.env",
    "twinship/fleet/key.pem",
    "twinship/notes.txt",
    "twinship/fleet/.notes.md",
    "twinship/fleet/__pycache__/publish.cpython-311.pyc",
]


@pytest.mark.parametrize("path", PLANTED)
def test_the_context_leaves_other_files_out(path: str) -> None:
    """Notes, pictures, keys, .env files and outputs of builds are not sent to the builder."""
    assert not sent(path)


def test_a_pattern_with_two_stars_is_not_enough_for_an_older_builder() -> None:
    """Counter-proof: Docker 20.10 built images without the inner packages from such a rule."""
    rules = ["*", "!edgekit/edgekit/**/*.py"]
    assert sent("edgekit/edgekit/log.py", rules)
    assert not sent("edgekit/edgekit/hub/twin.py", rules)


def test_rules_that_take_in_a_folder_would_send_its_secrets() -> None:
    """Counter-proof: the same reading of the rules finds the files that a folder's rule takes in."""
    assert sent("modules/inference/.env", EVERYTHING_BELOW_MODULES)
    assert sent("modules/inference/key.pem", EVERYTHING_BELOW_MODULES)
    assert not sent("modules/inference/__pycache__/x.pyc", EVERYTHING_BELOW_MODULES)
    assert not sent("edgekit/edgekit/log.py", EVERYTHING_BELOW_MODULES)
