"""The whole simulator on a disk that is full for a while: the hub comes back and has lost nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.wire.hub_under_test import DEVICE, ROUTES, HubUnderTest, wait_for
from tests.wire.raw_traffic import connected, receiving, store, take
from twinship.simulator.launcher import Simulator, SimulatorSettings

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ROOT = Path(__file__).parents[3]
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def test_the_hub_comes_back_after_a_full_disk(tmp_path: Path) -> None:
    """Within 10 s of the space; each acknowledged message arrives once; the log has lines, no traceback."""
    if (
        shutil.which("unshare") is None
        or subprocess.run([*OWN_MOUNTS, "true"], capture_output=True).returncode
    ):
        pytest.skip("needs a mount namespace of its own for a full disk")
    words = [*OWN_MOUNTS, sys.executable, "-m", "tests.wire.hub.test_full_disk", str(tmp_path)]
    ended = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout.splitlines()[-1])
    assert seen["back_within_s"] <= 10.0
    assert seen["acknowledged"] > 0
    assert seen["restarts"] >= 3
    assert seen["received"] == seen["acknowledged"]
    assert seen["upstream"] == 1
    assert seen["tracebacks"] == [0, 0], seen["log"]
    assert "storage failed" in seen["log"] or "hub: " in seen["log"]
    assert "Traceback" not in ended.stderr


def template(folder: Path) -> Path:
    """A project with the modules of the wire tests."""
    modules = {name: {"settings": {"image": name}} for name in ("sender", "receiver")}
    content = {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": modules}},
        "$edgeHub": {"properties.desired": ROUTES},
    }
    path = folder / "deployment.template.json"
    path.write_text(json.dumps({"modulesContent": content}))
    return path


def fill(path: Path, *, leave: int) -> None:
    """Leave so many bytes on the disk."""
    status = os.statvfs(path.parent)
    path.write_bytes(bytes(max(0, status.f_bavail * status.f_bsize - leave)))


def send_until_closed(hub: HubUnderTest) -> int:
    """Send messages until the hub fails; returns how many it has acknowledged."""
    acknowledged = 0
    try:
        with connected(hub, "sender") as sender:
            store(sender, 1, b"0", "cloud")
            while True:
                store(sender, 2 + acknowledged, b"%d" % acknowledged + bytes(10_000))
                acknowledged += 1
    except (AssertionError, OSError):
        return acknowledged


def main(folder: Path) -> None:
    """Inside the namespace: print the results."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
    settings = SimulatorSettings(template(folder), disk / "sim", {}, device=DEVICE)
    log = disk / "sim" / "logs" / "hub.log"
    with Simulator(settings) as simulator:
        hub = HubUnderTest(disk / "sim")
        hub.hub_address, hub.gateway = simulator.endpoints.hub_name, simulator.endpoints.gateway
        key = hub.key("sender")  # also shows that the service API works
        assert key
        fill(disk / "filler", leave=200_000)
        acknowledged = send_until_closed(hub)
        fill(disk / "filler2", leave=0)
        process = simulator._hub
        assert process is not None
        wait_for(lambda: process.state.restart_count >= 3, "three failed starts")
        (disk / "filler").unlink()
        (disk / "filler2").unlink()
        began = time.monotonic()
        simulator.wait_hub()
        back_within_s = time.monotonic() - began
        with receiving(hub) as receiver:
            received = [int(take(receiver).body.rstrip(b"\0")) for _ in range(acknowledged)]
        assert received == list(range(acknowledged))
        wait_for(lambda: len(hub.upstream()) >= 1, "the message for the cloud")
        restarts, upstream = process.state.restart_count, len(hub.upstream())
    text = log.read_text()
    seen = {
        "back_within_s": back_within_s,
        "acknowledged": acknowledged,
        "received": len(received),
        "restarts": restarts,
        "upstream": upstream,
        "tracebacks": [text.count("Traceback"), text.count("Exception")],
        "log": text[-4000:],
    }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
