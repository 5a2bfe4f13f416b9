"""The workload API over its real unix socket, with the requests of the device SDK."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.store import Store
from twinship.simulator.workload.workload import SocketFolderError, serve_workload, socket_folder, socket_path

MODULE = Identity("edge", "camera")
VERSION = {"api-version": "2021-12-07"}

Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    store = Store(tmp_path / "hub.sqlite")
    registry = Registry(store, "127.0.0.1", lambda: 0.0)
    registry.create(Identity("edge"))
    registry.create(MODULE)
    yield registry
    asyncio.run(store.close())


def ask(registry: Registry, folder: Path, questions: Callable[[Ask], Awaitable[None]]) -> None:
    """Serve the module's socket while `questions` runs."""

    async def run() -> None:
        runner = await serve_workload(registry, folder, MODULE, trust_bundle="PEM")
        connector = aiohttp.UnixConnector(str(socket_path(folder, MODULE)))
        async with aiohttp.ClientSession("http://localhost", connector=connector) as session:

            async def one(method: str, path: str, **options: Any) -> tuple[int, Any]:
                async with session.request(method, path, **{"params": VERSION, **options}) as answer:
                    return answer.status, await answer.json()

            await questions(one)
        await runner.cleanup()

    asyncio.run(run())


def sign_path(registry: Registry, module: str = "camera") -> str:
    return f"/modules/{module}/genid/{registry.get(MODULE).generation_id}/sign"


def test_the_trust_bundle_is_the_authoritys_root(registry: Registry, tmp_path: Path) -> None:
    """GET /trust-bundle returns the given PEM."""

    async def questions(one: Ask) -> None:
        assert await one("GET", "/trust-bundle") == (200, {"certificate": "PEM"})

    ask(registry, tmp_path, questions)


def test_data_is_signed_with_the_primary_key(registry: Registry, tmp_path: Path) -> None:
    """The digest is HMAC-SHA256 with the module's decoded primary key; the request needs no content type."""
    keys = registry.keys(MODULE)
    assert keys is not None
    expected = hmac.new(base64.b64decode(keys[0]), b"resource\n1", hashlib.sha256).digest()

    async def questions(one: Ask) -> None:
        body = b'{"keyId": "primary", "algo": "HMACSHA256", "data": "%s"}' % base64.b64encode(b"resource\n1")
        status, answer = await one("POST", sign_path(registry), data=body)
        assert (status, base64.b64decode(answer["digest"])) == (200, expected)

    ask(registry, tmp_path, questions)


def test_a_socket_signs_for_its_own_module_only(registry: Registry, tmp_path: Path) -> None:
    """Another module name is 403; another generation id is 404."""

    async def questions(one: Ask) -> None:
        body = {"data": base64.b64encode(b"x").decode()}
        assert (await one("POST", sign_path(registry, "inference"), json=body))[0] == 403
        assert (await one("POST", "/modules/camera/genid/1/sign", json=body))[0] == 404
        registry.update(Identity("edge"), {"status": "disabled"}, if_match="*")
        assert (await one("POST", sign_path(registry), json=body))[0] == 404
        registry.delete(MODULE)
        assert (await one("POST", "/modules/camera/genid/1/sign", json=body))[0] == 404

    ask(registry, tmp_path, questions)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": 1}', b'{"data": "%"}', b"\xff"])
def test_a_bad_body_is_400(registry: Registry, tmp_path: Path, body: bytes) -> None:
    """The response has a message."""

    async def questions(one: Ask) -> None:
        status, answer = await one("POST", sign_path(registry), data=body)
        assert (status, list(answer)) == (400, ["message"])

    ask(registry, tmp_path, questions)


def test_unsupported_routes_and_versions_are_refused_by_name(registry: Registry, tmp_path: Path) -> None:
    """Unknown versions are 400; other routes of the real API are 501 and named."""

    async def questions(one: Ask) -> None:
        assert (await one("GET", "/trust-bundle", params={"api-version": "1999-01-01"}))[0] == 400
        status, answer = await one("POST", "/modules/camera/genid/1/encrypt", json={})
        assert (status, "/modules/camera/genid/1/encrypt" in answer["message"]) == (501, True)

    ask(registry, tmp_path, questions)


def test_a_socket_left_by_a_killed_hub_is_replaced(registry: Registry, tmp_path: Path) -> None:
    """The path stays the same after a restart, because running modules use it."""
    socket_path(tmp_path, MODULE).parent.mkdir()
    socket_path(tmp_path, MODULE).touch()

    async def questions(one: Ask) -> None:
        assert (await one("GET", "/trust-bundle"))[0] == 200

    ask(registry, tmp_path, questions)
    assert not socket_path(tmp_path, MODULE).exists()


def test_the_last_socket_removes_folders(registry: Registry, tmp_path: Path) -> None:
    """The next socket creates the folder again."""
    folder = tmp_path / "s"

    async def questions(one: Ask) -> None:
        assert (await one("GET", "/trust-bundle"))[0] == 200
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        socket = socket_path(folder, MODULE)
        assert stat.S_IMODE(socket.stat().st_mode) == 0o666, "a container's user is another one"
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o755

    for _ in range(2):
        ask(registry, folder, questions)
        assert not folder.exists()


def test_the_socket_folder_is_private_short_and_constant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for a long simulator folder too, and at each start."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path)[:40] if len(str(tmp_path)) > 40 else str(tmp_path))
    long = tmp_path / ("with spaces " * 18)
    long.mkdir()
    folder = socket_folder(long)
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(os.fsencode(socket_path(folder, Identity("d" * 128, "m" * 128)))) <= 107
        assert socket_folder(long) == folder
        assert socket_folder(tmp_path) != folder
    finally:
        folder.rmdir()
        socket_folder(tmp_path).rmdir()


def test_a_folder_that_others_can_enter_is_not_used(tmp_path: Path) -> None:
    """If it exists with our name already, the error names the cure."""
    folder = socket_folder(tmp_path)
    folder.chmod(0o755)
    try:
        with pytest.raises(SocketFolderError, match="remove it, or set TMPDIR"):
            socket_folder(tmp_path)
    finally:
        folder.rmdir()
