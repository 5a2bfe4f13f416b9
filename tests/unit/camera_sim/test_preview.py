"""camera_sim.preview: which frames get a small picture, and what it is."""

import io

import pytest
from PIL import Image
from pydantic import ValidationError

from camera_sim.preview import MAX_SIDE, PreviewRequest, Previews, PreviewSettings, preview_message
from edgekit.frame.message import RAW, Frame, FrameId

SECOND = 1_000_000_000
OFF, FORBIDDEN = PreviewSettings(), PreviewSettings(allow=False, maxFps=5)


def times(previews: Previews, settings: PreviewSettings, until_s: int = 20, fps: int = 10) -> list[float]:
    """The seconds of the frames that get a preview, at ten frames a second."""
    frames = [number / fps for number in range(until_s * fps)]
    return [at_s for at_s in frames if previews.due(settings, int(at_s * SECOND))]


def test_nobody_asks_and_nothing_is_sent() -> None:
    """The default: zero pictures, so zero cost."""
    assert times(Previews(), OFF) == []


def test_a_lease_ends_by_itself() -> None:
    """Five a second for fifteen seconds, then none."""
    previews = Previews()
    previews.lease(PreviewRequest(), 0)
    found = times(previews, OFF)
    assert len(found) == 75
    assert max(found) < 15


def test_a_renewed_lease_goes_on_and_one_of_zero_ends_it() -> None:
    """The newest lease counts."""
    previews = Previews()
    previews.lease(PreviewRequest(), 0)
    previews.lease(PreviewRequest(), 10 * SECOND)
    assert previews.due(OFF, 24 * SECOND)
    previews.lease(PreviewRequest(fps=0), 24 * SECOND)
    assert not previews.due(OFF, 24 * SECOND + SECOND // 2)


def test_the_twin_may_ask_for_previews_without_a_page() -> None:
    """`maxFps` is the rate without a lease; a lease may only raise it."""
    previews = Previews()
    assert len(times(previews, PreviewSettings(maxFps=2))) == 40
    previews.lease(PreviewRequest(fps=1), 20 * SECOND)
    assert [previews.due(PreviewSettings(maxFps=2), 20 * SECOND + half * SECOND // 2) for half in (1, 2)] == [
        True,
        True,
    ]


def test_the_twin_forbids_previews_at_once() -> None:
    """`allow: false` ends a lease and `maxFps`."""
    previews = Previews()
    previews.lease(PreviewRequest(), 0)
    assert times(previews, FORBIDDEN) == []
    assert previews.due(OFF, SECOND)  # counter-proof: the lease is there


def test_after_a_pause_there_is_no_burst() -> None:
    """The next one is due an interval later."""
    previews, settings = Previews(), PreviewSettings(maxFps=5)
    assert previews.due(settings, 100 * SECOND)
    assert not previews.due(settings, 100 * SECOND + SECOND // 10)
    assert previews.due(settings, 100 * SECOND + SECOND // 5)


@pytest.mark.parametrize(
    "payload", [{"fps": 6}, {"fps": -1}, {"fps": "5"}, {"leaseSeconds": 61}, {"leaseSeconds": 0}, {"rate": 1}]
)
def test_a_bad_request_is_refused(payload: dict[str, object]) -> None:
    """Rates of 0 to 5, leases of 1 to 60 s, nothing else."""
    with pytest.raises(ValidationError):
        PreviewRequest.model_validate(payload)


def frame(truth: str | None = None) -> Frame:
    """A frame; its own picture does not matter."""
    return Frame(FrameId("door", "0123456789abcdef", 7), b"x" * 3, RAW, 1, 1, 3, 1, 2, 3, "boot", truth)


@pytest.mark.parametrize(
    ("size", "shown"), [((1920, 1080), (320, 180)), ((28, 28), (28, 28)), ((10, 4000), (1, 320))]
)
def test_a_preview_is_a_small_jpeg_under_the_identity_of_its_frame(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    """At most 320 pixels on the longest side; a small picture is not enlarged."""
    message = preview_message(frame("7"), Image.new("RGB", size))
    assert message.properties == {"camera": "door", "run": "0123456789abcdef", "seq": "7", "truth": "7"}
    assert message.content_type == "image/jpeg"
    with Image.open(io.BytesIO(message.body)) as image:
        assert (image.format, image.size) == ("JPEG", shown)
    assert max(shown) <= MAX_SIDE


def test_a_frame_without_truth_has_a_preview_without() -> None:
    """Real cameras know none."""
    assert "truth" not in preview_message(frame(), Image.new("L", (8, 8))).properties
