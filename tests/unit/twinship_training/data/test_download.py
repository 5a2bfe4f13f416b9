"""A download ends in time, brings the right files or none, and says why."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from twinship_training.data.download import DIGESTS, FILES, MOBILENET, SIZES, download, fetch

KNOWN = "pictures.npz"


@pytest.fixture(autouse=True, params=["sha256", "md5"])
def _known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of KNOWN, as one of the two publishers gives it."""
    monkeypatch.setitem(DIGESTS, KNOWN, hashlib.new(request.param, b"pictures").hexdigest())


def address(folder: Path) -> str:
    """A folder as a base address."""
    return f"{folder.as_uri()}/"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_download_from_a_silent_server_ends(tmp_path: Path, name: str) -> None:
    """The child process is killed after the time-out, and no file stays."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        why = download(name, tmp_path, timeout_s=0.5, base=base)
    assert why == "nothing complete within 0.5 s"
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    """A login page is not MNIST: its digest differs, and one line says so."""
    (tmp_path / "mnist.npz").write_text("<html>please log in</html>")
    target = tmp_path / "keras"
    why = download("mnist", target, base=address(tmp_path))
    assert why is not None
    assert "not mnist.npz" in why
    assert "\n" not in why
    assert list(target.iterdir()) == []


def test_a_refused_connection_is_reported(tmp_path: Path) -> None:
    """Without a server the download ends at once with the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    why = download("fashion_mnist", tmp_path, base=f"http://127.0.0.1:{port}/")
    assert why is not None
    assert "refused" in why


def test_the_right_file_is_stored(tmp_path: Path) -> None:
    """A file with the known digest is stored under its name, in a new folder."""
    (tmp_path / KNOWN).write_bytes(b"pictures")
    folder = tmp_path / "new"
    fetch(KNOWN, address(tmp_path), folder, ".part")
    assert (folder / KNOWN).read_bytes() == b"pictures"
    assert list(folder.iterdir()) == [folder / KNOWN]


def test_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    """A file with another digest is refused, and no file stays."""
    (tmp_path / KNOWN).write_bytes(b"pictures!")
    with pytest.raises(OSError, match=r"not pictures\.npz"):
        fetch(KNOWN, address(tmp_path), tmp_path / "new", ".part")
    assert list((tmp_path / "new").iterdir()) == []


def test_weights_are_known_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras publishes no digest of its weights: a file of their size is stored, a shorter one is refused."""
    (file,) = FILES[MOBILENET]
    monkeypatch.setitem(SIZES, file, 8)
    (tmp_path / file).write_bytes(b"1234567")
    target = tmp_path / "keras"
    with pytest.raises(OSError, match=f"answered 7 bytes, not {file}"):
        fetch(file, address(tmp_path), target, ".part")
    assert list(target.iterdir()) == []
    (tmp_path / file).write_bytes(b"12345678")
    fetch(file, address(tmp_path), target, ".part")
    assert (target / file).read_bytes() == b"12345678"
