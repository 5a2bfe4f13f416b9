"""`twinship monitor` through azure-eventhub: the same predictions as upstream.jsonl, outages, a wrong key."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from threading import Thread
from typing import Any

import pytest

from tests.e2e.conftest import Command, Edge
from tests.e2e.models.test_swap import answers, patch, ship
from tests.e2e.waiting import wait_until
from tests.wire.hub_under_test import running_hub
from twinship.fleet.connection import read_env_file

pytestmark = pytest.mark.e2e
ALL = {"telemetry": {"predictions": "all", "intervalSeconds": 1}, "inference": {"overload": "all"}}
Frame = tuple[str, str, int]


class Monitor:
    """A running `twinship monitor --output jsonl`; its lines are read on a thread."""

    def __init__(self, process: Popen[str]) -> None:
        self.lines: list[str] = []
        self._process = process
        self._thread = Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(iter(self._process.stdout.readline, ""))

    def predictions(self) -> list[dict[str, Any]]:
        """The predictions that it has printed."""
        found = [
            json.loads(line) for line in list(self.lines) if line.startswith("{") and line.endswith("\n")
        ]
        return [each for each in found if each["kind"] == "prediction"]

    def end(self) -> int:
        """Press Ctrl-C; returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(30)
        self._thread.join()
        return code


def frames(monitor: Monitor) -> list[Frame]:
    """Camera, run and seq of each printed prediction."""
    return [(each["camera"], each["run"], each["seq"]) for each in monitor.predictions()]


def upstream(edge: Edge) -> list[Frame]:
    """The same of upstream.jsonl."""
    return [(a["frame"]["camera"], a["frame"]["run"], a["frame"]["seq"]) for a in answers(edge)]


def wait_for(edge: Edge, monitor: Monitor, more: Callable[[], bool], what: str) -> None:
    """Wait; a failure shows what the monitor has printed last."""
    wait_until(more, f"{what}; {len(upstream(edge))} upstream, {len(frames(monitor))} printed")
    assert not [line for line in monitor.lines if "Traceback" in line]


@pytest.mark.client("twinship monitor", "AMQP")
@pytest.mark.uses("connect", "telemetry", "reconnect")
@pytest.mark.long
def test_it_prints_what_upstream_jsonl_has_through_kill_9_of_the_hub(
    edge: Edge, models: Path, twinship: Command
) -> None:
    """Over 300 predictions, each once, before and after the kill; a second run goes on at the checkpoint."""
    words = (
        "monitor",
        "--from=start",
        "--output=jsonl",
        f"--env-file={edge.env_file}",
        "--checkpoint=position",
    )
    patch(edge, "inference", ALL)
    monitor = Monitor(twinship.start(*words))
    edge.simulator.start_modules()
    assert ship(edge, models / "1.0.0" / "model.tflite").ok
    wait_for(edge, monitor, lambda: len(frames(monitor)) >= 150, "the first predictions")
    edge.simulator.kill_hub()
    edge.simulator.wait_hub()
    killed = len(upstream(edge))
    wait_for(edge, monitor, lambda: len(frames(monitor)) >= killed + 150, "predictions after the kill")
    assert monitor.end() == 130
    first = frames(monitor)
    assert first == upstream(edge)[: len(first)]
    assert (twinship.folder / "position").stat().st_mode & 0o777 == 0o600

    second = Monitor(twinship.start(*words))
    wait_for(edge, second, lambda: len(frames(second)) >= 50, "predictions of the second run")
    edge.simulator.stop_modules()
    wait_for(
        edge, second, lambda: len(first) + len(frames(second)) >= len(upstream(edge)), "the last prediction"
    )
    assert second.end() == 130
    assert first + frames(second) == upstream(edge)
    printed = [each["confidence"] for each in (*monitor.predictions(), *second.predictions())]
    assert printed == [a["top"][0]["confidence"] for a in answers(edge)]
    key = read_env_file(Path(edge.env_file))["IOTHUB_CONNECTION_STRING"].partition("SharedAccessKey=")[2]
    assert not [line for line in monitor.lines + second.lines if key in line]


@pytest.fixture
def service_env(tmp_path: Path) -> Iterator[Path]:
    """The settings for a hub without modules."""
    with running_hub(tmp_path) as hub:
        yield hub.folder / "service.env"


@pytest.mark.long
def test_what_cannot_be_read_is_one_line(service_env: Path, twinship: Command) -> None:
    """A wrong key, a consumer group that does not exist, no hub: one line without the key, exit code 1."""
    words = ("monitor", f"--env-file={service_env}")
    variables = read_env_file(service_env)
    text = variables["IOTHUB_EVENTHUB_CONNECTION_STRING"]
    key = text.partition("SharedAccessKey=")[2].partition(";")[0]
    ca = variables["REQUESTS_CA_BUNDLE"]
    wrong = text.replace(key, "d3JvbmcgLSB3cm9uZyAtIHdyb25n")
    nowhere = text.replace(text.partition("sb://")[2].partition("/")[0], "127.0.0.1")
    for more, named in (
        ({"IOTHUB_EVENTHUB_CONNECTION_STRING": wrong, "REQUESTS_CA_BUNDLE": ca}, "refuses the key"),
        ({"IOTHUB_EVENTHUB_CONNECTION_STRING": nowhere, "REQUESTS_CA_BUNDLE": ca}, "127.0.0.1"),
        ({"IOTHUB_EVENTHUB_CONNECTION_STRING": text, "REQUESTS_CA_BUNDLE": ""}, "CERTIFICATE_VERIFY_FAILED"),
    ):
        code, output = twinship.run(*words, **more)
        errors = [line for line in output.splitlines() if line.startswith("twinship: ")]
        assert (code, len(errors)) == (1, 1), output
        assert named in errors[0]
        assert key not in output
        assert "d3Jvbmcg" not in output
        assert "Traceback" not in output
    code, output = twinship.run(*words, "--consumer-group=nobody")
    assert code == 1
    assert "consumer group nobody" in output.splitlines()[-1]
