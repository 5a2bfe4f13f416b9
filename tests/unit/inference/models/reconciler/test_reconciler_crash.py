"""Models that kill the module's own process: after two crashes they are not loaded again."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inference.model_section import ModelState, digest, section_for
from inference.models.store import Memory, ModelStore, StoredModel
from tests.models import NEEDS_TFLITE_RUNTIME, ROOT, deadly_tflite, tiny_artefact
from tests.unit.inference.fixtures.device import PROVING, Device, Publisher

pytestmark = NEEDS_TFLITE_RUNTIME  # the runtime that crashes on a damaged model

OURS = Publisher()

MODULE = """
import json, os, signal, sys
from pathlib import Path
from tests.unit.inference.fixtures.device import Device
with Device(Path(sys.argv[1]), runtime="tflite_runtime") as device:
    section = json.loads(Path(sys.argv[2]).read_text())
    device.section(section)
    ends = ("probation", "withdrawn", "refused")
    device.wait(lambda twin: twin.get("modelStatus", {}).get("state") in ends)
    if device.active() == section["version"]:
        if sys.argv[3] == "invoke":
            device.reconciler.mark.begin(device.running.ref.sha256)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def module(folder: Path, section: dict[str, object], dies_in: str = "invoke") -> int:
    """Run a process that installs this model without a real proof, and is killed; its exit status."""
    wanted = folder.with_suffix(".json")
    wanted.write_text(json.dumps(section))
    command = [sys.executable, "-c", MODULE, str(folder), str(wanted), dies_in]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=120).returncode


@pytest.mark.parametrize("moment", ["loading", "serving"])
def test_two_crashes_withdraw_a_model(tmp_path: Path, moment: str) -> None:
    """The third start reports it, and the previous model serves."""
    folder = tmp_path / "data"
    with Device(folder, runtime="tflite_runtime") as device:
        device.install(OURS.section("1.0.0"))
    tflite = deadly_tflite() if moment == "loading" else None
    section = OURS.section("2.0.0", tflite=tflite)
    killed = -signal.SIGSEGV if moment == "loading" else -signal.SIGKILL
    assert [module(folder, section) for _ in range(2)] == [killed, killed]

    with Device(folder, runtime="tflite_runtime") as device:
        assert device.active() == "1.0.0"
        assert device.until(ModelState.WITHDRAWN)["error"]["code"] == "crashed"
        device.section(section)
        status = device.until(ModelState.WITHDRAWN)
        assert status["error"]["code"] == "crashed"
        assert status["candidate"]["version"] == "2.0.0"
        assert status["active"]["version"] == "1.0.0"


def test_a_proven_model_that_kills_a_new_runtime_does_so_once(tmp_path: Path) -> None:
    """A new image may crash on a model that was good; the next start avoids that model."""
    folder, store = tmp_path / "data", ModelStore(tmp_path / "data")
    good, bad = (
        tiny_artefact(),
        tiny_artefact(version="2.0.0", tflite=deadly_tflite()),
    )
    section = section_for(OURS.ref(bad, version="2.0.0"), bad)
    kept = [
        StoredModel(OURS.ref(good), "good", True),
        StoredModel(OURS.ref(bad, version="2.0.0"), digest(section), True),
    ]
    for each, data in zip(kept, (good, bad), strict=True):
        store.put(each.ref.sha256, data)
    store.save(Memory().promoted(kept[0]).promoted(kept[1]))

    assert module(folder, section) == -signal.SIGSEGV
    with Device(folder, settings=PROVING, runtime="tflite_runtime") as device:
        assert device.active() == "1.0.0"
        device.section(section)
        assert device.until(ModelState.REFUSED)["error"]["code"] == "crashes-runtime"


def test_a_kill_between_two_frames_counts_against_no_model(tmp_path: Path) -> None:
    """However often; the model on probation serves again."""
    folder = tmp_path / "data"
    for _ in range(2):
        assert module(folder, OURS.section("2.0.0"), dies_in="idle") == -signal.SIGKILL
    with Device(folder) as device:
        assert device.active() == "2.0.0"


def test_one_crash_withdraws_no_model(tmp_path: Path) -> None:
    """After a crash on probation the previous model serves first; the section gets a second try."""
    folder = tmp_path / "data"
    with Device(folder) as device:
        device.install(OURS.section("1.0.0"))
    assert module(folder, OURS.section("2.0.0")) == -signal.SIGKILL
    with Device(folder) as device:
        assert device.active() == "1.0.0"
        device.install(OURS.section("2.0.0"))
        assert device.active() == "2.0.0"
