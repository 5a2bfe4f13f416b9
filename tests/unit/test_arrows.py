"""The import rules of the repository: which package may import which, inner packages included."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {
    "edgekit": "edgekit/edgekit",
    "camera_sim": "modules/camera_sim/camera_sim",
    "dashboard": "modules/dashboard/dashboard",
    "inference": "modules/inference/inference",
    "twinship_training": "training/twinship_training",
    "twinship": "twinship",
}
MAX_MODULES = 16  # of one folder
#: What each package may import of ours outside itself: a package or a single module. The longest key counts.
ARROWS: Mapping[str, set[str]] = {
    "edgekit": set(),
    "camera_sim": {"edgekit"},
    "dashboard": {"edgekit"},
    "inference": {"edgekit"},
    "twinship_training": {"edgekit.frame", "inference"},
    "twinship.simulator": set(),
    "twinship.fleet": {
        "inference.artefact",
        "inference.model_section",
        "twinship.simulator.manifest",
        "twinship.simulator.lint",
    },
    "twinship.packaging": {"inference"},
    "twinship.project": set(),
    "twinship.printable": set(),
    "twinship.demo": {
        "twinship.fleet",
        "twinship.printable",
        "twinship.simulator",
        "twinship_training",
        "inference",
        "edgekit",
    },
    "twinship.bench": {
        "twinship.packaging",
        "twinship.project",
        "twinship.demo",
        "twinship.fleet",
        "twinship.simulator",
        "twinship_training",
        "inference",
        "edgekit",
        "camera_sim",
    },
    "twinship.cli": {
        "twinship.packaging",
        "twinship.printable",
        "twinship.project",
        "twinship.bench",
        "twinship.demo",
        "twinship.fleet",
        "twinship.simulator",
        "twinship_training",
        "inference",
        "edgekit",
        "camera_sim",
    },
    "twinship": {"twinship.cli"},
}
#: Inside a package: its layers from the lowest. A layer imports only layers before it.
#: A name that stands alone is a module or an inner package; names in one tuple do not import each other.
LAYERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "edgekit": (
        ("clock", "log", "cpu_affinity", "environment", "settings", "metrics", "health_file"),
        ("frame", "lifecycle", "startup"),
        ("hub", "events"),
    ),
    "dashboard": (
        ("messages", "figures", "advice", "access", "settings", "pictures", "calls"),
        ("events", "lease", "control"),
        ("state", "server"),
        ("module",),
    ),
    "inference": (
        ("runtimes", "artefact"),
        ("model_section",),
        ("engine",),
        ("models",),
        ("drift",),
        ("frames",),
    ),
    "twinship.simulator": (
        ("clock", "common"),
        (
            "identity",
            "sas",
            "loopback",
            "certificates",
            "mqtt",
            "store",
            "routing",
            "manifest",
            "faults",
        ),
        ("iot_hub",),
        ("edge_hub", "lint"),
        ("service_api", "amqp", "workload", "metrics", "hub_options"),
        ("listeners", "edge_agent"),
        ("hub", "launcher"),
    ),
    "twinship.bench": (("rig", "peers"), ("scenarios",)),
}
#: What other packages may import of the simulator besides the package itself …
SIMULATOR_FACE = {"twinship.simulator.manifest", "twinship.simulator.lint"}
#: … and the modules of the bench that measure its inner parts, or replace them.
INSIDE_THE_SIMULATOR = {
    "twinship.bench.peers.mosquitto": {"certificates", "common"},
    "twinship.bench.rig.rig": {"edge_agent"},
    "twinship.bench.scenarios.delay.cloud": {"edge_agent"},
    "twinship.bench.scenarios.hub": {"edge_agent", "identity", "loopback", "mqtt", "sas"},
}
#: Foreign packages, and the only packages or modules of ours that import them.
KEEPERS = {
    "azure.eventhub": ("twinship.fleet.monitor.event_hub",),
    "azure.iot.device": ("edgekit.hub", "twinship.bench.peers.sdk"),
    "azure.iot.hub": ("twinship.fleet",),
    "azure.storage": ("twinship.fleet.blob_store",),
    "tensorflow": ("twinship_training",),
    "keras": ("twinship_training",),
    "sklearn": ("twinship_training",),
    "defusedxml": ("edgekit.frame.voc",),
    "pycocotools": ("twinship_training",),
    "aiohttp": ("dashboard", "twinship.simulator"),
    "matplotlib": ("twinship_training", "twinship.bench.scenarios.delay.picture"),
}


@cache
def modules() -> Mapping[str, Path]:
    """Dotted name → file, of every module of ours."""
    found = {}
    for name, folder in DISTRIBUTIONS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((name, *inner)).removesuffix(".__init__")] = path
    return found


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


def inside(name: str, package: str) -> bool:
    """Whether a dotted name is the package or lies in it."""
    return name == package or name.startswith(package + ".")


def package_of(module: str) -> str:
    """The longest key of ARROWS that holds the module."""
    return max((package for package in ARROWS if inside(module, package)), key=len)


def forbidden(module: str, imported: set[str]) -> set[str]:
    """What of ours the module imports although no arrow points there."""
    own = package_of(module)
    allowed = ARROWS[own]
    ours = {name for name in imported if any(inside(name, top) for top in DISTRIBUTIONS)}
    return {
        name
        for name in ours
        if not (inside(name, own) and package_of(name) == own)
        # `from a import b` names `a` too, and `a.b.c` loads `a.b`: a parent of what is allowed is no arrow
        and not any(inside(name, arrow) or inside(arrow, name) for arrow in allowed)
        and not inside(own, name)
    }


def past_the_face(module: str, imported: set[str]) -> set[str]:
    """The inner modules of the simulator that a module outside it imports without permission."""
    if inside(module, "twinship.simulator"):
        return set()
    inner = {name for name in imported if inside(name, "twinship.simulator") and name in modules()}
    allowed = SIMULATOR_FACE | {
        f"twinship.simulator.{name}"
        for package, names in INSIDE_THE_SIMULATOR.items()
        if inside(module, package)
        for name in names
    }
    return {name for name in inner - {"twinship.simulator"} if not any(inside(name, ok) for ok in allowed)}


def against_the_layers(module: str, imported: set[str]) -> set[str]:
    """What of its own package the module imports from a layer that is not below its own."""
    found: set[str] = set()
    for package, layers in LAYERS.items():
        if not inside(module, package) or module == package:
            continue
        level = {f"{package}.{name}": number for number, names in enumerate(layers) for name in names}
        own = next((name for name in level if inside(module, name)), None)
        if own is None:
            continue
        for name in imported:
            other = next((each for each in level if inside(name, each)), None)
            if other is not None and other != own and level[other] >= level[own]:
                found.add(name)
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that reach each other (Tarjan's strongly connected components of two or more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, set()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def graph_of_modules() -> dict[str, set[str]]:
    """Module → the modules of ours that it imports."""
    graph = {}
    for name, path in modules().items():
        imported = imports(path)
        graph[name] = {other for other in imported if uses(other, imported) and other != name}
    return graph


def uses(name: str, imported: set[str]) -> bool:
    """Whether `name` is a module of ours that is imported for itself, not as the package of another one."""
    inner = {other for other in imported if other.rpartition(".")[0] == name}
    return name in modules() and not (inner and inner <= modules().keys())


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_follow_the_arrows(name: str) -> None:
    """A package imports only what ARROWS allows, and inside it only lower layers."""
    imported = imports(modules()[name])
    assert not forbidden(name, imported)
    assert not against_the_layers(name, imported)
    assert not past_the_face(name, imported)


def test_no_module_is_in_a_circle() -> None:
    """The import graph has no circle, neither of modules nor of packages."""
    graph = graph_of_modules()
    assert circles(graph) == []


def test_no_package_is_in_a_circle() -> None:
    """Two inner packages never import each other."""
    packages: dict[str, set[str]] = {}
    folder_of = {
        name: name if path.name == "__init__.py" else name.rpartition(".")[0]
        for name, path in modules().items()
    }
    for name, others in graph_of_modules().items():
        own = folder_of[name]
        # A package's root may use its inner packages and they its leaf modules: only siblings are compared.
        packages.setdefault(own, set()).update(
            folder_of[other]
            for other in others
            if folder_of[other] != own
            and not inside(folder_of[other], own)
            and not inside(own, folder_of[other])
        )
    assert circles(packages) == []


def test_no_folder_is_crowded() -> None:
    """A folder holds what one reader can keep in mind."""
    folders: dict[Path, int] = {}
    for path in (*modules().values(), *ROOT.glob("tests/**/*.py")):
        folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {str(folder): count for folder, count in folders.items() if count > MAX_MODULES} == {}
    assert folders[ROOT / "twinship/simulator"] <= 12


@pytest.mark.parametrize("package", sorted(KEEPERS))
def test_foreign_packages_stay_with_their_keepers(package: str) -> None:
    """Only its keepers import each SDK and TensorFlow, so that no image carries them by accident."""
    for name, path in modules().items():
        if not any(inside(name, keeper) for keeper in KEEPERS[package]):
            assert not any(inside(other, package) for other in imports(path)), path


def test_a_planted_import_is_found(tmp_path: Path) -> None:
    """The counter-proof: each rule finds an import that breaks it, inside a function too."""
    planted = tmp_path / "x.py"
    planted.write_text("def f():\n    from twinship.simulator.iot_hub.twin import merge\n")
    assert forbidden("twinship.fleet.status", imports(planted)) == {
        "twinship.simulator.iot_hub.twin",
        "twinship.simulator.iot_hub.twin.merge",
    }
    planted.write_text("from twinship.cli import show\n")
    assert forbidden("twinship.bench.run", imports(planted)) == {"twinship.cli", "twinship.cli.show"}
    planted.write_text("from twinship.simulator.edge_hub import topics\n")
    assert against_the_layers("twinship.simulator.iot_hub.twin", imports(planted)) == {
        "twinship.simulator.edge_hub",
        "twinship.simulator.edge_hub.topics",
    }
    planted.write_text("from twinship.simulator import Simulator, lint, sas\n")
    assert past_the_face("twinship.cli.local", imports(planted)) == {"twinship.simulator.sas"}
    assert past_the_face("twinship.bench.scenarios.hub.hub", imports(planted)) == set()
    assert uses("twinship.simulator", imports(planted))
    planted.write_text("from twinship.simulator import sas\n")
    assert not uses("twinship.simulator", imports(planted))
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_nobody_changes_the_search_path() -> None:
    """Packages are installed; no module edits sys.path."""
    for path in modules().values():
        assert "sys.path" not in path.read_text(), path
