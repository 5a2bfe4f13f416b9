"""GStreamer's RTSP server as a process of its own, which a test kills, stops and starts again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from functools import cache
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"
MISSING = "no RTSP server: apt install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly python3-gi"
_NEEDED = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0');"
    "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
    "assert all(Gst.ElementFactory.find(name) for name in ('x264enc', 'rtph264pay', 'videotestsrc'))"
)


@cache
def is_installed() -> bool:
    """Whether Debian's GStreamer RTSP server is installed."""
    command = [SYSTEM_PYTHON, "-c", _NEEDED]
    return (
        Path(SYSTEM_PYTHON).exists()
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


class RtspServer:
    """Streams pictures of this size to everybody, or with a login (user, password) to those who have it."""

    def __init__(self, *login: str, size: tuple[int, int] = (320, 240)) -> None:
        self._login = login
        self._size = size
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of the stream."""
        return f"rtsp://127.0.0.1:{self.port}/live"

    def start(self, coder: str = "h264") -> None:
        """Start it; returns when it listens."""
        script = Path(__file__).with_name("rtsp_server.py")
        numbers = [str(self.port), *(str(side) for side in self._size)]
        command = [SYSTEM_PYTHON, str(script), *numbers, coder, *self._login]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
