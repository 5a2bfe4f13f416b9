"""Makes a frame of an encoded picture."""

from camera_sim.sources.picture import Encoded, Picture
from edgekit import clock
from edgekit.frame.message import Frame, FrameId


def make_frame(identity: FrameId, picture: Picture, encoded: Encoded, now: tuple[int, int]) -> Frame:
    """The frame of a picture that was just encoded. `now`: when the camera took it, wall and monotonic ns."""
    captured, mono = picture.captured or now
    return Frame(
        id=identity,
        image=encoded.body,
        content_type=encoded.content_type,
        width=encoded.width,
        height=encoded.height,
        channels=encoded.channels,
        captured=captured,
        mono=mono,
        encoded=clock.mono_ns(),
        boot=clock.boot_id(),
        truth=_truth(picture),
        taken=None if picture.captured is None else now[1],
    )


def _truth(picture: Picture) -> str | None:
    # The name of a folder may hold bytes that are not valid text, which a message cannot carry.
    return None if picture.truth is None else picture.truth.encode(errors="replace").decode()
