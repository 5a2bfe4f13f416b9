"""twinship.fleet.page: the address of the page and its token, where the token lies."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.twinship.cli.command import run
from twinship.fleet import page as pages
from twinship.fleet.connection import Connection
from twinship.fleet.page import NoPage, Page, page, token_in_container
from twinship.fleet.service import ModuleTwin, ServiceHub

TOKEN = "correct horse battery"
URL = "http://127.0.0.1:8780/?token=correct%20horse%20battery"


def agent(
    environment: Mapping[str, str] | None = None, *, runs: bool = True, options: Any = None
) -> ModuleTwin:
    """The twin of `$edgeAgent` with a dashboard that has these variables and createOptions."""
    variables = {name: {"value": value} for name, value in (environment or {}).items()}
    settings = {"image": "dashboard:1", **({} if options is None else {"createOptions": json.dumps(options)})}
    desired = {"modules": {"dashboard": {"settings": settings, "env": variables}}, "$version": 3}
    reported = {"modules": {"dashboard": {"runtimeStatus": "running" if runs else "stopped"}}}
    return ModuleTwin("twinship", "$edgeAgent", "e", "Connected", desired, reported)


def nobody() -> str:
    """No container is asked."""
    raise AssertionError("the container was asked for its token")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The module's data folder in a simulator."""
    folder = tmp_path / "modules" / "dashboard"
    folder.mkdir(parents=True)
    return folder


def test_on_loopback_no_token_is_needed(data: Path) -> None:
    """A simulator runs the module so, unless the manifest names another address. An old token stays."""
    (data / "dashboard.token").write_text(TOKEN + "\n")
    found = page(agent(), data, nobody)
    assert (found.url, found.to_json()["token"]) == ("http://127.0.0.1:8780/", None)
    for host in ("127.0.0.1", "localhost"):
        assert page(agent({"DASHBOARD_LISTEN": f"{host}:99"}), data, nobody).url == "http://127.0.0.1:99/"
    assert page(agent({"DASHBOARD_LISTEN": "[::1]:99"}), data, nobody).url == "http://[::1]:99/"


def test_in_the_simulator_the_token_lies_in_the_modules_folder(data: Path) -> None:
    """The address is one that a browser on this machine can open."""
    (data / "dashboard.token").write_text(TOKEN + "\n")
    assert page(agent({"DASHBOARD_LISTEN": "0.0.0.0:8780"}), data, nobody).url == URL


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_module_that_has_not_made_its_token_yet_is_an_error(data: Path, content: str | None) -> None:
    """An address without the token would only show the form."""
    if content is not None:
        (data / "dashboard.token").write_text(content)
    with pytest.raises(NoPage, match=r"not made its token yet .*cure: try again"):
        page(agent({"DASHBOARD_LISTEN": "0.0.0.0:8780"}), data, nobody)


def test_the_manifests_token_is_the_token(data: Path, tmp_path: Path) -> None:
    """One that stayed literal, because the variable was not defined, is none."""
    for folder in (data, tmp_path / "none"):
        assert page(agent({"DASHBOARD_TOKEN": TOKEN}), folder, nobody).url == URL
    assert page(agent({"DASHBOARD_TOKEN": "$DASHBOARD_TOKEN"}), data, nobody).token == ""


@pytest.mark.parametrize("left", [False, True], ids=["device", "beside-a-simulator"])
def test_in_a_container_the_token_is_read_there(data: Path, tmp_path: Path, left: bool) -> None:
    """Also of a container that a simulator does not run itself; the port is the one that is published."""
    bindings = {"8780/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9000"}]}
    twin = agent(runs=not left, options={"HostConfig": {"PortBindings": bindings}})
    found = page(twin, data if left else tmp_path / "none", lambda: TOKEN)
    assert found.url == URL.replace("8780", "9000")


@pytest.mark.parametrize(
    ("variables", "options", "address"),
    [
        ({}, {}, "http://127.0.0.1:8780/"),
        ({"DASHBOARD_LISTEN": "0.0.0.0:9000"}, {"HostConfig": None}, "http://127.0.0.1:9000/"),
        ({"DASHBOARD_CERTIFICATE": "/tls/cert.pem"}, {}, "https://127.0.0.1:8780/"),
    ],
)
def test_without_a_port_binding_the_address_is_where_the_module_listens(
    variables: dict[str, str], options: Any, address: str, tmp_path: Path
) -> None:
    """With the network of the host; https if the manifest names a certificate."""
    assert page(agent(variables, options=options), tmp_path / "none", lambda: TOKEN).address == address


def test_a_device_without_a_dashboard_is_an_error_with_its_cure(tmp_path: Path) -> None:
    """As is a twin that nobody can read."""
    with pytest.raises(NoPage, match="no module dashboard; cure: twinship deploy --template"):
        page(ModuleTwin("twinship", "$edgeAgent", "e", "", {"modules": {}}, {}), tmp_path, nobody)
    with pytest.raises(NoPage, match="must be an object"):
        page(ModuleTwin("twinship", "$edgeAgent", "e", "", {"modules": []}, {}), tmp_path, nobody)


def test_the_token_is_not_in_the_repr() -> None:
    """A traceback or a log would show it."""
    assert TOKEN not in repr(Page("http://127.0.0.1/", TOKEN))


def docker(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program `docker` that runs this script."""
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_docker_reads_the_token_in_the_containers_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is that of the documentation."""
    (tmp_path / "dashboard.token").write_text(TOKEN)
    monkeypatch.setenv("DATA_FOLDER", str(tmp_path))
    docker(tmp_path, monkeypatch, '[ "$1 $2" = "exec dashboard" ] && shift 2 && exec "$@"')
    assert token_in_container() == TOKEN


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo No such container: dashboard >&2; exit 1", "No such container"), ("true", "the file is empty")],
)
def test_a_token_that_cannot_be_read_is_an_error_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    """The operator may sit at another machine."""
    docker(tmp_path, monkeypatch, script)
    with pytest.raises(NoPage, match=f"{reason}.*cure: run this on the device"):
        token_in_container()
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(NoPage, match=r"docker: FileNotFoundError.*cure: "):
        token_in_container()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path) -> None:
    """A simulator's folder, and a hub that has its twins."""
    line = "IOTHUB_CONNECTION_STRING=HostName=127.0.0.1:1;SharedAccessKeyName=owner;SharedAccessKey=a2V5\n"
    (tmp_path / "service.env").write_text(line)
    (data / "dashboard.token").write_text(TOKEN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ServiceHub, "module_twin", lambda *_: agent({"DASHBOARD_LISTEN": "0.0.0.0:8780"}))


@pytest.mark.usefixtures("hub")
def test_status_prints_the_address_only_when_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for a person or a script, or JSON; the table of modules has no token."""
    monkeypatch.setattr(ServiceHub, "modules", lambda *_: ("$edgeAgent",))
    asked = ("status", "--env-file", "service.env")
    assert run(capsys, monkeypatch, *asked, "--dashboard").out == URL + "\n"
    shown = json.loads(run(capsys, monkeypatch, *asked, "--dashboard", "--json").out)
    assert shown == {"address": "http://127.0.0.1:8780/", "token": TOKEN, "url": URL}
    for more in ([], ["--json"]):
        plain = run(capsys, monkeypatch, *asked, *more)
        assert plain.code == 0
        assert "horse" not in plain.out + plain.err
    both = run(capsys, monkeypatch, *asked, "--dashboard", "--watch")
    assert (both.code, "leave out --watch" in both.err) == (2, True)


def test_a_page_needs_a_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`find` reads the twin of `$edgeAgent`, and the folder of the env file, a link of it too."""
    folder = tmp_path / "simulator"
    (folder / "modules" / "dashboard").mkdir(parents=True)
    (folder / "service.env").touch()
    (tmp_path / ".env").symlink_to(folder / "service.env")
    read: list[tuple[str, str]] = []

    def twin(_hub: ServiceHub, device: str, module: str) -> ModuleTwin:
        read.append((device, module))
        return agent()

    monkeypatch.setattr(ServiceHub, "module_twin", twin)
    assert pages.find(Connection("h", "p", "k"), "porch", tmp_path / ".env").token == ""
    assert read == [("porch", "$edgeAgent")]
