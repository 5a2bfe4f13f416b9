"""Pictures to bodies of frames."""

import io
from pathlib import Path

import pytest
from PIL import Image

from camera_sim.encoding import CannotEncode, encode, within
from camera_sim.settings import Encoding
from camera_sim.sources import Picture, read_picture
from edgekit.frame.message import MAX_BODY_BYTES, RAW


def picture(form: str, folder: Path, mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> Picture:
    """A picture from a file of this format."""
    path = folder / f"a.{form.lower()}"
    Image.effect_noise(size, 90).convert(mode).save(path, form)
    return read_picture(path, path.name, None)


@pytest.mark.parametrize(
    ("form", "encoding", "content_type", "kept"),
    [
        ("PNG", "png", "image/png", True),
        ("JPEG", "png", "image/png", False),
        ("BMP", "png", "image/png", False),
        ("PNG", "jpeg", "image/jpeg", False),
        ("JPEG", "jpeg", "image/jpeg", True),
        ("PNG", "raw", RAW, False),
        ("PNG", "as_is", "image/png", True),
        ("JPEG", "as_is", "image/jpeg", True),
        ("BMP", "as_is", "image/png", False),
    ],
)
def test_the_encoding_that_was_asked_for(
    tmp_path: Path, form: str, encoding: Encoding, content_type: str, kept: bool
) -> None:
    """A file that already is what was asked for goes out as its own bytes."""
    source = picture(form, tmp_path)
    encoded = encode(source, encoding)
    assert (encoded.content_type, encoded.width, encoded.height, encoded.channels) == (content_type, 8, 6, 3)
    assert (encoded.body == source.original) is kept


def test_png_and_raw_carry_the_very_pixels(tmp_path: Path) -> None:
    """What inference decodes is what was in the file."""
    source = picture("PNG", tmp_path, "L")
    raw = encode(source, "raw")
    assert raw.body == source.image.tobytes()
    assert len(raw.body) == raw.width * raw.height * raw.channels
    with Image.open(io.BytesIO(encode(picture("BMP", tmp_path, "L"), "png").body)) as decoded:
        assert decoded.size == (8, 6)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_too_large_a_picture_becomes_smaller_until_it_fits(tmp_path: Path, encoding: Encoding) -> None:
    """First a JPEG, then half the size, and half again; the frame says the size that it has."""
    encoded = encode(picture("PNG", tmp_path, size=(3000, 2000)), encoding)
    assert encoded.content_type == "image/jpeg"
    assert len(encoded.body) <= MAX_BODY_BYTES
    with Image.open(io.BytesIO(encoded.body)) as decoded:
        assert decoded.size == (encoded.width, encoded.height)
    assert encoded.width < 3000


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_a_side_that_no_encoder_takes_becomes_shorter(tmp_path: Path, encoding: Encoding) -> None:
    """JPEG ends at 65,500 pixels, where Pillow raises."""
    encoded = encode(picture("PNG", tmp_path, "L", (70_000, 4)), encoding)
    assert (encoded.content_type, encoded.width, encoded.height) == ("image/jpeg", 8_750, 1)


@pytest.mark.parametrize("encoding", ["raw", "as_is"])
def test_these_very_pixels_are_refused_when_they_do_not_fit(tmp_path: Path, encoding: Encoding) -> None:
    """Who asks for raw or as_is does not want another picture; the reason names the cure."""
    with pytest.raises(CannotEncode, match=r"at most 258048; cure: encoding png or jpeg"):
        encode(picture("PNG", tmp_path, size=(1000, 800)), encoding)


@pytest.mark.parametrize("encoding", ["png", "jpeg", "raw"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_frames_picture_in_fewer_bytes(tmp_path: Path, encoding: Encoding, mode: str) -> None:
    """What fits stays as it is; what does not becomes a JPEG of the same channels that does."""
    encoded = encode(picture("BMP", tmp_path, mode, (120, 100)), encoding)
    assert within(encoded, len(encoded.body)) is encoded
    smaller = within(encoded, 1500)
    assert len(smaller.body) <= 1500
    assert (smaller.content_type, smaller.channels) == ("image/jpeg", encoded.channels)
    assert smaller.width / smaller.height == 1.2
