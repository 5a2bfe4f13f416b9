"""Every option of every command with values that nobody means: refused in one line, before the work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from inference import evaluate, predict
from tests.models import tiny_artefact
from tests.unit.twinship.cli.command import COMMANDS, Done, ReachedTheWork, run
from twinship import project
from twinship.demo import models
from twinship.fleet import doctor, keys, service
from twinship.fleet.monitor import event_hub
from twinship.packaging import package
from twinship.simulator import launcher
from twinship.simulator.faults import client

FOLDER = "a-folder"
CONTROL = "a\x1b[31mb\nc"
VALUES = ("", "/", ".", "nan", "-1", "/dev/zero", FOLDER, "inf", CONTROL)
HUB = "HostName=127.0.0.1:1;SharedAccessKeyName=owner;SharedAccessKey=a2V5"
EVENTS = "Endpoint=sb://127.0.0.1:1/;SharedAccessKeyName=owner;SharedAccessKey=a2V5;EntityPath=e"

#: Each command with the words that it needs. With these alone its work begins.
BASE: Mapping[str, list[str]] = {
    "advise": ["--fps=1", "--max-latency-ms=1000", "--bandwidth=2Mbit"],
    "bench": [],
    "benchmark": [],
    "demo": ["--dataset=digits"],
    "deploy": ["--device=porch"],
    "doctor": [],
    "fault": ["delay-puback", "1"],
    "init": [],
    "keys new": [],
    "keys retire": ["0123456789abcdef"],
    "keys show": [],
    "monitor": [],
    "package": ["model.tflite"],
    "predict": ["model.tflite", "picture.png"],
    "publish": ["model.tflite"],
    "rollback": [],
    "simulate": [],
    "status": [],
    "train": ["--dataset=digits", "--name=x"],
    "verify": ["model.tflite", "--dataset=digits"],
}
NAMES = {"nan", "-1", "inf", FOLDER}  # of a device or a module, or of something that may be new
NEW_FOLDERS = {".", CONTROL, *NAMES}
NEW_FILES = {"nan", "-1", "inf", CONTROL}
ANY_TEXT = set(VALUES) - {""}
#: The values that an option does take.
TAKEN: Mapping[tuple[str, str], set[str]] = {
    ("advise", "--build"): NEW_FOLDERS,
    ("advise", "--devices"): NEW_FOLDERS,
    ("bench", "--folder"): NEW_FOLDERS,
    ("bench", "--models"): NEW_FOLDERS,
    ("bench", "--dataset"): ANY_TEXT,  # checked by the training, which is not reached here
    ("benchmark", "--device"): NAMES,
    ("benchmark", "--env-file"): NEW_FILES,
    ("benchmark", "--module"): NAMES,
    ("benchmark", "--out"): NEW_FILES,
    ("demo", "--camera-folder"): {".", FOLDER},  # `ensure`, not reached here, looks for pictures
    ("demo", "--dataset"): ANY_TEXT,
    ("demo", "--folder"): {CONTROL, *NAMES},  # the current folder contains other files
    ("demo", "--models"): NEW_FOLDERS,
    ("deploy", "--deployment"): {"nan", "-1", "inf", FOLDER},
    ("deploy", "--device"): NAMES,
    ("deploy", "--env-file"): NEW_FILES,
    ("deploy", "--target-condition"): {""},
    ("doctor", "--camera-folder"): {".", FOLDER},
    ("fault", "value"): {"-1"},  # the hub checks the range
    ("fault", "--folder"): NEW_FOLDERS,
    ("init", "folder"): NEW_FOLDERS,
    ("keys retire", "key_id"): ANY_TEXT | {""},
    ("keys show", "--env-file"): NEW_FILES,
    ("monitor", "--checkpoint"): NEW_FILES,
    ("monitor", "--consumer-group"): {".", *NAMES},
    ("monitor", "--device"): NAMES,
    ("monitor", "--env-file"): NEW_FILES,
    ("monitor", "--label"): ANY_TEXT,
    ("package", "--mean"): {"-1"},
    ("package", "--name"): {".", *NAMES},
    ("package", "--out"): NEW_FILES,
    ("package", "--drift"): {".", FOLDER},
    ("package", "--probes"): {".", FOLDER},
    ("package", "--version"): {".", *NAMES},
    ("predict", "--draw"): NEW_FILES,
    ("predict", "pictures"): {"/", *NEW_FOLDERS},  # each unreadable file is named
    ("predict", "--runtime"): set(VALUES),  # checked by the engine, which is not reached here
    ("publish", "--deployment"): {"nan", "-1", "inf", FOLDER},
    ("publish", "--device"): NAMES,
    ("publish", "--container"): {"nan", "inf", FOLDER},
    ("publish", "--env-file"): NEW_FILES,
    ("publish", "--module"): NAMES,
    ("publish", "--target-condition"): {""},
    ("rollback", "--device"): NAMES,
    ("rollback", "--env-file"): NEW_FILES,
    ("rollback", "--module"): NAMES,
    ("simulate", "--consumer-group"): {".", "nan", "-1", "inf", FOLDER},
    ("simulate", "--env-file"): NEW_FILES,
    ("simulate", "--folder"): {CONTROL, *NAMES},
    ("status", "--device"): NAMES,
    ("status", "--env-file"): NEW_FILES,
    ("train", "--dataset"): ANY_TEXT,
    ("train", "--name"): {".", *NAMES},
    ("train", "--out"): NEW_FOLDERS,
    ("train", "--version"): {".", *NAMES},
}


def reach(*_arguments: Any, **_options: Any) -> Any:
    """Stands for the work of a command."""
    raise ReachedTheWork("the options are good")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, a key and settings; the work of each command is replaced by `reach`."""
    folder = tmp_path / "work"
    (folder / FOLDER).mkdir(parents=True)
    (folder / "model.tflite").write_bytes(tiny_artefact())
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TWINSHIP_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("IOTHUB_CONNECTION_STRING", HUB)
    monkeypatch.setenv("IOTHUB_EVENTHUB_CONNECTION_STRING", EVENTS)
    for name in ("EDGE_DEVICE_ID", "REQUESTS_CA_BUNDLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    keys.new(tmp_path / "keys")
    for holder, name in (
        (client, "_request"),
        (doctor, "examine"),
        (evaluate, "verify_file"),
        (keys, "retire"),
        (keys, "write_trusted_keys"),
        (keys, "new"),
        (launcher, "private_folder"),
        (models, "ensure"),
        (event_hub, "Reader"),
        (package, "package"),
        (predict, "Engine"),
        (project, "write"),
        (service.ServiceHub, "_registry"),
        (service.ServiceHub, "_configuration"),
    ):
        monkeypatch.setattr(holder, name, reach)
    return folder


@pytest.fixture(autouse=True)
def nothing_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training and the bench do not begin."""
    import twinship.bench.run
    import twinship_training.train

    monkeypatch.setattr(twinship_training.train, "train", reach)
    monkeypatch.setattr(twinship.bench.run, "ensure", reach)


def tree(folder: Path) -> set[str]:
    """Everything in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def variants(command: str) -> Iterator[tuple[str, str, list[str]]]:
    """Each option or argument of a command with each value: its name, the value, and the words."""
    base = BASE[command]
    for parameter in COMMANDS[command]:
        name = max(parameter.opts, key=len)
        if name == "--help" or getattr(parameter, "is_flag", False):
            continue
        for value in VALUES:
            if parameter.param_type_name == "option":
                others = [word for word in base if not word.startswith(f"{name}=")]
                yield name, value, [*others, f"{name}={value}"]
            else:
                place = [each.name for each in COMMANDS[command] if each.param_type_name == "argument"]
                words = [word for word in base if not word.startswith("-")]
                options = [word for word in base if word.startswith("-")]
                at = place.index(parameter.name)
                yield name, value, [*options, "--", *words[:at], value, *words[at + 1 :]]


def extra(command: str, name: str) -> list[str]:
    """The words that an option needs beside it."""
    return ["--target-condition=*"] if name == "--deployment" and command in ("deploy", "publish") else []


def flaws(done: Done, before: set[str], folder: Path, *, taken: bool) -> list[str]:
    """What is wrong with the end of a command that got a bad value."""
    found = []
    if done.code == 0 and not taken:
        found.append("exit code 0")
    if "Traceback" in done.err:
        found.append("traceback")
    if not taken and done.reached:
        found.append("the work began")
    if not taken and done.out:
        found.append("stdout")
    if done.code and (len(done.err.splitlines()) != 1 or not done.err.startswith("twinship: ")):
        found.append(f"stderr {done.err!r}")
    if "--debug" in done.err and not done.reached:
        found.append(f"raw exception {done.err!r}")
    if created := tree(folder) - before:
        found.append(f"created {created}")
    return found


def test_the_table_has_all_commands() -> None:
    """A new command needs a row, and a name in TAKEN is an option."""
    assert BASE.keys() == COMMANDS.keys()
    options = {(name, opt) for name, found in COMMANDS.items() for each in found for opt in each.opts}
    assert options >= TAKEN.keys()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_base_of_each_command_reaches_its_work(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counter-proof: what is refused below is refused because of the value."""
    assert run(capsys, monkeypatch, *command.split(), *BASE[command]).reached


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_with_values_that_nobody_means(
    command: str, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code not 0, no traceback, nothing created; a value that an option takes is in TAKEN."""
    before = tree(workplace.parent)
    failures = []
    for name, value, words in variants(command):
        taken = value in TAKEN.get((command, name), set())
        done = run(capsys, monkeypatch, *command.split(), *words, *extra(command, name))
        failures += [
            f"{name} {value!r}: {flaw}" for flaw in flaws(done, before, workplace.parent, taken=taken)
        ]
        if taken and not done.reached:
            failures.append(f"{name} {value!r}: in TAKEN, but refused: {done.err!r}")
    assert failures == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["deploy", "--template", "/dev/zero"], "/dev/zero is not a regular file"),
        (["deploy", "--template", "big.json"], "big.json has"),
        (["bench", "compare", "/nope", "/nope"], "/nope is not a report"),
        (["bench", "compare", "*", ".."], "* is not a report"),
        (["benchmark", "--seconds", "nan"], "--seconds"),
        (["benchmark", "--out", "."], ". is a folder"),
        (["benchmark", "--out", "model.tflite/x"], "model.tflite is not a folder"),
        (["predict", FOLDER, "picture.png"], f"{FOLDER} is a folder"),
        (["demo", "--folder", "/"], "root of the file system"),
        (["demo", "--folder", "."], "contains other files"),
        (["demo", "--folder", "x", "--models", "x/models"], "which the demo empties"),
        (["demo", "--template", "model.tflite"], "model.tflite"),
        (["simulate", "--folder", ""], "the path is empty"),
        (["simulate", "--folder", "."], "contains other files"),
        (["simulate", "--except", "nobody"], "no module 'nobody'"),
        (["publish", "model.tflite", "--module", ""], "--module"),
        (["publish", "model.tflite", "--module", "", "--print"], "--module"),
        (["publish", "model.tflite", "--module", "a/b"], "--module"),
        (["publish", "model.tflite", "--valid-days", "1e9", "--store", "blob"], "1e+09 days"),
        (["status", "--device", ".."], "--device"),
        (["monitor", "--from", "yesterday"], "'yesterday' is no start"),
        (["monitor", "--output", "xml"], "--output"),
        (["monitor", "--checkpoint", "model.tflite"], "is no checkpoint"),
        (["keys", "show", "--env-file", "/dev/null"], "/dev/null is not a regular file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_named_before_the_work(
    words: list[str],
    named: str,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line names the value that is wrong; the work does not begin, and nothing is left behind."""
    (workplace / "big.json").write_bytes(b" " * 2_000_000)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a")
    before = tree(workplace.parent)
    done = run(capsys, monkeypatch, *words)
    assert named in done.err
    assert flaws(done, before, workplace.parent, taken=False) == []


def test_a_manifest_of_ours_needs_no_path(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of Twinship has no manifest in its working folder, and compose.yaml names this one."""
    done = run(capsys, monkeypatch, "demo", "--dataset=digits", "--template", project.DASHBOARD_MANIFEST)
    assert done.reached, done.err
