"""Addresses of sources."""

from pathlib import Path

import pytest

from camera_sim.sources.address import (
    SCHEMES,
    Address,
    SourceError,
    below,
    parse,
    parse_public,
    with_credentials,
)

SECRET = "hunter2-XYZ"


@pytest.mark.parametrize(
    ("text", "scheme", "target"),
    [
        ("folder:/pictures", "folder", "/pictures"),
        ("scene:", "scene", ""),
        ("scene:11", "scene", "11"),
        (" FILE:a b.mp4 ", "file", "a b.mp4"),
        ("v4l2:/dev/video0", "v4l2", "/dev/video0"),
        ("rtsp://10.0.0.9/live", "rtsp", "rtsp://10.0.0.9/live"),
        ("rtsps://[fe80::1]:8322/a?b=c", "rtsps", "rtsps://[fe80::1]:8322/a?b=c"),
        ("http://gate/mjpeg", "http", "http://gate/mjpeg"),
        ("https://gate/mjpeg", "https", "https://gate/mjpeg"),
    ],
)
def test_each_kind_of_source_has_a_scheme(text: str, scheme: str, target: str) -> None:
    """The scheme may be written in any case."""
    assert parse(text) == Address(scheme, target)


@pytest.mark.parametrize(
    "text",
    [
        "", "/pictures", "ftp://gate/x", "concat:a|b", "file:", "scene:x", "scene:-1",
        "v4l2:/dev/mem", "v4l2:/dev/video0/../mem", "v4l2:/dev/video٣",
        "rtsp://", "rtsp:gate", "http://gate:99999/x", "http://gate:x/", "file:a\nb", "file:" + "x" * 3_000,
    ],
)  # fmt: skip
def test_other_text_is_refused_with_the_cure(text: str) -> None:
    """Only the schemes of the table; a device is a camera and no other file."""
    with pytest.raises(SourceError, match=r"cure|characters"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"rtsp://guest:{SECRET}@gate/live", f"http://{SECRET}@gate/x",
        f"http://gate/x?user=a&password={SECRET}", f"http://gate/x?pwd={SECRET}",
    ],
)  # fmt: skip
def test_a_password_is_never_shown_and_never_in_a_twin(text: str) -> None:
    """The environment may hold it; str, repr and every error are without it."""
    address = parse(text)
    assert SECRET in address.target
    assert SECRET not in f"{address} {address!r}"
    with pytest.raises(SourceError) as refused:
        parse_public(text)
    assert SECRET not in str(refused.value)
    assert "CAMERA_SOURCE_FILE" in str(refused.value)


@pytest.mark.parametrize("text", [f"ftp://u:{SECRET}@gate/", f"rtsp://u:{SECRET}@gate:bad/"])
def test_a_refused_address_is_not_repeated(text: str) -> None:
    """It may hold a password."""
    with pytest.raises(SourceError) as refused:
        parse(text)
    assert SECRET not in str(refused.value)


def test_credentials_go_to_their_own_server_only() -> None:
    """A twin may name another stream of the same camera without its password, and no other server gets it."""
    secret = parse(f"rtsp://guest:{SECRET}@gate/live")
    assert with_credentials(parse("rtsp://gate:554/other"), secret).target == (
        f"rtsp://guest:{SECRET}@gate:554/other"
    )
    for other in ("rtsp://elsewhere/live", "rtsp://gate:555/live", "http://gate/live", "file:live", "scene:"):
        assert with_credentials(parse(other), secret) == parse(other)
    assert with_credentials(parse("rtsp://gate/x"), parse("scene:")) == parse("rtsp://gate/x")


def test_files_lie_below_the_configured_folder(tmp_path: Path) -> None:
    """Also through `..` and symbolic links; without a folder no file is read."""
    base = tmp_path / "videos"
    base.mkdir()
    (tmp_path / "secret.mp4").touch()
    (base / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    assert below(parse("file:sub/gate.mp4"), base).target == str(base / "sub/gate.mp4")
    assert below(parse(f"folder:{base}"), base).target == str(base)
    assert below(parse("scene:"), None) == parse("scene:")
    for name in ("../secret.mp4", "/etc/passwd", "link.mp4"):
        with pytest.raises(SourceError, match="outside of CAMERA_FOLDER"):
            below(parse(f"file:{name}"), base)
    with pytest.raises(SourceError, match="needs CAMERA_FOLDER"):
        below(parse("file:gate.mp4"), None)


def test_each_scheme_says_what_follows_it() -> None:
    """The text of the cure begins with the scheme."""
    assert all(text.startswith(f"{scheme}:") for scheme, text in SCHEMES.items())
