"""From picture to model input: decoding, refusals, and the input of the model."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgekit.frame.message import RAW, BadFrame
from inference.artefact import InputSpec
from inference.frames.preprocess import decode, decode_file, file_size, prepare, region


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def noise(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG file that declares this size and holds no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + checked + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"


@pytest.mark.parametrize("channels", [1, 3])
def test_raw_pixels_are_unchanged(channels: int) -> None:
    """A raw body holds height x width x channels bytes, row by row."""
    pixels = noise(5, 7, channels)
    assert np.array_equal(decode(pixels.tobytes(), RAW, 7, 5, channels), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_lossless(channels: int) -> None:
    """A PNG frame gives the pixels of the camera."""
    pixels = noise(5, 7, channels)
    picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    assert np.array_equal(decode(encoded(picture), "image/png", 7, 5, channels), pixels)


def test_jpeg_is_decoded() -> None:
    """A JPEG frame has the declared shape."""
    picture = Image.new("RGB", (16, 8), (200, 10, 10))
    pixels = decode(encoded(picture, "JPEG"), "image/jpeg", 16, 8, 3)
    assert pixels.shape == (8, 16, 3)
    assert abs(int(pixels[4, 8, 0]) - 200) < 5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_png_becomes_the_declared_channels(mode: str, channels: int) -> None:
    """Palette, transparency, 1 or 16 bits: the result has the declared channels, and white stays white."""
    picture = Image.new("L", (4, 4), 255)
    if mode == "I;16":
        picture = Image.fromarray(np.full((4, 4), 65_535, np.uint16))
    elif mode != "PA":
        picture = picture.convert(mode)
    else:
        picture = picture.convert("P")
        picture.info["transparency"] = bytes([255] * 256)
    pixels = decode(encoded(picture), "image/png", 4, 4, channels)
    assert pixels.shape == (4, 4, channels)
    assert (pixels == 255).all()


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    """Half of 65,535 becomes half of 255."""
    picture = Image.fromarray(np.full((2, 2), 0x8000, np.uint16))
    assert (decode(encoded(picture), "image/png", 2, 2, 1) == 0x80).all()


@pytest.mark.parametrize(
    ("body", "content_type", "width", "height", "channels", "reason"),
    [
        (b"\0" * 8, RAW, 2, 2, 2, "channels"),
        (b"\0" * 5, RAW, 2, 2, 1, "size"),
        (b"", RAW, 0, 2, 1, "size"),
        (b"\0" * 4, "image/gif", 2, 2, 1, "content_type"),
        (b"", "image/png", 2, 2, 1, "image"),
        (b"nothing of the kind", "image/png", 2, 2, 1, "image"),
        (encoded(Image.new("L", (2, 2))), "image/jpeg", 2, 2, 1, "image"),
        (encoded(Image.new("L", (3, 2))), "image/png", 2, 2, 1, "size"),
        (png_header(2, 2), "image/png", 2, 2, 1, "image"),
    ],
)
def test_an_invalid_picture_is_refused_with_its_reason(
    body: bytes, content_type: str, width: int, height: int, channels: int, reason: str
) -> None:
    """Every fault raises BadFrame; its reason is usable as the label of a metric."""
    with pytest.raises(BadFrame) as refused:
        decode(body, content_type, width, height, channels)
    assert refused.value.reason == reason


@pytest.mark.parametrize("side", [5_000, 10_000, 16_000, 50_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    """The size in the PNG header decides, whether the frame declares the same or not."""
    for width in (side, 28):
        with pytest.raises(BadFrame) as refused:
            decode(png_header(side, side), "image/png", width, width, 1)
        assert refused.value.reason == "size"


def test_a_decompression_bomb_in_a_file_is_refused_too() -> None:
    """For a file, only the PNG header declares a size."""
    with pytest.raises(BadFrame, match="size: 5000x5000"):
        decode_file(png_header(5_000, 5_000))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_picture_raises_nothing_but_bad_frame(kind: str) -> None:
    """Every prefix of a picture gives pixels or BadFrame."""
    body = encoded(Image.fromarray(noise(8, 8, 3)), kind)
    refused = 0
    for length in range(len(body)):
        try:
            decode(body[:length], f"image/{kind.lower()}", 8, 8, 3)
        except BadFrame:
            refused += 1
    assert refused > len(body) // 2


@given(body=st.binary(max_size=200), content_type=st.sampled_from([RAW, "image/png", "image/jpeg"]))
def test_random_bytes_raise_nothing_but_bad_frame(body: bytes, content_type: str) -> None:
    """No input can stop the module."""
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        try:
            assert decode(start + body, content_type, 2, 2, 1).shape == (2, 2, 1)
        except BadFrame:
            continue


def test_the_first_bytes_of_a_file_decide_its_format() -> None:
    """PNG and JPEG are recognised whatever the file name is; other formats are refused."""
    grey = Image.new("L", (6, 4), 9)
    assert decode_file(encoded(Image.fromarray(np.full((4, 6), 9, np.uint16)))).shape == (4, 6, 1)
    assert decode_file(encoded(grey)).shape == (4, 6, 1)
    assert decode_file(encoded(grey.convert("RGB"), "JPEG")).shape == (4, 6, 3)
    with pytest.raises(BadFrame, match="neither PNG nor JPEG"):
        decode_file(encoded(grey, "GIF"))


def test_pixels_that_fit_the_model_are_not_copied() -> None:
    """A frame with the size and channels of the model needs no work."""
    pixels = noise(28, 28, 1)
    assert prepare(pixels, InputSpec(height=28, width=28, channels=1)) is pixels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("wanted", [1, 3])
def test_size_and_channels_are_converted_to_those_of_the_model(channels: int, wanted: int) -> None:
    """Any picture fits any model; a uniform picture stays uniform."""
    pixels = np.full((30, 50, channels), 77, np.uint8)
    spec = InputSpec.model_validate({"height": 8, "width": 12, "channels": wanted})
    prepared = prepare(pixels, spec)
    assert prepared.shape == (8, 12, wanted)
    assert (prepared == 77).all()


def test_shrinking_skips_no_pixel() -> None:
    """A fine checkerboard becomes grey, neither black nor white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None]
    prepared = prepare(board, InputSpec(height=8, width=8, channels=1))
    assert abs(prepared.astype(int) - 127).max() < 20


def test_the_manifest_decides_about_inversion() -> None:
    """A model trained on white ink on black paper can read dark ink on white paper."""
    pixels = noise(4, 4, 1)
    spec = InputSpec(height=4, width=4, channels=1, invert=True)
    assert np.array_equal(prepare(pixels, spec), 255 - pixels)


@pytest.mark.parametrize(
    ("resize", "size", "seen"),
    [
        ("stretch", (200, 100), (0, 0, 1, 1)),
        ("crop", (200, 100), (0.25, 0, 0.5, 1)),
        ("crop", (100, 200), (0, 0.25, 1, 0.5)),
        ("letterbox", (200, 100), (0, -0.5, 1, 2)),
        ("letterbox", (100, 200), (-0.5, 0, 2, 1)),
        ("letterbox", (100, 100), (0, 0, 1, 1)),
    ],
)
def test_the_region_is_what_the_model_sees(
    resize: str, size: tuple[int, int], seen: tuple[float, ...]
) -> None:
    """A white spot of the picture lies in the prepared one where the region says."""
    spec = InputSpec.model_validate({"height": 40, "width": 40, "channels": 1, "resize": resize})
    assert region(spec, *size) == pytest.approx(seen)
    width, height = size
    pixels = np.zeros((height, width, 1), np.uint8)
    pixels[height // 2 - 5 : height // 2 + 5, width // 2 - 15 : width // 2 + 5] = 255
    prepared = prepare(pixels, spec)
    rows, columns = np.nonzero(prepared[:, :, 0] > 180)
    left, top, wide, high = seen
    middle = (left + wide * (columns.mean() + 0.5) / 40, top + high * (rows.mean() + 0.5) / 40)
    assert middle == pytest.approx(((width / 2 - 5) / width, 0.5), abs=0.03)


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(1, 1), (1, 4096), (4096, 1), (3, 1000)])
def test_a_picture_of_an_extreme_shape_is_prepared(resize: str, size: tuple[int, int]) -> None:
    """Every mode gives the input's shape."""
    spec = InputSpec.model_validate({"height": 30, "width": 50, "channels": 3, "resize": resize})
    assert prepare(np.zeros((*size, 3), np.uint8), spec).shape == (30, 50, 3)


def test_bgr_turns_the_channels() -> None:
    """The model sees blue first; a picture that fits already is turned too."""
    spec = InputSpec(height=1, width=1, channels=3, order="bgr")
    assert prepare(np.array([[[1, 2, 3]]], np.uint8), spec).tolist() == [[[3, 2, 1]]]


def test_a_picture_of_ten_thousand_pixels_a_side_is_refused() -> None:
    """Before anything is decoded: the header says so."""
    huge = BytesIO()
    Image.new("1", (10_000, 10_000)).save(huge, "PNG")
    with pytest.raises(BadFrame, match="at most"):
        decode_file(huge.getvalue())


def test_the_colours_of_a_cmyk_jpeg_and_the_first_picture_of_an_animation_are_read() -> None:
    """Both become RGB."""
    jpeg, animation = BytesIO(), BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(jpeg, "JPEG")
    red, green, blue = decode_file(jpeg.getvalue())[4, 4].tolist()
    assert red > 200 > 60 > max(green, blue)
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    first.save(animation, "PNG", save_all=True, append_images=[second])
    assert decode_file(animation.getvalue())[0, 0].tolist() == [255, 0, 0]


def photograph(width: int, height: int) -> NDArray[np.uint8]:
    """Waves in three colours, without edges, as a camera's optics leave them."""
    across, down = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    waves = [np.sin(across), np.cos(down), np.sin(across + down)]
    pixels: NDArray[np.uint8] = (127 + 120 * np.stack(waves, axis=2)).astype(np.uint8)
    return pixels


@pytest.mark.parametrize(
    ("size", "resize", "decoded"),
    [
        ((640, 480), "stretch", (320, 240)),
        ((1920, 1080), "stretch", (480, 270)),
        ((1920, 1080), "crop", (480, 270)),
        ((1920, 1080), "letterbox", (240, 135)),
        ((440, 440), "stretch", (440, 440)),  # half of it would be less than the model takes
        ((3999, 3001), "stretch", (500, 376)),
    ],
)
def test_a_jpeg_is_decoded_with_no_more_pixels_than_the_model_needs(
    size: tuple[int, int], resize: str, decoded: tuple[int, int]
) -> None:
    """Never with fewer, and the model sees nearly the same as of the whole picture."""
    width, height = size
    body = encoded(Image.fromarray(photograph(width, height)), "JPEG")
    spec = InputSpec.model_validate({"height": 224, "width": 224, "channels": 3, "resize": resize})
    pixels = decode(body, "image/jpeg", width, height, 3, spec=spec)
    assert pixels.shape == (decoded[1], decoded[0], 3)
    whole = prepare(decode(body, "image/jpeg", width, height, 3), spec).astype(int)
    assert np.abs(prepare(pixels, spec) - whole).mean() < 1.5
    assert np.array_equal(decode_file(body, spec), pixels)


def test_other_formats_are_decoded_whole() -> None:
    """The spec changes nothing."""
    spec = InputSpec(height=10, width=10, channels=3)
    body = encoded(Image.fromarray(noise(100, 100, 3)))
    assert decode(body, "image/png", 100, 100, 3, spec=spec).shape == (100, 100, 3)


def test_a_turned_jpeg_has_the_size_and_the_pixels_that_a_viewer_shows() -> None:
    """A model with a wide input needs the long side of the turned picture."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = BytesIO()
    Image.fromarray(photograph(400, 800)).save(turned, "JPEG", exif=exif)
    assert file_size(turned.getvalue()) == (400, 800)
    spec = InputSpec(height=100, width=400, channels=3)
    assert decode_file(turned.getvalue(), spec).shape == (200, 400, 3)
