"""The inference module in its own process, without an edgeHub."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.model_section import section_for
from tests.unit.inference.fixtures import harmful_models as harmful
from tests.unit.inference.fixtures.device import Device, Publisher
from twinship.simulator.certificates import Authority

pytestmark = pytest.mark.e2e

OURS = Publisher()
KEY = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA=="


def start(data: Path, ca: Path) -> subprocess.Popen[str]:
    """`python -m inference`; its edgeHub is an address where nothing listens."""
    unused = f"127.{secrets.randbelow(20) + 230}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
    connection = f"HostName=hub.invalid;DeviceId=d;ModuleId=inference;SharedAccessKey={KEY}"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "inference"],
        stdout=subprocess.PIPE,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "DATA_FOLDER": str(data),
            "MODEL_TRUSTED_KEYS": OURS.trusted,
            "EdgeHubConnectionString": f"{connection};GatewayHostName={unused}",
            "EdgeModuleCACertificateFile": str(ca),
        },
    )


def events(process: subprocess.Popen[str]) -> Iterator[str]:
    """The events of its log."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)["event"]


def test_the_last_good_model_runs_without_a_hub(tmp_path: Path) -> None:
    """The module loads it from disk, keeps trying to connect, and exits 0 on SIGTERM."""
    data = harmful.artefact(harmful.harmless())
    with Device(tmp_path / "data") as device:
        device.install(section_for(OURS.ref(data, name="bands"), data))
    ca = tmp_path / "ca.pem"
    ca.write_text(Authority.create().ca_pem)
    process = start(tmp_path / "data", ca)
    try:
        logged = list[str]()
        for event in events(process):
            logged.append(event)
            if "ConnectionFailedError" in event:
                break
        assert "model bands:1.0.0 active" in [event.strip() for event in logged]
        process.terminate()
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "ConnectionFailedError" in logged[-1]
    assert KEY not in "".join(logged) + rest
