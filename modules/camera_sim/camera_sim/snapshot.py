"""The answer of direct method `snapshot`."""

import base64
from typing import Any

from camera_sim.encoding import within
from camera_sim.sources.picture import Encoded
from edgekit.frame.message import FrameId

_MAX_BYTES = 96 * 1024 - 1024  # 128 KiB is a method's limit (ref 3): base64 and other fields


def snapshot_payload(frame: FrameId, encoded: Encoded) -> dict[str, Any]:
    """The picture of this frame as it was sent, or smaller if it is too large for an answer."""
    shown = within(encoded, _MAX_BYTES)
    return {
        "camera": frame.camera,
        "run": frame.run,
        "seq": frame.seq,
        "contentType": shown.content_type,
        "width": shown.width,
        "height": shown.height,
        "channels": shown.channels,
        "scaled": shown is not encoded,
        "body": base64.b64encode(shown.body).decode(),
    }
