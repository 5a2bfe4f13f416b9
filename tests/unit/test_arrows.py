"""The arrows between the rooms, read from the imports: who may know whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "edgekit": "edgekit/edgekit",
    "camera_sim": "modules/camera_sim/camera_sim",
    "inference": "modules/inference/inference",
    "training": "training",
    "fleet": "fleet",
    "simulator": "simulator",
    "demo": "demo",
    "bench": "bench",
    "verbs": "verbs",
    "twinship": "twinship.py",
}
#: What each room may import of ours: a room, or single files of one.
ARROWS: dict[str, set[str]] = {
    "edgekit": set(),
    "camera_sim": {"edgekit"},
    "inference": {"edgekit"},
    "training": {"inference"},
    "fleet": {"inference.artefact", "inference.wish", "simulator.manifest", "simulator.lint"},
    "simulator": set(),
    "demo": {"training", "fleet", "simulator", "inference", "edgekit"},
    "bench": {"demo", "training", "fleet", "simulator", "inference", "edgekit", "camera_sim"},
    "verbs": set(ROOMS) - {"twinship"},
    "twinship": {"verbs"},
}
#: Heavy or foreign packages, and the only files or rooms that may import them.
KEEPERS = {
    "azure.iot.device": ("edgekit/edgekit/hub.py", "bench/sdk_peer.py"),
    "azure.iot.hub": ("fleet",),
    "azure.storage": ("fleet/blob_store.py",),
    "tensorflow": ("training",),
    "keras": ("training",),
}


def imports(path: Path) -> set[str]:
    """Every module that this file imports, anywhere in it, `from a import b` as both `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


def files(room: str) -> list[Path]:
    """The Python files of a room."""
    place = ROOT / ROOMS[room]
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def trespasses(room: str, imported: set[str], allowed: set[str]) -> set[str]:
    """What of ours is imported although no arrow points there."""
    ours = {name for name in imported if name.split(".")[0] in set(ROOMS) - {room}}
    permitted = {
        name
        for name in ours
        for arrow in allowed
        # `from inference import wish` names the package too; the package alone gives nothing away
        if name == arrow or name.startswith(arrow + ".") or arrow.startswith(name + ".")
    }
    return ours - permitted


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_room_imports_against_the_arrows(room: str) -> None:
    """Rooms know only the rooms that their arrows point to."""
    assert files(room), f"{room} has no files"
    for path in files(room):
        assert not trespasses(room, imports(path), ARROWS[room]), path


@pytest.mark.parametrize("package", sorted(KEEPERS))
def test_heavy_packages_stay_with_their_keeper(package: str) -> None:
    """Only its rooms (or files) import each SDK and TensorFlow, so that no image carries them by accident."""
    keepers = {ROOT / keeper for keeper in KEEPERS[package]}
    for room in ROOMS:
        for path in files(room):
            if keepers.isdisjoint((path, *path.parents)):
                assert not any(n == package or n.startswith(package + ".") for n in imports(path)), path


def test_a_forbidden_import_would_be_seen(tmp_path: Path) -> None:
    """The counter-proof: the reader finds an import inside a function, and the rule refuses it."""
    (tmp_path / "x.py").write_text("def f():\n    from simulator.twin import merge\n")
    assert trespasses("fleet", imports(tmp_path / "x.py"), ARROWS["fleet"]) == {
        "simulator.twin",
        "simulator.twin.merge",
    }


def test_nobody_changes_the_search_path() -> None:
    """Rooms are installed; no file edits sys.path."""
    for room in ROOMS:
        for path in files(room):
            assert "sys.path" not in path.read_text(), path
