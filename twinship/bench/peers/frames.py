"""Frame messages for programs of the bench that have no camera."""

from __future__ import annotations

from edgekit.clock import boot_id, mono_ns, wall_ns
from edgekit.frame.message import Frame, FrameId, Message


def frame_message(frame: FrameId, image: bytes, content_type: str, side: int) -> Message:
    """A grey frame of side × side pixels that was captured and encoded now."""
    now = mono_ns()
    return Frame(
        frame, image, content_type, side, side, 1, wall_ns(), mono=now, encoded=now, boot=boot_id()
    ).to_message()
