"""What was certainly handed over: a line for each frame that the hub has stored; decides nothing."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.frame import FrameId

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """One frame on its way, without its picture."""

    id: FrameId
    truth: str | None
    captured: int  # ns since the epoch
    size: int  # bytes of the body


def line(sent: Sent, stored: int) -> str:
    """The frame as a line of JSON, without its end; `stored` is the PUBACK in ns since the epoch."""
    return json.dumps(
        {
            "camera": sent.id.camera,
            "run": sent.id.run,
            "seq": sent.id.seq,
            "truth": sent.truth,
            "captured": sent.captured,
            "stored": stored,
            "bytes": sent.size,
        },
        separators=(",", ":"),
    )


class Ledger:
    """The file `sent.jsonl`, appended to across restarts; opened for each message: nothing to close."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def append(self, sent: Sequence[Sent], stored: int) -> None:
        """Write a line for each frame of a message. A disk that fails is said once; frames go on without."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(line(each, stored) + "\n" for each in sent))
            self._failing = False
        except OSError as error:
            if not self._failing:
                logger.error("ledger %s: frames are not recorded: %s", self._path, error)
            self._failing = True
