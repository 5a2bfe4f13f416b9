"""The six distributions and their locks: one version, exact pins, hashes, no address of an index."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = (ROOT / "VERSION").read_text().strip()
DISTRIBUTIONS = ("edgekit", "camera_sim", "dashboard", "inference", "twinship-training", "twinship")
LOCKS = (
    "requirements.lock",
    "modules/build.lock",
    "modules/camera_sim/requirements.lock",
    "modules/dashboard/requirements.lock",
    "modules/inference/requirements.lock",
)


def requirements(lock: str) -> dict[str, str]:
    """`name==version` → its marker."""
    found = re.findall(
        r"^([\w.-]+(?:\[[\w,-]+\])?==\S+)(?: ; (.*?))? \\$", (ROOT / lock).read_text(), re.MULTILINE
    )
    assert found
    return dict(found)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_only_this_tree_satisfies_our_names(name: str) -> None:
    """Version and pins are VERSION with a local label, which no public index accepts."""
    assert metadata.version(name) == f"{VERSION}+local", "cure: make setup"
    canonical = {each.replace("_", "-") for each in DISTRIBUTIONS}
    for requirement in metadata.requires(name) or []:
        required = re.match(r"[\w.-]+", requirement)
        assert required is not None
        if required[0].replace("_", "-") in canonical:
            without_extras = re.sub(r"\[.*?\]", "", requirement)
            assert without_extras.partition(";")[0].strip() == f"{required[0]}=={VERSION}+local"


def test_images_and_manifest_have_the_version_of_the_code() -> None:
    """A module.json and the manifest name VERSION."""
    modules = json.loads((ROOT / "deployment.template.json").read_text())["modulesContent"]["$edgeAgent"][
        "properties.desired"
    ]["modules"]
    assert {module["version"] for module in modules.values()} == {VERSION}
    for path in ROOT.glob("modules/*/module.json"):
        assert json.loads(path.read_text())["image"]["tag"]["version"] == VERSION, path


def test_a_release_has_the_images_of_every_module() -> None:
    """The workflow of a release names each folder of modules/ that has a module.json."""
    workflow = (ROOT / ".github/workflows/release.yml").read_text()
    named = re.search(r"module: \[(.*)\]", workflow)
    assert named is not None
    assert named[1].split(", ") == sorted(path.parent.name for path in ROOT.glob("modules/*/module.json"))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_a_hash_for_each_package_and_no_address(lock: str) -> None:
    """pip installs it with --require-hashes from any index; none of our own packages is in it."""
    text = (ROOT / lock).read_text()
    packages = requirements(lock)
    assert text.count(" \\\n    --hash=sha256:") >= len(packages)
    assert not re.search(r"://|file:|--index|--find-links|--extra|^\.|^/|^-e| @ ", text, re.MULTILINE)
    named = {re.split(r"[=\[]", each)[0] for each in packages}
    assert not named & {each.replace("_", "-") for each in DISTRIBUTIONS}


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_images_run_the_versions_that_the_tests_run(lock: str) -> None:
    """The lock of an image is a part of requirements.lock."""
    assert requirements(lock).keys() <= requirements("requirements.lock").keys(), "cure: make lock"


@pytest.mark.parametrize("module", ["camera_sim", "dashboard", "inference"])
def test_every_image_installs_from_its_lock_and_ours_from_no_index(module: str) -> None:
    """Third-party packages come from the lock, with hashes except on ARMv7; ours never from an index."""
    for path in (ROOT / "modules" / module).glob("Dockerfile.*"):
        text = path.read_text().replace("\\\n", " ")
        for command in re.findall(r"pip (?:install|wheel) [^&\n]*", text):
            hashed = "--require-hashes" in command and re.search(r"-r (\w+\.lock|pypi\.txt)", command)
            ours = "--no-index" in command and "--no-deps" in command
            piwheels = path.suffix == ".arm32v7" and "--no-deps" in command and "piwheels.txt" in command
            assert hashed or ours or piwheels, f"{path.name}: {command}"
            assert "--extra-index-url" not in command


def test_the_lock_covers_every_supported_python() -> None:
    """numpy 1.26 and tflite-runtime for 3.11, numpy 2 for later versions."""
    lock = requirements("requirements.lock")
    assert lock["tflite-runtime==2.14.0"] == "python_full_version < '3.12'"
    numpy = {version: marker for version, marker in lock.items() if version.startswith("numpy==")}
    assert {version.removeprefix("numpy==")[0]: marker for version, marker in numpy.items()} == {
        "1": "python_full_version < '3.12'",
        "2": "python_full_version >= '3.12'",
    }
    for project in ("pyproject.toml", *(f"{each}/pyproject.toml" for each in ("edgekit", "training"))):
        python = tomllib.loads((ROOT / project).read_text())["project"]["requires-python"]
        assert python == ">=3.11,<3.14", project


def test_coverage_measures_packages_that_exist() -> None:
    """A renamed module must not leave the coverage report unnoticed."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]
    assert settings["run"]["branch"]
    assert settings["report"]["fail_under"] >= 95
    assert [name for name in settings["run"]["source_pkgs"] if find_spec(name) is None] == []
