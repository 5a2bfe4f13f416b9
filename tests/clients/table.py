"""The table of clients: which program of others the tests hold against the hub, by transport and use.

A test fills cells with two markers: `client(name, transport)` names the row, `uses(use, ...)` the columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

Row = tuple[str, str]  # client, transport
USES: Final = ("connect", "telemetry", "twin", "method", "C2D", "reconnect", "renewal")
_NOT_RUN: Final = "not run"
#: The result of a cell is the worst of its tests.
_WORST_FIRST: Final = ("failed", "skipped", "passed")

_MODULE: Final = {
    "C2D": "IoT Hub sends to devices only; the test of telemetry reads an input",
    "renewal": "the SDK makes its tokens for an hour",
}
_SERVICE: Final = {"telemetry": "a service sends none", "renewal": "its token is valid for an hour"}
_HTTPS: Final = _SERVICE | {
    "C2D": "over AMQP",
    "reconnect": "a request has a connection of its own",
    "renewal": "a request has a token of its own",
}
_AMQP: Final = _SERVICE | dict.fromkeys(("twin", "method"), "over HTTPS")
_READER: Final = {
    **dict.fromkeys(("twin", "method", "C2D"), "it reads events only"),
    "renewal": "its token is valid for an hour",
}
_ONE_CALL: Final = {"reconnect": "the tests start a process for each call"}

#: Row → the uses that it does not have, each with the reason.
ROWS: Final[Mapping[Row, Mapping[str, str]]] = {
    ("azure-iot-device (Python)", "MQTT"): {},
    ("azure-iot-device (Python)", "MQTT/WS"): {},
    ("azure-iot-device.aio (Python)", "MQTT"): {},
    ("azure-iot-device.aio (Python)", "MQTT/WS"): {},
    ("azure-iot-device (Node)", "MQTT"): {},
    ("azure-iot-device (Node)", "MQTT/WS"): {},
    ("azure-iot-device (Node), module", "MQTT"): _MODULE,
    ("azure-iot-device (Node), module", "MQTT/WS"): _MODULE,
    ("azure-iothub (Node)", "HTTPS"): _HTTPS,
    ("azure-iothub (Node)", "AMQP"): _AMQP,
    ("azure-iothub (Node)", "AMQP/WS"): _AMQP,
    ("azure-iot-hub (Python)", "HTTPS"): _HTTPS,
    ("azure-iot-hub (Python)", "AMQP"): _AMQP | _ONE_CALL,
    ("azure-iot-hub (Python)", "AMQP/WS"): _AMQP | _ONE_CALL,
    ("azure-eventhub", "AMQP"): _READER,
    ("azure-eventhub", "AMQP/WS"): dict.fromkeys(
        USES, "it needs websocket-client, which nothing else here needs"
    ),
    ("azure-eventhub.aio", "AMQP"): _READER | {"reconnect": "tested with the synchronous client"},
    ("azure-eventhub.aio", "AMQP/WS"): _READER | {"reconnect": "tested with the synchronous client"},
    ("twinship monitor", "AMQP"): _READER,
}


@dataclass
class Cell:
    """The outcome of the tests of one cell. `reason`: why it has no test, or was skipped."""

    result: str = _NOT_RUN
    tests: list[str] = field(default_factory=list)
    reason: str = ""

    def add(self, result: str, test: str, reason: str) -> None:
        """Take the outcome of a test: passed, failed or skipped."""
        if test not in self.tests:
            self.tests.append(test)
        if self.result == _NOT_RUN or _WORST_FIRST.index(result) < _WORST_FIRST.index(self.result):
            self.result, self.reason = result, reason


Table = dict[Row, dict[str, Cell]]


def empty() -> Table:
    """The table before any test: a cell without a use has the result "–"."""
    return {
        row: {use: Cell("–", reason=reasons[use]) if use in reasons else Cell() for use in USES}
        for row, reasons in ROWS.items()
    }


def cells(item: pytest.Item) -> Iterator[tuple[str, str, str]]:
    """Client, transport and use of each cell that the test fills. Raises UsageError for an unknown one."""
    uses = item.get_closest_marker("uses")
    for marker in item.iter_markers("client"):
        name, transport = marker.args
        for use in () if uses is None else uses.args:
            if use not in USES or (name, transport) not in ROWS:
                raise pytest.UsageError(f"{item.nodeid}: no cell {name}, {transport}, {use} in the table")
            if use not in ROWS[name, transport]:
                yield name, transport, use


def filled(reports: Iterable[Any]) -> Table:
    """The table after the tests with these reports of pytest; other objects are ignored."""
    table = empty()
    for report in reports:
        if getattr(report, "when", "") != "call" and getattr(report, "outcome", "passed") == "passed":
            continue  # the set-up and the end of a test count only if they fail or skip
        for key, cell in getattr(report, "user_properties", ()):
            if key == "client":
                name, transport, use = cell
                table[name, transport][use].add(report.outcome, report.nodeid, _reason(report))
    return table


def write(path: Path, table: Table) -> list[str]:
    """Write the table as JSON, and return it as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_json(table), indent=1) + "\n")
    return [*markdown(table), f"written to {path}"]


def missing(table: Table) -> list[str]:
    """The cells that no test filled in this run."""
    return [
        ", ".join((*row, use))
        for row, uses in table.items()
        for use, cell in uses.items()
        if cell.result == _NOT_RUN
    ]


def to_json(table: Table) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    """Client → transport → use → result, tests and reason."""
    found: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for (name, transport), uses in table.items():
        shown = {
            use: {key: value for key, value in vars(cell).items() if value} for use, cell in uses.items()
        }
        found.setdefault(name, {})[transport] = shown
    return found


def markdown(table: Table) -> list[str]:
    """The lines of the table, then one line for each reason of a cell that did not pass."""
    reasons: list[str] = []
    lines = [f"| client | transport | {' | '.join(USES)} |", "|" + "---|" * (len(USES) + 2)]
    for (name, transport), uses in table.items():
        shown = [_shown(cell, reasons) for cell in uses.values()]
        lines.append(f"| {name} | {transport} | {' | '.join(shown)} |")
    return [*lines, "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))]


def _reason(report: Any) -> str:
    """Why a test was skipped, from pytest's tuple (path, line, "Skipped: reason")."""
    return str(report.longrepr[2]).removeprefix("Skipped: ") if report.skipped else ""


def _shown(cell: Cell, reasons: list[str]) -> str:
    text = "yes" if cell.result == "passed" else cell.result
    if not cell.reason:
        return text
    if cell.reason not in reasons:
        reasons.append(cell.reason)
    return f"{text} ({reasons.index(cell.reason) + 1})"
