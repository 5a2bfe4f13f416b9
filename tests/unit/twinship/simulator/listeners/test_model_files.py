"""The model file server over real TLS: ranges, its own authority, a stable port."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest

from twinship.simulator.listeners.model_files import ModelFiles, serve_model_files
from twinship.simulator.store import Store

T = TypeVar("T")
DATA = bytes(range(100))


def serving(folder: Path, work: Callable[[ModelFiles], Awaitable[T]]) -> T:
    """Run `work` while the server runs."""

    async def run() -> T:
        async with contextlib.AsyncExitStack() as running:
            store = Store(folder / "hub.sqlite", "normal")
            running.push_async_callback(store.close)
            files = await serve_model_files(
                folder / "model-files", "127.0.0.1", store, datetime.now(UTC), running
            )
            (files.folder / "m.tflite").write_bytes(DATA)
            return await work(files)

    return asyncio.run(run())


async def got(files: ModelFiles, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of one response."""
    context = ssl.create_default_context(cafile=str(files.trusted_pem))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(files.url + path, headers=headers) as answer,
    ):
        return answer.status, await answer.read()


def test_a_file_is_served_whole_and_in_part(tmp_path: Path) -> None:
    """A device resumes an interrupted download."""

    async def work(files: ModelFiles) -> list[tuple[int, bytes]]:
        return [await got(files, "/m.tflite"), await got(files, "/m.tflite", Range="bytes=40-")]

    assert serving(tmp_path, work) == [(200, DATA), (206, DATA[40:])]


@pytest.mark.parametrize("path", ["/none.tflite", "/", "/..%2f..%2fhub.sqlite", "/%2e%2e/%2e%2e/hub.sqlite"])
def test_nothing_else_is_served(tmp_path: Path, path: str) -> None:
    """No listing, and no file outside the folder, where the hub's keys are."""

    async def work(files: ModelFiles) -> tuple[int, bytes]:
        return await got(files, path)

    status, body = serving(tmp_path, work)
    assert status in (403, 404)
    assert b"SQLite" not in body


def test_address_and_authority_survive_a_restart(tmp_path: Path) -> None:
    """Twins contain the URL, and running modules trust the authority."""

    async def work(files: ModelFiles) -> tuple[str, str]:
        return files.url, files.trusted_pem.read_text()

    assert serving(tmp_path, work) == serving(tmp_path, work)


def test_the_hub_has_another_authority(tmp_path: Path) -> None:
    """A module that trusts the file server must still get the hub's certificate from the trust bundle."""
    (tmp_path / "ca.pem").write_text("the hub's")

    async def work(files: ModelFiles) -> str:
        return files.trusted_pem.read_text()

    assert "the hub's" not in serving(tmp_path, work)
