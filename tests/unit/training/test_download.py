"""A download ends in time, brings the right file or none, and says why."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from training.download import download, fetch


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """Whatever hangs is killed in time, and nothing is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mnist.npz"
        why = download(tmp_path / "mnist.npz", timeout_s=0.5, url=url)
    assert why == "nothing complete within 0.5 s"
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_not_kept(tmp_path: Path) -> None:
    """A login page is not MNIST: it is refused by its digest, in one line."""
    page = tmp_path / "page"
    page.write_text("<html>please log in</html>")
    target = tmp_path / "keras" / "mnist.npz"
    why = download(target, url=page.as_uri())
    assert why is not None
    assert "not MNIST" in why
    assert "\n" not in why
    assert list(target.parent.iterdir()) == []


def test_no_server_is_said(tmp_path: Path) -> None:
    """A refused connection ends at once with its reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    why = download(tmp_path / "mnist.npz", url=f"http://127.0.0.1:{port}/mnist.npz")
    assert why is not None
    assert "refused" in why


def test_the_right_file_is_put_in_its_place(tmp_path: Path) -> None:
    """Exactly the known bytes arrive under the target's name, in a folder that is made for them."""
    source, target = tmp_path / "source", tmp_path / "new" / "mnist.npz"
    source.write_bytes(b"pictures")
    digest = hashlib.sha256(b"pictures").hexdigest()
    fetch(source.as_uri(), target.with_suffix(".part"), target, sha256=digest)
    assert target.read_bytes() == b"pictures"
    assert list(target.parent.iterdir()) == [target]


def test_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    """A file is trusted by its digest and not by its address."""
    source, target = tmp_path / "source", tmp_path / "mnist.npz"
    source.write_bytes(b"pictures!")
    with pytest.raises(OSError, match="not MNIST"):
        fetch(source.as_uri(), tmp_path / "part", target, sha256=hashlib.sha256(b"pictures").hexdigest())
    assert not target.exists()
