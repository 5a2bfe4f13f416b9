"""`twinship demo` as a user runs it, with real SDKs and real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Command
from tests.e2e.waiting import wait_until
from twinship.demo.report import read_sent, read_upstream, summarise

pytestmark = pytest.mark.e2e

QUICK = ("--fps", "12", "--dataset", "digits")  # the second half must outlast a swap on a busy machine


def demo_arguments(models: Path, frames: int = 200, *more: str) -> list[str]:
    """The arguments for a demo of a few seconds with models that exist already."""
    return ["demo", "--models", str(models), "--frames", str(frames), *QUICK, *more]


def processes_of(folder: Path) -> list[int]:
    """Every process whose command line or environment names this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in text and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read the output of a command up to the line with this text."""
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if text in line:
            return output
    raise AssertionError(f"the command ended without {text!r}: {output}")


def test_the_whole_path_and_all_its_figures(twinship: Command, models: Path) -> None:
    """No frame is lost, dropped or repeated over a hot swap; the summary can be recomputed from both logs."""
    code, output = twinship.run(*demo_arguments(models))
    assert code == 0, output
    folder = twinship.folder / "build" / "demo"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.pop("profile")["hub"] == "simulator"
    assert (summary["frames_sent"], summary["frames_answered"]) == (200, 200)
    assert [summary[name] for name in ("frames_lost", "frames_dropped", "repeats", "foreign_frames")] == [
        0
    ] * 4
    assert summary["accuracy"] >= 0.90
    versions = summary["by_version"]
    assert set(versions) == {"1.0.0", "1.1.0"}
    assert versions["1.0.0"]["weights_sha256"] != versions["1.1.0"]["weights_sha256"]
    assert versions["1.0.0"]["sha256"] != versions["1.1.0"]["sha256"]
    with (folder / "sent.jsonl").open() as sent, (folder / "upstream.jsonl").open() as upstream:
        again = summarise(summary["dataset"], read_sent(sent), read_upstream(upstream)).to_json()
    assert json.loads(json.dumps(again)) == summary
    for stage in ("encode", "transit", "queue", "preprocess", "invoke", "postprocess", "publish", "total"):
        assert 0 <= summary["latency_ms"][stage]["p50"] <= summary["latency_ms"][stage]["p99"]
    assert_no_secret_outside_its_file(folder)


def assert_no_secret_outside_its_file(folder: Path) -> None:
    """Keys and tokens are only in service.env and in the hub's own store."""
    service_env = folder / "simulator" / "service.env"
    found = re.search(r"SharedAccessKey=([^;\"\s]+)", service_env.read_text())
    assert found is not None
    assert service_env.stat().st_mode & 0o077 == 0
    for path in folder.rglob("*"):
        if path.is_file() and path != service_env and not path.name.startswith("hub.sqlite"):
            data = path.read_bytes()
            assert found[1].encode() not in data, path
            assert b"SharedAccessSignature sr=" not in data, path
            assert b"PRIVATE KEY" not in data or path.stat().st_mode & 0o077 == 0, path


@pytest.mark.long
def test_own_pictures_in_a_deep_folder_with_a_space(twinship: Command, models: Path) -> None:
    """Without labels there is no accuracy and no failure; a broken file is skipped; deep paths work."""
    deep = twinship.folder / ("a folder " + "x" * 80) / ("y" * 110)
    pictures = deep / "my pictures"
    pictures.mkdir(parents=True)
    frames = sorted((models / "1.0.0" / "frames").glob("*.png"))[:5]
    for frame in frames:
        shutil.copy(frame, pictures)
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    code, output = Command(deep).run(*demo_arguments(models, 200, "--camera-folder", str(pictures)))
    assert code == 0, output
    summary = json.loads((deep / "build" / "demo" / "summary.json").read_text())
    assert (summary["frames_answered"], summary["accuracy"]) == (200, None)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("simulator is up", marks=pytest.mark.long),
        "shipped by module twin",
        pytest.param("answered, model 1.1.0", marks=pytest.mark.long),
    ],
)
def test_ctrl_c_leaves_nothing_behind(twinship: Command, models: Path, moment: str) -> None:
    """At any moment the exit code is 130, and no process and no traceback is left."""
    process = twinship.start(*demo_arguments(models, 400))
    output = read_until(process, moment)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output + rest
    assert "Traceback" not in output + rest
    assert processes_of(twinship.folder) == []


@pytest.mark.long
def test_ctrl_c_while_training_leaves_nothing_behind(twinship: Command) -> None:
    """Neither a process nor a file of the unfinished model stays."""
    process = twinship.start("demo", *QUICK)
    read_until(process, "epoch 1")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert processes_of(twinship.folder) == []
    assert not [path for path in (twinship.folder / "build").rglob("*") if path.is_file()]


@pytest.mark.long
def test_the_demo_empties_only_its_own_folder(twinship: Command, models: Path) -> None:
    """A folder with other files is refused, and so is one in which a demo runs."""
    mine = twinship.folder / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    code, output = twinship.run(*demo_arguments(models, 20, "--folder", str(mine)))
    assert code == 1
    assert "contains other files" in output
    assert (mine / "letter.txt").read_text() == "dear"
    running = twinship.start(*demo_arguments(models, 0))
    read_until(running, "simulator is up")
    code, output = twinship.run(*demo_arguments(models, 20))
    assert code == 1
    assert str(running.pid) in output


def test_a_missing_picture_folder_is_refused(twinship: Command) -> None:
    """The error names the folder before anything is trained or started."""
    code, output = twinship.run("demo", "--camera-folder", "nowhere")
    assert (code, output.count("\n")) == (1, 1)
    assert "nowhere" in output


@pytest.mark.long
def test_a_run_without_end_shows_its_figures_at_ctrl_c(twinship: Command, models: Path) -> None:
    """With `--frames 0`, Ctrl-C is the only end, so the figures count."""
    process = twinship.start(*demo_arguments(models, 0))
    output = read_until(process, "1.1.0 shipped")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output + rest
    summary = json.loads((twinship.folder / "build" / "demo" / "summary.json").read_text())
    assert summary["frames_answered"] > 100
    assert (summary["frames_lost"], summary["frames_dropped"]) == (0, 0)


@pytest.mark.long
def test_after_kill_9_nothing_runs_and_the_next_demo_succeeds(twinship: Command, models: Path) -> None:
    """The kernel ends the children of a killed agent; the state that it leaves does no harm."""
    process = twinship.start(*demo_arguments(models, 400))
    read_until(process, "answered, model")
    process.kill()
    process.wait()
    wait_until(lambda: processes_of(twinship.folder) == [], "the children to end")
    code, output = twinship.run(*demo_arguments(models))
    assert code == 0, output


@pytest.mark.long
def test_the_manifest_is_the_only_source_of_modules_and_routes(twinship: Command, models: Path) -> None:
    """With a broken route for frames nothing is answered, and the demo fails before it swaps the model."""
    manifest = json.loads((ROOT / "deployment.template.json").read_text())
    routes = manifest["modulesContent"]["$edgeHub"]["properties.desired"]["routes"]
    routes["frames"]["route"] = routes["frames"]["route"].replace("outputs/frames", "outputs/elsewhere")
    template = twinship.folder / "deployment.template.json"
    template.write_text(json.dumps(manifest))
    shutil.copytree(ROOT / "modules", twinship.folder / "modules", ignore=shutil.ignore_patterns("*.pyc"))
    code, output = twinship.run(*demo_arguments(models, 20, "--template", str(template)))
    assert code == 1
    assert "15 frames were lost" in output, output
