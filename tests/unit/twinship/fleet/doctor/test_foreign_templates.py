"""Manifests in the form of other projects' public ones, written for these tests, have no error."""

from pathlib import Path

import pytest

from twinship.fleet.doctor import Project, Severity, examine

TEMPLATES = sorted((Path(__file__).parent / "templates").glob("*.json"))
#: What is right to say about them: unsupported runtimes, privileged modules, registries without a login.
EXPECTED = {
    "editor_extension.template.json": {"TW019"},
    "layered_publisher.json": set(),
    "lower_layer.json": set(),
    "radio_gateway.template.json": {"TW033"},
    "video_analytics.template.json": {"TW028"},
}
NETWORK_SERVER = (
    '{"image": {"repository": "$CONTAINER_REGISTRY_ADDRESS/networkserver", '
    '"tag": {"version": "2.0.0", "platforms": {"amd64": "Dockerfile", "arm32v7": "Dockerfile.arm"}}}}'
)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_foreign_template_has_no_false_error(path: Path) -> None:
    """Layers, nested edges, modules with our names, Windows paths, shell variables: none is a fault."""
    variables = {"DEFAULT_PLATFORM": "arm32v7"}
    project = Project(path.name, path.read_text(), variables, modules={"networkserver": NETWORK_SERVER})
    found = examine(project).findings
    assert [each for each in found if each.rule.severity is Severity.ERROR] == []
    assert {each.rule.id for each in found} == EXPECTED[path.name], [each.cause for each in found]


def test_a_fault_in_a_layer_is_found_at_its_line() -> None:
    """The counter-proof for layered deployments, whose keys have dots."""
    path = next(each for each in TEMPLATES if each.name == "layered_publisher.json")
    text = path.read_text().replace("INTO $upstream", "IN $upstream", 1)
    (found,) = examine(Project(path.name, text)).findings
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "IN $upstream" in line)
    assert (found.rule.id, found.line) == ("TW101", line)
