"""The files of a project, and which manifest a command uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinship import project
from twinship.simulator.manifest.manifest import load


def test_init_writes_a_project_whose_manifest_can_be_read(tmp_path: Path) -> None:
    """The folder holds the manifests, the modules' module.json and .env.example, and no Dockerfile."""
    written = {str(path.relative_to(tmp_path / "new")) for path in project.write(tmp_path / "new")}
    assert written == {
        "deployment.template.json",
        "deployment.dashboard.template.json",
        ".env.example",
        "modules/camera_sim/module.json",
        "modules/dashboard/module.json",
        "modules/inference/module.json",
    }
    registry = {"CONTAINER_REGISTRY_SERVER": "registry.example"}
    here, packaged = (
        load(path, registry) for path in (tmp_path / "new" / project.MANIFEST, project.manifest())
    )
    assert here == packaged
    assert set(here.modules) == {"camera_sim", "inference"}


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """One existing file stops it before it writes any other."""
    (tmp_path / ".env.example").write_text("mine")
    with pytest.raises(project.ProjectError, match=r"\.env\.example exists"):
        project.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".env.example"]
    assert (tmp_path / ".env.example").read_text() == "mine"


def test_the_manifest_of_the_current_folder_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named manifest, else ./deployment.template.json, else Twinship's own."""
    monkeypatch.chdir(tmp_path)
    assert project.chosen_manifest(None) == project.manifest()
    (tmp_path / project.MANIFEST).write_text("{}")
    assert project.chosen_manifest(None) == Path(project.MANIFEST)
    assert project.chosen_manifest(tmp_path / "other.json") == tmp_path / "other.json"


def test_a_bare_name_of_our_manifests_works_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of that name in the folder comes first; a path or another name is taken as it is."""
    monkeypatch.chdir(tmp_path)
    named = Path(project.DASHBOARD_MANIFEST)
    assert project.chosen_manifest(named) == project.manifest().with_name(named.name)
    assert project.chosen_manifest(None) == project.manifest()
    assert project.chosen_manifest(tmp_path / named) == tmp_path / named
    assert project.chosen_manifest(Path("mine.json")) == Path("mine.json")
    named.write_text("{}")
    assert project.chosen_manifest(named) == named
