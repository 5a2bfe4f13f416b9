"""Asks a running hub's control socket: the other end of fault_control. Standard library only."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

TIMEOUT_S: Final = 10.0


class NoControl(Exception):
    """No hub answers, or it refused; one line."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def show(simulator_folder: Path) -> dict[str, Any]:
    """What is switched on and what was counted: {"faults": {…}, "dropped": {…}, …}. Raises NoControl."""
    return _ask(simulator_folder, "GET", "/")


def set_fault(simulator_folder: Path, name: str, value: float | None = None) -> dict[str, Any]:
    """Set a fault (0: off, None: its usual value) or do one that happens once. Raises NoControl."""
    return _ask(simulator_folder, "PUT", f"/faults/{quote(name, safe='')}", {"value": value})


def end_faults(simulator_folder: Path) -> dict[str, Any]:
    """Switch all off. Raises NoControl."""
    return _ask(simulator_folder, "DELETE", "/faults")


def _ask(simulator_folder: Path, method: str, path: str, body: object = None) -> dict[str, Any]:
    with contextlib.closing(_UnixConnection(_control(simulator_folder))) as connection:
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            raise _nobody(simulator_folder) from None
    try:
        told = json.loads(content)
    except ValueError:
        told = {"message": f"status {answer.status}"}
    if answer.status >= 400:
        raise NoControl(told["message"])
    return dict(told)


def _control(simulator_folder: Path) -> Path:
    try:
        return Path(json.loads((simulator_folder / "endpoints.json").read_text(encoding="utf-8"))["control"])
    except (OSError, ValueError, KeyError, TypeError):
        raise _nobody(simulator_folder) from None


def _nobody(simulator_folder: Path) -> NoControl:
    return NoControl(f"no simulator answers for {simulator_folder}; start one: twinship simulate")
