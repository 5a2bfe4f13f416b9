"""The reconciler on a disk that is full and then read-only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inference.model_section import ModelState
from tests.models import ROOT
from tests.unit.inference.fixtures.device import BLIND, Device, Publisher

OURS = Publisher()
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def test_a_full_and_a_read_only_disk(tmp_path: Path) -> None:
    """The good model serves all the time, the twin shows the reason, and retries succeed later."""
    if (
        shutil.which("unshare") is None
        or subprocess.run([*OWN_MOUNTS, "true"], capture_output=True).returncode
    ):
        pytest.skip("needs a mount namespace of its own for a full disk")
    words = [*OWN_MOUNTS, sys.executable, "-m", "tests.unit.inference.models.test_disk", str(tmp_path)]
    ended = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == {
        "full": ["unavailable", "disk-full", "1.0.0", "north-west"],
        "room again": ["probation", "", "2.0.0", "north-west"],
        "read-only": ["unavailable", "disk-read-only", "2.0.0", "north-west"],
        "writable again": ["probation", "", "3.0.0", "north-west"],
        "half files": 0,
    }


def mount(*words: str) -> None:
    """Mount in the namespace of this process."""
    subprocess.run(["mount", *words], check=True)


def shown(device: Device, state: ModelState) -> list[str]:
    """The reported state and code, the serving version and its answer."""
    status = device.until(state)
    return [status["state"], status.get("error", {}).get("code", ""), device.active(), device.classify()]


def main(disk: Path) -> None:
    """Inside the namespace: print the results."""
    mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk))
    folder, filler = disk / "data", disk / "filler"
    seen: dict[str, object] = {}
    with Device(folder, settings=BLIND) as device:
        device.install(OURS.section("1.0.0"))
        with filler.open("wb") as file:
            file.write(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
        device.section(OURS.section("2.0.0"))
        seen["full"] = shown(device, ModelState.UNAVAILABLE)
        filler.unlink()
        seen["room again"] = shown(device, ModelState.PROBATION)
        device.answer(BLIND.probation_frames)
        device.until(ModelState.ACTIVE)
        mount("-o", "remount,ro", str(disk))
        device.section(OURS.section("3.0.0"))
        seen["read-only"] = shown(device, ModelState.UNAVAILABLE)
        mount("-o", "remount,rw", str(disk))
        seen["writable again"] = shown(device, ModelState.PROBATION)
    seen["half files"] = len(list(disk.rglob("*.half")))
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
