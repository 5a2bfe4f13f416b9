"""The verified tests can use a real hub: shown here with a separate simulator in place of Azure.

They run unchanged in a pytest process of their own; TWINSHIP_VERIFY_CONNECTION names the hub.
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

from tests.conformance.peers.iot_hub import CA, VARIABLE, reason_in
from tests.wire.hub_under_test import HubUnderTest, running_hub

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 600
KEY = base64.b64encode(b"nobody's key").decode()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("real")) as running:
        yield running


def variables(hub: HubUnderTest) -> dict[str, str]:
    """The variables that a user would copy from service.env."""
    lines = (hub.folder / "service.env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return {VARIABLE: found["IOTHUB_CONNECTION_STRING"], CA: found[CA]}


def verify(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the verified tests, or some of them, in another process."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "-m", "verified"]
    command += [f"--basetemp={folder / 'tmp'}", *options, "tests/conformance"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize(
    "chosen",
    [pytest.param("test_60_ or test_79_", id="two"), pytest.param("", id="all", marks=pytest.mark.long)],
)
def test_the_verified_tests_use_the_named_hub(hub: HubUnderTest, tmp_path: Path, chosen: str) -> None:
    """They pass on this hub, and delete all that they create."""
    before = len(hub.log())
    ended = verify(tmp_path, "-k", chosen, **variables(hub))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    log = hub.log()[before:]
    assert "DeviceNotFound" in log  # statement 79
    assert "-modules/plain: connected" in log  # statement 60
    assert hub.service("GET", "/devices") == []
    assert hub.service("GET", "/configurations") == []


def test_a_hub_that_cannot_be_used_ends_the_run_before_the_first_test(
    hub: HubUnderTest, tmp_path: Path
) -> None:
    """The error is one line that names the policy and not its key."""
    environment = variables(hub)
    host = environment[VARIABLE].partition(";")[0].removeprefix("HostName=")
    environment[VARIABLE] = re.sub("SharedAccessKey=.*", f"SharedAccessKey={KEY}", environment[VARIABLE])
    ended = verify(tmp_path, **environment)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = ended.stderr.strip().splitlines()
    assert line == (
        f"ERROR: {VARIABLE} is refused by {host} for policy iothubowner: 401, IotHubUnauthorizedAccess"
    )
    assert "passed" not in ended.stdout


@pytest.mark.parametrize(
    ("part", "wrong", "expected"),
    [
        ("SharedAccessKeyName=.*?;", "", "has no SharedAccessKeyName; take"),
        (
            "SharedAccessKey=.*",
            "SharedAccessKey=?",
            "has a SharedAccessKey that is not base64; copy it again",
        ),
        ("$", ";Colour=red", "is not accepted by the SDK: Invalid Connection String"),
        ("(HostName=[^:;]*)[^;]*", r"\1:1", "no server answers there"),
    ],
)
def test_each_fault_of_a_connection_string_is_named(
    hub: HubUnderTest, part: str, wrong: str, expected: str
) -> None:
    """The reason names the variable and does not contain the key."""
    good = variables(hub)
    with mock.patch.dict(os.environ, {CA: good[CA]}):
        assert reason_in(good) is None
        reason = reason_in({VARIABLE: re.sub(part, wrong, good[VARIABLE])})
    assert reason is not None
    assert reason.startswith(f"{VARIABLE} ")
    assert expected in reason
    assert good[VARIABLE].partition("SharedAccessKey=")[2] not in reason


def test_an_untrusted_hub_has_a_cure(hub: HubUnderTest) -> None:
    """The simulator has its own CA; the reason names the variable for it."""
    reason = reason_in({VARIABLE: variables(hub)[VARIABLE]})
    assert f"is not trusted; for a simulator set {CA}" in (reason or "")
