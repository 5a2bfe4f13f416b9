"""Encoding pictures as bodies of frames."""

import io
from pathlib import Path

import pytest
from PIL import Image

from camera_sim.encoding import CannotEncode, encode, within
from camera_sim.settings import Encoding
from camera_sim.sources.folder import read_picture
from camera_sim.sources.picture import Picture
from edgekit.frame.message import MAX_BODY_BYTES, RAW


def picture(form: str, folder: Path, mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> Picture:
    """A picture from a file of this format."""
    path = folder / f"a.{form.lower()}"
    Image.effect_noise(size, 90).convert(mode).save(path, form)
    return read_picture(path, path.name)


@pytest.mark.parametrize(
    ("form", "encoding", "content_type", "unchanged"),
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
def test_the_requested_encoding(
    tmp_path: Path, form: str, encoding: Encoding, content_type: str, unchanged: bool
) -> None:
    """A file that has the requested encoding is sent unchanged."""
    source = picture(form, tmp_path)
    encoded = encode(source, encoding)
    assert (encoded.content_type, encoded.width, encoded.height, encoded.channels) == (content_type, 8, 6, 3)
    assert (encoded.body == source.original) is unchanged


def test_png_and_raw_do_not_change_pixels(tmp_path: Path) -> None:
    """Inference decodes the pixels of the file."""
    source = picture("PNG", tmp_path, "L")
    raw = encode(source, "raw")
    assert raw.body == source.image.tobytes()
    assert len(raw.body) == raw.width * raw.height * raw.channels
    with Image.open(io.BytesIO(encode(picture("BMP", tmp_path, "L"), "png").body)) as decoded:
        assert decoded.size == (8, 6)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_a_picture_that_is_too_large_is_halved_until_it_fits(tmp_path: Path, encoding: Encoding) -> None:
    """It becomes a JPEG, then half the size, and half again; the frame names the new size."""
    encoded = encode(picture("PNG", tmp_path, size=(3000, 2000)), encoding)
    assert encoded.content_type == "image/jpeg"
    assert len(encoded.body) <= MAX_BODY_BYTES
    with Image.open(io.BytesIO(encoded.body)) as decoded:
        assert decoded.size == (encoded.width, encoded.height)
    assert encoded.width < 3000


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_a_side_that_is_too_long_is_halved(tmp_path: Path, encoding: Encoding) -> None:
    """Pillow raises for a JPEG with a side of more than 65,500 pixels."""
    encoded = encode(picture("PNG", tmp_path, "L", (70_000, 4)), encoding)
    assert (encoded.content_type, encoded.width, encoded.height) == ("image/jpeg", 8_750, 1)


@pytest.mark.parametrize("encoding", ["raw", "as_is"])
def test_raw_and_as_is_raise_if_the_picture_does_not_fit(tmp_path: Path, encoding: Encoding) -> None:
    """These encodings must not change the picture; the error names the cure."""
    with pytest.raises(CannotEncode, match=r"at most 258048; cure: encoding png or jpeg"):
        encode(picture("PNG", tmp_path, size=(1000, 800)), encoding)


@pytest.mark.parametrize("encoding", ["png", "jpeg", "raw"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_within_shrinks_a_picture_to_a_number_of_bytes(tmp_path: Path, encoding: Encoding, mode: str) -> None:
    """A picture that fits stays unchanged; another becomes a smaller JPEG with the same channels."""
    encoded = encode(picture("BMP", tmp_path, mode, (120, 100)), encoding)
    assert within(encoded, len(encoded.body)) is encoded
    smaller = within(encoded, 1500)
    assert len(smaller.body) <= 1500
    assert (smaller.content_type, smaller.channels) == ("image/jpeg", encoded.channels)
    assert smaller.width / smaller.height == 1.2


def test_a_picture_of_a_video_becomes_a_jpeg_unless_it_is_raw() -> None:
    """PNG would not bring back what the video has lost."""
    picture = Picture("v", Image.new("RGB", (8, 6)), lossy=True)
    assert {encode(picture, encoding).content_type for encoding in ("png", "jpeg", "as_is")} == {"image/jpeg"}
    assert encode(picture, "raw").body == bytes(8 * 6 * 3)


def test_a_damaged_picture_ends_in_the_middle() -> None:
    """In every encoding."""
    whole, damaged = (Picture("v", Image.new("L", (8, 6)), damaged=each) for each in (False, True))
    for encoding in ("png", "jpeg", "raw", "as_is"):
        body = encode(whole, encoding).body
        assert encode(damaged, encoding).body == body[: len(body) // 2]
