"""How the verified tests reach a real hub: shown with a simulator that was started for itself.

They are run as they are, in a pytest of their own, with TWINSHIP_VERIFY_CONNECTION naming that hub.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.conformance.iot_hub import CA, VARIABLE, reason_in
from tests.wire.hub_under_test import HubUnderTest, running_hub

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
IN_TIME_S = 600
KEY = base64.b64encode(b"nobody's key").decode()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("real")) as running:
        yield running


def variables(hub: HubUnderTest) -> dict[str, str]:
    """What its user would copy from service.env."""
    lines = (hub.folder / "service.env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return {VARIABLE: found["IOTHUB_CONNECTION_STRING"], CA: found[CA]}


def verify(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the verified tests, or some of them."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "-m", "verified"]
    command += [f"--basetemp={folder / 'tmp'}", *options, "tests/conformance"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=IN_TIME_S,
        check=False,
    )


@pytest.mark.parametrize(
    "chosen",
    [pytest.param("test_60_ or test_79_", id="two"), pytest.param("", id="all", marks=pytest.mark.long)],
)
def test_the_hub_that_is_named_is_the_one_that_is_tested(
    hub: HubUnderTest, tmp_path: Path, chosen: str
) -> None:
    """They pass there, start no hub of their own for it, and leave nothing behind."""
    before = len(hub.log())
    ended = verify(tmp_path, "-k", chosen, **variables(hub))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    log = hub.log()[before:]
    assert "DeviceNotFound" in log  # statement 79
    assert "-modules/plain: connected" in log  # statement 60
    assert hub.service("GET", "/devices") == []
    assert hub.service("GET", "/configurations") == []


def test_a_hub_that_cannot_be_used_is_one_line_before_any_test_runs(
    hub: HubUnderTest, tmp_path: Path
) -> None:
    """Which policy was refused, and not its key."""
    environment = variables(hub)
    environment[VARIABLE] = re.sub("SharedAccessKey=.*", f"SharedAccessKey={KEY}", environment[VARIABLE])
    ended = verify(tmp_path, **environment)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = ended.stderr.strip().splitlines()
    assert line == (
        f"ERROR: {VARIABLE} is refused by {hub.hub_address}:8443 for policy iothubowner: "
        "401, IotHubUnauthorizedAccess"
    )
    assert "passed" not in ended.stdout


@pytest.mark.parametrize(
    ("part", "wrong", "said"),
    [
        ("SharedAccessKeyName=.*?;", "", "has no SharedAccessKeyName; take"),
        (
            "SharedAccessKey=.*",
            "SharedAccessKey=?",
            "has a SharedAccessKey that is not base64; copy it again",
        ),
        ("$", ";Colour=red", "is not what the SDK takes: Invalid Connection String"),
        (":8443;", ":1;", "nobody answers there"),
    ],
)
def test_what_is_wrong_with_a_connection_string_is_said(
    hub: HubUnderTest, part: str, wrong: str, said: str
) -> None:
    """In one line that names the variable, and without the key."""
    good = variables(hub)
    with mock.patch.dict(os.environ, {CA: good[CA]}):
        assert reason_in(good) is None
        reason = reason_in({VARIABLE: re.sub(part, wrong, good[VARIABLE])})
    assert reason is not None
    assert reason.startswith(f"{VARIABLE} ")
    assert said in reason
    assert good[VARIABLE].partition("SharedAccessKey=")[2] not in reason


def test_a_hub_that_is_not_trusted_is_named_with_the_cure(hub: HubUnderTest) -> None:
    """The simulator's authority is its own: service.env says which file to trust."""
    reason = reason_in({VARIABLE: variables(hub)[VARIABLE]})
    assert f"is not trusted; for a simulator set {CA}" in (reason or "")
