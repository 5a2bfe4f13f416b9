"""What the documents claim and a machine can check."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import BaseModel

from camera_sim.settings import CameraSettings
from inference.frames.settings import InferenceSection, TelemetrySection
from inference.models.states import diagram

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- diagram: inference.models.states -->\n", "<!-- end diagram -->"


def test_the_state_diagram_is_made_from_the_table() -> None:
    """ARCHITECTURE.md shows the transitions that the code has."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    shown = text.partition(BEGIN)[2].partition(END)[0]
    assert shown == f"```mermaid\n{diagram()}```\n", "cure: paste inference.models.states.diagram() there"


def test_every_command_of_the_readme_exists() -> None:
    """README.md names no command that `twinship` does not have."""
    command = "".join(path.read_text() for path in (ROOT / "twinship/cli").glob("*.py"))
    named = set(re.findall(r"twinship ([a-z]+)", (ROOT / "README.md").read_text()))
    there = set(re.findall(r'@(?:app|keys_app)\.command\("([a-z]+)"', command)) | {"keys"}
    assert named - there == set()


def test_every_make_target_of_the_documents_exists() -> None:
    """No document names a target that make does not know."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        named = set(re.findall(r"`make ([a-z0-9-]+)", (ROOT / document).read_text()))
        assert named <= targets, document


def test_every_test_and_file_that_security_names_exists() -> None:
    """Its claims are held by tests, and a reader who follows one finds it."""
    text = (ROOT / "docs" / "security.md").read_text()
    tests = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    for name in re.findall(r"`(test_\w+)`", text):
        assert any(f"def {name}(" in content for content in tests.values()), name
    folders = {"inference": "modules", "edgekit": "edgekit"}
    for name in re.findall(r"`((?:tests|twinship|inference|edgekit)/[\w/]+\.py)`", text):
        assert (ROOT / folders.get(name.split("/")[0], ".") / name).is_file() or (
            ROOT / "modules/inference" / name
        ).is_file(), name


def test_the_settings_of_the_uses_are_settings() -> None:
    """Each block of docs/uses.md can be put into the twins as it stands."""
    sections: dict[str, type[BaseModel]] = {
        "camera": CameraSettings,
        "inference": InferenceSection,
        "telemetry": TelemetrySection,
    }
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "uses.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        lines = re.sub(r"\}\s*\n", "},", block.strip() + "\n").rstrip(",")
        for name, section in json.loads("{" + lines + "}").items():
            sections[name].model_validate(section)


def test_no_file_of_the_top_level_is_missing() -> None:
    """What a user and the tools look for at the top."""
    for name in ("modules", "training", "tests", "deployment.template.json", ".env.example", "LICENSE"):
        assert (ROOT / name).exists(), name
