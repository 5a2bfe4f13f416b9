"""Small pictures for a page that somebody looks at: output `preview`.

The twin's `camera.preview.maxFps` is the rate while nobody asks, 0 by default. Method `preview` raises it for
the time of a lease, so a page that vanishes costs nothing after it. `camera.preview.allow: false` ends all.

>>> previews = Previews()
>>> previews.due(PreviewSettings(), now_ns=0)
False
>>> previews.lease(PreviewRequest(fps=5, leaseSeconds=15), now_ns=0)
>>> previews.due(PreviewSettings(), now_ns=0), previews.due(PreviewSettings(), now_ns=15_000_000_000)
(True, False)
"""

import io
from typing import Annotated, Final

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from edgekit.frame.message import Frame, Message

OUTPUT: Final = "preview"
MAX_FPS: Final = 5.0
MAX_SIDE: Final = 320  # pixels of the longest side
_QUALITY = 75
_CONFIG = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=True)
_Fps = Annotated[float, Field(ge=0, le=MAX_FPS, allow_inf_nan=False)]


class PreviewSettings(BaseModel):
    """`camera.preview` in the twin."""

    model_config = _CONFIG

    max_fps: _Fps = Field(default=0, alias="maxFps")  # without a lease
    allow: bool = True  # if false, no lease is given and none is in force


class PreviewRequest(BaseModel):
    """The payload of method `preview`; `fps` 0 ends the lease."""

    model_config = _CONFIG

    fps: _Fps = MAX_FPS
    lease_s: float = Field(default=15, ge=1, le=60, allow_inf_nan=False, alias="leaseSeconds")


class Previews:
    """Decides which frames get a preview. Pure: the caller passes the time, CLOCK_MONOTONIC ns."""

    def __init__(self) -> None:
        self._leased = (0.0, 0)  # frames a second, until when
        self._due_ns = 0

    def lease(self, request: PreviewRequest, now_ns: int) -> None:
        """Send so many previews a second until the lease ends; a newer lease replaces it."""
        self._leased = request.fps, now_ns + int(request.lease_s * 1e9)

    def due(self, settings: PreviewSettings, now_ns: int) -> bool:
        """Whether the frame of now gets a preview. If so, the next one is due an interval later."""
        fps = self._fps(settings, now_ns)
        if not fps or now_ns < self._due_ns:
            return False
        interval_ns = int(1e9 / fps)
        late = now_ns - self._due_ns >= interval_ns  # then it does not catch up
        self._due_ns = interval_ns + (now_ns if late else self._due_ns)
        return True

    def _fps(self, settings: PreviewSettings, now_ns: int) -> float:
        if not settings.allow:
            return 0.0
        fps, until_ns = self._leased
        return max(settings.max_fps, fps if now_ns < until_ns else 0.0)


def preview_message(frame: Frame, image: Image.Image) -> Message:
    """The picture of this frame as a JPEG of at most MAX_SIDE pixels, under the frame's identity."""
    small = image.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    properties = {"camera": frame.id.camera, "run": frame.id.run, "seq": str(frame.id.seq)}
    properties |= frame.truth_property()
    message_id = f"preview-{frame.id}"
    return Message(buffer.getvalue(), properties, message_id=message_id, content_type="image/jpeg")
