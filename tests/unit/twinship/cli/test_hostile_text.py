"""Text that a device, a twin, a hub or a file supplied moves no cursor and forges no line, in any command."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import twinship.cli
from tests.models import tiny_artefact
from tests.unit.twinship.cli.command import COMMANDS, run
from twinship.bench.report.report import SCHEMA
from twinship.fleet import keys, methods, monitor, service
from twinship.fleet.monitor import event_hub
from twinship.fleet.rollout import LABEL
from twinship.fleet.twin_patch import merge
from twinship.printable import printable

FORGED = "forged: all is well"
# Escape sequences of both kinds, line breaks of all kinds, direction, zero width, C1, DEL, a lone surrogate.
HOSTILE = f"x\x1b[2J\x1b]0;t\x07\r\n{FORGED}\u202e\u2066\u200b\x85\x9b31m\u2028\x7f\u3164\ud800"
HOSTILE_PATH = HOSTILE.replace("\ud800", "\udc9b")  # a byte of a file name that is not UTF-8
REPORTED = {
    "model": {"av": 10**9, "ac": 400, "ad": HOSTILE, "value": HOSTILE},
    "modelStatus": {
        "state": HOSTILE,
        "active": {"name": HOSTILE, "version": HOSTILE, "sha256": HOSTILE},
        "candidate": {"name": HOSTILE, "version": HOSTILE, "sha256": HOSTILE},
        "error": {"code": HOSTILE, "message": HOSTILE},
        "history": [{"state": HOSTILE}],
        "timings": {HOSTILE: float("nan")},
        "engine": {"runtime": HOSTILE, "whyNotDelegate": HOSTILE},
    },
    "modules": {HOSTILE: {"runtimeStatus": HOSTILE, "restartCount": 1}},
    "lastDesiredStatus": {"code": 400, "description": HOSTILE},
    HOSTILE: {"ac": 400, "av": 1, "ad": HOSTILE},
}
BENCHMARK = {
    "model": {"name": HOSTILE, "version": HOSTILE},
    "device": {"processor": HOSTILE, "machine": HOSTILE, "cores": HOSTILE, "memory_mb": HOSTILE},
    "runtime": HOSTILE,
    "runtime_version": HOSTILE,
    "queries": HOSTILE,
    "per_s": 1.0,
    "invoke_ms": {"p50": 1.0, "p90": float("nan"), "p99": float("inf")},
    "error": HOSTILE,
    "notSeen": HOSTILE,
}
MODULE = {"settings": {"image": HOSTILE, "createOptions": HOSTILE}, "status": HOSTILE, "env": {HOSTILE: 1}}
MANIFEST = {
    "modulesContent": {
        "$edgeAgent": {"properties.desired": {"schemaVersion": HOSTILE, "modules": {HOSTILE: MODULE}}},
        "$edgeHub": {"properties.desired": {"routes": {HOSTILE: HOSTILE, "x": f"FROM /* INTO {HOSTILE}"}}},
        HOSTILE: {"properties.desired": {HOSTILE: HOSTILE}},
    }
}
EVENTS = "Endpoint=sb://127.0.0.1:1/;SharedAccessKeyName=owner;SharedAccessKey=a2V5;EntityPath=e"
PREDICTION = {
    "schema": "twinship.prediction.v1",
    "frame": {"camera": HOSTILE, "run": HOSTILE, "seq": 1},
    "model": {"name": HOSTILE, "version": HOSTILE},
    "top": [{"label": HOSTILE, "confidence": float("nan")}],
    "captured": 1,
    "stages_ms": {HOSTILE: 1.0},
}
LATENCY = {
    "schema": "twinship.latency.v1",
    "window_s": 1e999,
    "frames": 1,
    "stages_ms": {HOSTILE: {HOSTILE: 1.0}},
    "dropped": {HOSTILE: 1},
    "repeats": 0,
}


class HostileHub:
    """Stands for the methods of ServiceHub: every text is HOSTILE."""

    def __init__(self) -> None:
        self.desired: dict[str, Any] = {"$version": 1, HOSTILE: HOSTILE}
        self.status = 200

    def modules(self, _device: str) -> tuple[str, ...]:
        return ("$edgeAgent", "$edgeHub", HOSTILE)

    def module_twin(self, device: str, module: str) -> service.ModuleTwin:
        return service.ModuleTwin(device, module, "e", HOSTILE, self.desired, REPORTED)

    def patch_desired(self, device: str, module: str, patch: Mapping[str, Any], _etag: str) -> Any:
        self.desired = merge(self.desired, patch)
        return self.module_twin(device, module)

    def call_registry(self, _target: str, _request: object) -> methods.Answer:
        return methods.Answer(self.status, BENCHMARK)

    def configurations(self) -> tuple[service.Configuration, ...]:
        return (service.Configuration(HOSTILE, {LABEL: "all"}, HOSTILE, 1),)

    def device_connection_state(self, _device: str) -> str:
        raise service.HubRefused(f"no: {HOSTILE}")

    def change(self, *_: object) -> None:
        """Stands for what changes a configuration."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostileHub:
    """The operator's folder, and a hub of which every answer is hostile."""
    hub = HostileHub()
    for name in (
        "modules",
        "module_twin",
        "patch_desired",
        "call_registry",
        "configurations",
        "device_connection_state",
    ):
        stand_in = getattr(hub, name)
        monkeypatch.setattr(service.ServiceHub, name, lambda _self, *words, do=stand_in: do(*words))
    for name in ("create_configuration", "delete_configuration", "apply_configuration"):
        monkeypatch.setattr(service.ServiceHub, name, HostileHub.change)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWINSHIP_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv(
        "IOTHUB_CONNECTION_STRING", "HostName=localhost;SharedAccessKeyName=o;SharedAccessKey=a2V5"
    )
    monkeypatch.setenv("COLUMNS", "2000")
    for name in ("EDGE_DEVICE_ID", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    keys.new(tmp_path / "keys")
    Path("model.tflite").write_bytes(tiny_artefact())
    report = {"schema": SCHEMA, HOSTILE: {f"{HOSTILE}_ms": 1.0}, "machine": HOSTILE}
    Path("report.json").write_text(json.dumps(report))
    Path("manifest.json").write_text(json.dumps(MANIFEST))
    Path("devices").mkdir()
    Path("devices", f"{HOSTILE_PATH}.json").write_text("{")
    Path(HOSTILE_PATH).mkdir()
    source = monitor.Source(HOSTILE, HOSTILE, HOSTILE)
    bodies = (PREDICTION, LATENCY, {"schema": HOSTILE}, {"captured": 1e999, **PREDICTION})
    events = [event_hub.Event("0", "1", source, json.dumps(body).encode()) for body in bodies]
    monkeypatch.setenv("IOTHUB_EVENTHUB_CONNECTION_STRING", EVENTS)
    monkeypatch.setattr(event_hub, "_positions", lambda *_: {})
    monkeypatch.setattr(event_hub.Reader, "_receive", lambda *_: None)
    monkeypatch.setattr(event_hub.Reader, "__iter__", lambda _self: iter(events))
    return hub


def refuses(hub: HostileHub) -> None:
    """Every direct method is answered with an error."""
    hub.status = 409


def as_given(_hub: HostileHub) -> None:
    """The hub as the fixture makes it."""


ADVISE = ["advise", "--fps=1", "--max-latency-ms=9", "--bandwidth=2Mbit"]
TARGET = ["--deployment=all", "--target-condition=*"]
Prepare = Callable[[HostileHub], None]
#: Commands that show hostile text: as a table or line, as an error, or as JSON.
CASES: list[tuple[list[str], Prepare]] = [
    (ADVISE, as_given),
    (["bench", "compare", "report.json", "report.json"], as_given),
    (["bench", "compare", "report.json", "report.json", "--json"], as_given),
    (["bench", HOSTILE], as_given),
    (["benchmark"], as_given),
    (["benchmark", "--json"], as_given),
    (["benchmark"], refuses),
    (["demo", f"--template={HOSTILE_PATH}"], as_given),
    (["deploy", *TARGET], as_given),
    (["deploy", *TARGET, "--json"], as_given),
    (["deploy", "--create"], as_given),
    (["doctor", "--template=manifest.json"], as_given),
    (["doctor", "--template=manifest.json", "--json"], as_given),
    (["fault", HOSTILE], as_given),
    (["init", HOSTILE_PATH], as_given),
    (["keys", "new", HOSTILE], as_given),
    (["keys", "retire", HOSTILE], as_given),
    (["keys", "show", f"--env-file={HOSTILE_PATH}/e"], as_given),
    (["monitor"], as_given),
    (["monitor", "--json"], as_given),
    (["monitor", "--output=csv"], as_given),
    (["package", "model.tflite", f"--name={HOSTILE}"], as_given),
    (["predict", "model.tflite", HOSTILE_PATH], as_given),
    (["predict", "model.tflite", HOSTILE_PATH, "--json"], as_given),
    (["publish", "model.tflite", "--wait=0.01"], as_given),
    (["publish", "model.tflite", "--wait=0.01", "--json"], as_given),
    (["publish", "model.tflite", *TARGET], as_given),
    (["rollback"], as_given),
    (["rollback"], refuses),
    (["rollback", "--json"], as_given),
    (["simulate", f"--template={HOSTILE_PATH}"], as_given),
    (["status"], as_given),
    (["status", "--json"], as_given),
    (["train", f"--name={HOSTILE}"], as_given),
    (["verify", "model.tflite", f"--dataset={HOSTILE}"], as_given),
]


def test_every_command_has_a_case() -> None:
    """A new command needs one."""
    covered = {" ".join(words[:2]) if words[0] == "keys" else words[0] for words, _ in CASES}
    assert covered == COMMANDS.keys()


@pytest.mark.parametrize(
    ("words", "prepare"),
    CASES,
    ids=[f"{printable(' '.join(words)[:40])}-{prepare.__name__}" for words, prepare in CASES],
)
def test_no_command_shows_a_character_that_a_terminal_obeys(
    words: list[str],
    prepare: Prepare,
    hub: HostileHub,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hostile characters appear as escape sequences, no line begins with the forged text, JSON is JSON."""
    prepare(hub)
    done = run(capsys, monkeypatch, *words)
    shown = done.out + done.err
    assert [each for each in shown if each != "\n" and printable(each) != each] == []
    assert [line for line in shown.splitlines() if line.startswith(FORGED)] == []
    assert FORGED in shown  # counter-proof: the hostile text is there
    assert "\\x1b" in shown or "\\u001b" in shown
    if "--json" in words:
        assert done.out.isascii()
        texts = done.out.splitlines() if words[0] == "monitor" else [done.out]
        for text in texts:
            json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_commands_print_only_through_one_module() -> None:
    """No other module of the commands calls `print`: the characters are replaced in one place."""
    folder = Path(twinship.cli.__file__).parent
    users = {path.name for path in folder.glob("*.py") if "print(" in path.read_text()}
    assert users == {"show.py"}
