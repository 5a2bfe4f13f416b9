"""GetModuleLogs without an agent: modules, filters, output formats."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from twinship.simulator.edge_agent.log_search import LogSearch
from twinship.simulator.edge_agent.module_logs import LogsRequest, PayloadInvalid, module_logs

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
LINES = """plain
{"time": "2023-11-14T21:00:00.000Z", "level": "warning", "event": "late"}
  goes on
{"time": "2023-11-14T22:13:00.000Z", "level": "info", "event": "new"}
<3> 2023-11-14 22:13:10.000 +00:00 [ERR] broken
"""


@pytest.fixture
def logs(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "hub.log").write_text("hub\n")
    (tmp_path / "camera.log").write_text(LINES)
    return {name: tmp_path / f"{file}.log" for name, file in (("edgeHub", "hub"), ("camera", "camera"))}


def get(logs: dict[str, Path], *items: dict[str, Any], **fields: Any) -> list[dict[str, str]]:
    """The result of the method for these items."""
    request = LogsRequest.parse({"schemaVersion": "1.0", "items": list(items), **fields}, NOW)
    return module_logs(request, logs, hub="hub", device="edge")


def numbers(logs: dict[str, Path], **log_filter: Any) -> list[int]:
    """The numbers of the camera's lines that match."""
    (entry,) = get(logs, {"id": "camera", "filter": log_filter})
    return [LINES.splitlines().index(line) for line in entry["payload"].splitlines()]


@pytest.mark.parametrize(
    ("log_filter", "lines"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"tail": 2}, [3, 4]),
        ({"tail": 0}, []),
        ({"tail": 99}, [0, 1, 2, 3, 4]),
        ({"since": "1m"}, [3, 4]),
        ({"since": "1 hour 30 minutes"}, [1, 2, 3, 4]),
        ({"since": 1_699_999_985}, [4]),
        ({"since": "2023-11-14T22:13:05Z"}, [4]),
        ({"until": "2023-11-14T22:00:00Z"}, [1, 2]),
        ({"loglevel": 4}, [1, 2]),
        ({"loglevel": 3}, [4]),
        ({"regex": "n.w|goes"}, [2, 3]),
        ({"regex": "event", "tail": 1}, [3]),
    ],
)
def test_lines_are_filtered(logs: dict[str, Path], log_filter: dict[str, Any], lines: list[int]) -> None:
    """By time, exact severity and pattern, then tail; a line without a time has that of the previous line."""
    assert numbers(logs, **log_filter) == lines


def test_modules_are_named_by_pattern_or_all(logs: dict[str, Path]) -> None:
    """Case-insensitive; the first matching item gives the filter; no match is not an error."""
    assert [entry["id"] for entry in get(logs, {"id": "all"})] == ["edgeHub", "camera"]
    first, second = get(logs, {"id": "EDGE"}, {"id": ".*", "filter": {"tail": 0}})
    assert (first["payload"], second["payload"]) == ("hub\n", "")
    assert get(logs, {"id": "ghost"}) == []


def test_older_files_come_first_and_a_module_that_never_ran_is_empty(logs: dict[str, Path]) -> None:
    """Rotated files form one log."""
    for number, text in ((1, "older\n"), (2, "oldest\n")):
        (logs["edgeHub"].parent / f"hub.log.{number}").write_text(text)
    assert get(logs, {"id": "edgeHub"})[0]["payload"] == "oldest\nolder\nhub\n"
    assert get({"x": logs["camera"].with_name("x.log")}, {"id": "x"}) == [{"id": "x", "payload": ""}]


def test_output_formats(logs: dict[str, Path]) -> None:
    """JSON is an array with device, severity and time of each line; gzip is base64 in payloadBytes."""
    (entry,) = get(logs, {"id": "camera", "filter": {"loglevel": 3}}, contentType="json", encoding="gzip")
    (line,) = json.loads(gzip.decompress(base64.b64decode(entry["payloadBytes"])))
    assert line == {
        "iothub": "hub",
        "device": "edge",
        "id": "camera",
        "stream": "stdout",
        "loglevel": 3,
        "text": LINES.splitlines()[4],
        "timestamp": "2023-11-14T22:13:10+00:00",
    }


def test_logs_that_are_too_large_are_replaced_by_a_sentence(logs: dict[str, Path]) -> None:
    """The limit is 127,000 bytes."""
    logs["edgeHub"].write_text("x" * 127_000)
    (entry,) = get(logs, {"id": "edgeHub"})
    assert entry["payload"].startswith("The payload is too large for a direct method")


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {"items": []},
        {"schemaVersion": "1.0"},
        {"schemaVersion": "1.0", "items": [{}]},
        {"schemaVersion": "1.0", "items": [{"id": "("}]},
        {"schemaVersion": "1.0", "items": [{"id": "a", "filter": 1}]},
        {"schemaVersion": "1.0", "items": {"id": "a", "filter": {"tail": -1}}},
        {"schemaVersion": "1.0", "items": {"id": "a", "filter": {"since": "yesterday"}}},
        {"schemaVersion": "1.0", "items": {"id": "a", "filter": {"regex": "["}}},
        {"schemaVersion": "1.0", "items": [], "encoding": "zip"},
        {"schemaVersion": "1.0", "items": [{"id": "a"}] * 101},
        {"schemaVersion": "1.0", "items": [{"id": "a" * 257}]},
        {"schemaVersion": "1.0", "items": {"id": "a", "filter": {"regex": "a" * 257}}},
        {"schemaVersion": "1.0", "items": {"id": "a", "filter": {"regex": "a{99999999999}"}}},
        {"schemaVersion": "1.0", "items": {"id": "a", "filter": {"since": "1" * 100_000 + "x"}}},
    ],
)
def test_a_bad_payload_is_refused(payload: object) -> None:
    """The error names the problem."""
    with pytest.raises(PayloadInvalid):
        LogsRequest.parse(payload, NOW)


# the child process


def search(logs: dict[str, Path], payload: object, deadline_s: float = 60.0) -> list[Any]:
    """The result of a search in a child process."""

    async def run() -> list[Any]:
        return await LogSearch(deadline_s).run(payload, NOW, logs, hub="hub", device="edge")

    return asyncio.run(run())


def test_a_search_runs_in_a_process_of_its_own(logs: dict[str, Path]) -> None:
    """With the same result and the same errors."""
    item = {"id": "all", "filter": {"regex": "hub|new"}}
    assert search(logs, {"schemaVersion": "1.0", "items": item}) == get(logs, item)
    with pytest.raises(PayloadInvalid, match="regex is not a regular expression"):
        search(logs, {"schemaVersion": "1.0", "items": {"id": "a", "filter": {"regex": "["}}})


def test_a_slow_expression_freezes_nobody(logs: dict[str, Path]) -> None:
    """The event loop goes on while the search runs, and the deadline kills the search."""
    logs["camera"].write_text("a" * 4000 + "\n")
    payload = {"schemaVersion": "1.0", "items": {"id": "camera", "filter": {"regex": "(a+)+b"}}}
    turns = 0

    async def run() -> None:
        nonlocal turns
        searched = asyncio.create_task(LogSearch(0.7).run(payload, NOW, logs, hub="hub", device="edge"))
        while not searched.done():
            turns += 1
            await asyncio.sleep(0.01)
        with pytest.raises(PayloadInvalid, match=r"longer than 0\.7 s"):
            await searched

    asyncio.run(run())
    assert turns > 5


def test_only_the_beginning_of_a_line_is_searched(logs: dict[str, Path]) -> None:
    """Up to 4096 characters."""
    logs["camera"].write_text("a" * 4095 + "b" + "c\n")
    assert len(get(logs, {"id": "camera", "filter": {"regex": "b"}})[0]["payload"]) == 4098
    assert get(logs, {"id": "camera", "filter": {"regex": "c"}})[0]["payload"] == ""
