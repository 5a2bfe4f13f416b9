"""twinship.demo.page: the browser opens when the page can be read."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from twinship.demo import page


@pytest.fixture
def address() -> str:
    """On a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were opened."""
    addresses: list[str] = []

    def browser(address: str) -> bool:
        addresses.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    return addresses


@pytest.fixture
def servers(
    monkeypatch: pytest.MonkeyPatch, address: str, opened: list[str]
) -> Iterator[list[socket.socket]]:
    """The module begins to listen while the first poll waits."""
    started: list[socket.socket] = []

    def listen(_seconds: float) -> None:
        assert opened == []
        started.append(socket.create_server(("127.0.0.1", int(address.rpartition(":")[2].strip("/")))))

    monkeypatch.setattr("twinship.demo.page.time.sleep", listen)
    yield started
    for server in started:
        server.close()


def test_the_browser_waits_until_the_module_listens(
    address: str, servers: list[socket.socket], opened: list[str]
) -> None:
    """A browser that comes first would show an error."""
    assert page.open_page(address)
    assert (len(servers), opened) == (1, [address])


def test_a_module_that_never_listens_is_not_opened(address: str, opened: list[str]) -> None:
    """The demo goes on and says so."""
    assert not page.open_page(address, patience_s=0)
    assert opened == []
