"""Client of a running hub's control socket (see control.py). Uses the standard library only."""

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
    """No hub answers, or the hub refused the request."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def show_faults(simulator_folder: Path) -> dict[str, Any]:
    """The active faults and the hub's counters: {"faults": {…}, "dropped": {…}, …}. Raises NoControl."""
    return _request(simulator_folder, "GET", "/")


def set_fault(simulator_folder: Path, name: str, value: float | None = None) -> dict[str, Any]:
    """Set a fault (0: off, None: its usual value), or trigger one that happens once. Raises NoControl."""
    return _request(simulator_folder, "PUT", f"/faults/{quote(name, safe='')}", {"value": value})


def end_faults(simulator_folder: Path) -> dict[str, Any]:
    """Switch all faults off. Raises NoControl."""
    return _request(simulator_folder, "DELETE", "/faults")


def _request(simulator_folder: Path, method: str, path: str, body: object = None) -> dict[str, Any]:
    with contextlib.closing(_UnixConnection(_control_socket(simulator_folder))) as connection:
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            content = response.read()
        except OSError:
            raise _no_hub(simulator_folder) from None
    try:
        result = json.loads(content)
    except ValueError:
        result = {"message": f"status {response.status}"}
    if response.status >= 400:
        raise NoControl(result["message"])
    return dict(result)


def _control_socket(simulator_folder: Path) -> Path:
    try:
        return Path(json.loads((simulator_folder / "endpoints.json").read_text(encoding="utf-8"))["control"])
    except (OSError, ValueError, KeyError, TypeError):
        raise _no_hub(simulator_folder) from None


def _no_hub(simulator_folder: Path) -> NoControl:
    return NoControl(f"no simulator answers for {simulator_folder}; start one: twinship simulate")
