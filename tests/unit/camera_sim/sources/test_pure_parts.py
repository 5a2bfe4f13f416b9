"""The pure parts of a video source: options, playback, back-off, messages, sizes."""

import io
import random

import pytest

from camera_sim.sources.address import VIDEO, parse
from camera_sim.sources.back_off import FIRST_S, MAX_S, BackOff
from camera_sim.sources.child_messages import DecodingRequest, packed, read_message
from camera_sim.sources.ffmpeg_options import decoding_request
from camera_sim.sources.playback import Playback
from camera_sim.sources.settings import VideoSettings

EXAMPLES = {
    "file": "file:/a.mp4",
    "v4l2": "v4l2:/dev/video0",
    **{name: f"{name}://gate/x" for name in ("rtsp", "rtsps", "http", "https")},
}


def options(scheme: str, ca_file: str | None = None) -> dict[str, str]:
    """The options for an address of this scheme."""
    return decoding_request(parse(EXAMPLES[scheme]), VideoSettings(), ca_file).options


def test_no_protocol_leads_elsewhere() -> None:
    """Each scheme has its whitelist: a stream never opens a file, and a secure one nothing unencrypted."""
    assert EXAMPLES.keys() == VIDEO
    for scheme in VIDEO:
        allowed = set(options(scheme)["protocol_whitelist"].split(","))
        assert not allowed & {"concat", "crypto", "data", "ftp", "pipe", "subfile", "udp", "unix"}
        assert ("file" in allowed) == (scheme in ("file", "v4l2"))
        assert scheme != "https" or "http" not in allowed
    for scheme in ("http", "https"):
        assert options(scheme)["max_redirects"] == "0"
        assert "hls" not in options(scheme)["format_whitelist"]


def test_rtsp_uses_tcp_and_tls_is_verified() -> None:
    """With the certificates of CAMERA_CA_FILE if it is set."""
    for scheme in ("rtsp", "rtsps"):
        assert options(scheme)["rtsp_transport"] == "tcp"
    for scheme in ("rtsps", "https"):
        assert options(scheme)["tls_verify"] == "1"
        assert options(scheme, "/ca.pem")["ca_file"] == "/ca.pem"
    assert "ca_file" not in options("http", "/ca.pem")


def test_the_request_survives_its_line_and_hides_its_url() -> None:
    """The child gets it over stdin; its repr may reach a log."""
    request = decoding_request(parse("rtsp://u:hunter2@gate/x"), VideoSettings(), None)
    assert DecodingRequest.from_line(request.to_line()) == request
    assert "hunter2" not in repr(request)
    assert request.loop is False
    assert decoding_request(parse("file:/a.mp4"), VideoSettings(), None).loop is True


def test_a_file_plays_at_the_pace_of_its_timestamps() -> None:
    """A picture that is late is shown at once; the next ones catch up."""
    playback = Playback()
    assert playback.delay_s(2.0, now_s=10.0) == 0
    assert playback.delay_s(2.5, now_s=10.25) == pytest.approx(0.25)
    assert playback.delay_s(3.0, now_s=11.4) == 0
    assert playback.delay_s(3.5, now_s=11.4) == pytest.approx(0.1)
    assert playback.delay_s(None, now_s=11.4) == pytest.approx(0.04)


@pytest.mark.parametrize("jump", [-500.0, 1.2, 90_000.0])
def test_timestamps_that_jump_neither_stop_nor_rush_the_pictures(jump: float) -> None:
    """What follows a jump counts from there."""
    playback = Playback()
    playback.delay_s(0.0, now_s=0.0)
    assert playback.delay_s(jump, now_s=0.1) == 0
    assert playback.delay_s(jump + 0.5, now_s=0.1) == pytest.approx(0.5)


def test_the_back_off_grows_to_its_cap_with_jitter_and_begins_again() -> None:
    """Each wait is between a half and the whole of its step."""
    back_off, other = BackOff(random.Random(1)), BackOff(random.Random(2))
    waits = [back_off.wait_s() for _ in range(12)]
    for number, wait_s in enumerate(waits):
        step_s = min(MAX_S, FIRST_S * 2**number)
        assert step_s / 2 <= wait_s <= step_s
    assert waits != [other.wait_s() for _ in range(12)]
    back_off.reset()
    assert back_off.wait_s() <= FIRST_S


def test_a_message_of_the_decoder_survives_the_pipe() -> None:
    """Header and pixels."""
    file = io.BytesIO(packed({"width": 2}, pixels=3) + b"abc" + packed({"alive": 7}))
    assert read_message(file.read) == ({"width": 2}, b"abc")
    assert read_message(file.read) == ({"alive": 7}, b"")


@pytest.mark.parametrize("data", [b"\xff" * 8, packed({}, pixels=1 << 31), b"\0\0\0\2\0\0\0\0[]"])
def test_other_bytes_of_the_decoder_are_refused(data: bytes) -> None:
    """A decoder that a stream has taken over cannot make the camera reserve gigabytes."""
    with pytest.raises(ValueError, match="decoder"):
        read_message(io.BytesIO(data).read)
