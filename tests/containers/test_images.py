"""What is in the images: sizes, layers, settings, and nothing of a build."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import (
    BASE,
    BUILD_S,
    MB,
    ROOT,
    TAG,
    added_bytes,
    docker,
    inspect,
    layer_bytes,
    layers,
)

pytestmark = [pytest.mark.containers, pytest.mark.long]

MAX_MB = {"inference": 190, "camera_sim": 180, "dashboard": 60}
MAX_MB_WITHOUT_VIDEO = 40
MAX_MB_TRAIN = 2100
MODULES = sorted(MAX_MB)
LEFT_OVERS = r"""
import os, sys
names = {"build.lock", "requirements.lock", "video.lock", "Dockerfile", ".git", ".env", "wheels", "own"}
names.add("distributions.py")
for folder, folders, files in os.walk("/"):
    folders[:] = [each for each in folders if os.path.join(folder, each) not in ("/proc", "/sys", "/srv")]
    for each in {*folders, *files} & names:
        print(os.path.join(folder, each))
"""


def in_image(image: str, *words: str) -> str:
    """The output of a command in a new container."""
    return docker("run", "--rm", "--network", "none", "--entrypoint", words[0], image, *words[1:])


@pytest.mark.parametrize("module", MODULES)
def test_an_image_adds_little_to_its_base(module: str, images: None, figures: dict[str, Any]) -> None:
    """The sizes are those of the unpacked layers."""
    size = added_bytes(f"{module}:{TAG}") / MB
    figures.setdefault(module, {})["on_base_mb"] = round(size, 1)
    assert size <= MAX_MB[module]


def test_a_camera_without_video_is_small(images: None, figures: dict[str, Any]) -> None:
    """VIDEO=0 leaves PyAV out; the default has it."""
    small = f"camera_sim:{TAG}-without-video"
    file = "modules/camera_sim/Dockerfile.amd64"
    arguments = ("--build-arg", "VIDEO=0", "--build-arg", f"BASE={BASE}")
    docker("build", "--tag", small, "--file", file, *arguments, ".", timeout_s=BUILD_S)
    decodes = ("python", "-c", "import importlib.util; print(importlib.util.find_spec('av') is not None)")
    assert [in_image(each, *decodes).strip() for each in (f"camera_sim:{TAG}", small)] == ["True", "False"]
    size = added_bytes(small) / MB
    figures.setdefault("camera_sim", {})["without_video_on_base_mb"] = round(size, 1)
    assert size <= MAX_MB_WITHOUT_VIDEO


def test_a_change_of_our_code_ships_one_small_layer(
    images: None, tmp_path: Path, figures: dict[str, Any]
) -> None:
    """The builder's cache gives the same layer of third-party packages as long as the lock is the same."""
    module = "camera_sim"
    before = layers(f"{module}:{TAG}")
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "dist", ".hypothesis", "__pycache__")
    tree = shutil.copytree(ROOT, tmp_path / "tree", ignore=ignored)
    changed = tree / "edgekit" / "edgekit" / "clock.py"
    changed.write_text(changed.read_text() + "\nCHANGED = True\n")
    project = ("--project-directory", str(tree), "--file", str(tree / "compose.yaml"))
    try:
        docker("compose", *project, "build", module, timeout_s=BUILD_S)
        after = layers(f"{module}:{TAG}")
        size = layer_bytes(f"{module}:{TAG}", "/opt/ours") / MB
    finally:
        docker("compose", "build", module, timeout_s=BUILD_S)
    figures.setdefault(module, {})["own_layer_mb"] = round(size, 2)
    assert size < 1
    assert [one == other for one, other in zip(before, after, strict=True)][-2:] == [True, False]


@pytest.mark.parametrize("module", MODULES)
def test_every_file_of_our_packages_is_in_the_image(module: str, images: None) -> None:
    """An older builder left the inner packages out."""
    program = (
        "import pathlib; [print(p.relative_to('/opt/ours')) for p in pathlib.Path('/opt/ours').rglob('*.py')]"
    )
    found = set(in_image(f"{module}:{TAG}", "python", "-c", program).split())
    sources = {
        folder.name: folder for folder in (ROOT / "edgekit/edgekit", ROOT / "modules" / module / module)
    }
    assert found == {
        f"{name}/{path.relative_to(folder)}"
        for name, folder in sources.items()
        for path in folder.rglob("*.py")
    }


@pytest.mark.parametrize("module", MODULES)
def test_nothing_of_the_build_is_in_a_layer(module: str, images: None) -> None:
    """No lock file, wheel or build tool; the counter-proof finds what is planted."""
    image = f"{module}:{TAG}"
    assert in_image(image, "/opt/module/bin/python", "-c", LEFT_OVERS) == ""
    assert in_image(image, "sh", "-c", "ls -d /build /wheels /own 2>/dev/null; true") == ""
    planted = in_image(image, "sh", "-c", f"touch /tmp/build.lock; python -c '{LEFT_OVERS}'")
    assert planted == "/tmp/build.lock\n"


@pytest.mark.parametrize("module", MODULES)
def test_the_settings_of_an_image(module: str, images: None) -> None:
    """An ordinary user, a health check, a version; no secret in the environment."""
    config = inspect(f"{module}:{TAG}", "image")["Config"]
    assert config["User"] == "1000"
    assert "HEALTH_FILE" in config["Healthcheck"]["Test"][1]
    assert config["Labels"]["org.opencontainers.image.version"] == TAG.removesuffix("-amd64")
    assert not [each for each in config["Env"] if "KEY" in each or "TOKEN" in each or "PASSWORD" in each]


def test_the_workbench_has_no_tensorflow(images: None, figures: dict[str, Any]) -> None:
    """It has every command; only `train` needs the image twinship-train."""
    image = f"twinship:{TAG.removesuffix('-amd64')}"
    figures["workbench"] = {"on_base_mb": round(added_bytes(image) / MB, 1)}
    assert "Ship a model" in in_image(image, "twinship", "publish", "--help")
    program = (
        "import importlib.util as u; print([u.find_spec(each) is None for each in ('tensorflow', 'rich')])"
    )
    assert in_image(image, "python", "-c", program) == "[True, False]\n"


def test_the_image_of_training_runs_as_an_ordinary_user_and_holds_no_key(
    train_image: str, figures: dict[str, Any]
) -> None:
    """It has TensorFlow, which makes it the largest; the folders of the volumes are empty."""
    size = added_bytes(train_image) / MB
    figures.setdefault("train", {})["on_base_mb"] = round(size, 1)
    assert size <= MAX_MB_TRAIN
    assert inspect(train_image, "image")["Config"]["User"] == "1000"
    program = "import importlib.util as u; print(u.find_spec('tensorflow') is not None)"
    assert in_image(train_image, "python", "-c", program) == "True\n"
    assert in_image(train_image, "sh", "-c", "id -u; find /keys /models /simulator -type f") == "1000\n"
    assert in_image(train_image, "sh", "-c", "ls -d /build /wheels /own 2>/dev/null; true") == ""


def test_the_debug_image_waits_for_a_debugger_and_the_older_builder_makes_it() -> None:
    """iotedgedev builds with the engine's API, which has no BuildKit."""
    docker(
        *("build", "--build-arg", f"BASE={BASE}", "--file", "modules/inference/Dockerfile.amd64.debug"),
        *("--tag", f"inference:{TAG}.debug", "."),
        timeout_s=BUILD_S,
        DOCKER_BUILDKIT="0",
    )
    config = inspect(f"inference:{TAG}.debug", "image")["Config"]
    assert config["Entrypoint"][-2:] == ["-m", "inference"]
    assert (
        in_image(f"inference:{TAG}.debug", "python", "-c", "import debugpy, inference.frames; print('ok')")
        == "ok\n"
    )
