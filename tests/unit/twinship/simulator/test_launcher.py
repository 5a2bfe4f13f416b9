"""The whole simulator as processes: hub and small stub modules start, crash, change and end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twinship.simulator.edge_agent.log_search import LogSearch
from twinship.simulator.edge_agent.processes import ProcessId, ProcessRecord
from twinship.simulator.edge_agent.service_client import ConnectionString, ServiceClient
from twinship.simulator.launcher import Addresses, Simulator, SimulatorError, SimulatorSettings
from twinship.simulator.loopback import free_addresses

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).parents[4]

# Says on a line of its own what happens to it, into $DATA_FOLDER/../events; ends on SIGTERM with 0.
MODULE = """
import os, pathlib, signal, sys, threading, time
events = pathlib.Path(os.environ["DATA_FOLDER"]).parent / "events"
def say(what):
    with events.open("a") as file:
        file.write(f"{os.environ['IOTEDGE_MODULEID']} {what} {os.getpid()}\\n")
def end(*_):
    say("ends")
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "STUBBORN" in os.environ else end)
signal.signal(signal.SIGINT, lambda *_: say("was interrupted"))
(events.parent / f"{os.environ['IOTEDGE_MODULEID']}.environment").write_text(repr(dict(os.environ)))
say("starts")
while True:
    time.sleep(60)
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A project with two stub modules, first and second."""
    for name in ("first", "second"):
        (tmp_path / "library" / name).mkdir(parents=True)
        (tmp_path / "library" / name / "__init__.py").touch()
        (tmp_path / "library" / name / "__main__.py").write_text(MODULE)
    path = tmp_path / "deployment.template.json"
    path.write_text(json.dumps({"modulesContent": content(tmp_path)}))
    return path


def content(tmp_path: Path, **env: str) -> dict[str, Any]:
    """modulesContent with both modules; the first gets `env`."""
    library = {"PYTHONPATH": {"value": str(tmp_path / "library")}}
    given = {name: {"value": value} for name, value in env.items()}
    modules = {
        "first": {"startupOrder": 1, "settings": {"image": "first"}, "env": {**library, **given}},
        "second": {"startupOrder": 2, "settings": {"image": "second"}, "env": library},
    }
    return {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": modules}},
        "$edgeHub": {
            "properties.desired": {"schemaVersion": "1.1", "routes": {"up": "FROM /* INTO $upstream"}}
        },
        "first": {"properties.desired": {"speed": 1}},
    }


def settings(project: Path, **changes: Any) -> SimulatorSettings:
    """Settings for the template at `project`; the folder is sim next to it."""
    given = {"template": project, "folder": project.parent / "sim", "environment": {}, **changes}
    return SimulatorSettings(**given)


def events(template: Path) -> list[str]:
    """The output of the modules without their pids."""
    path = template.parent / "sim" / "modules" / "events"
    return [line.rpartition(" ")[0] for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def ask(simulator: Simulator, method: str, *path: str, body: object = None) -> Any:
    """Call the hub's REST API."""

    async def one() -> Any:
        connection = ConnectionString.parse(simulator.connection_string)
        client = ServiceClient(connection, simulator.endpoints.ca_pem)
        try:
            return await client.call(method, *path, body=body)
        finally:
            await client.close()

    return asyncio.run(one())


def reported(simulator: Simulator) -> dict[str, Any]:
    twin = ask(simulator, "GET", "twins", "twinship", "modules", "$edgeAgent")
    return dict(twin["properties"]["reported"])


@pytest.fixture
def script(template: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts another process that runs the simulator with modules until Enter; the fixture ends it."""
    code = f"""
import sys
from pathlib import Path
from twinship.simulator.launcher import Simulator, SimulatorSettings
template = Path({str(template)!r})
with Simulator(SimulatorSettings(template, template.parent / "sim", {{}})) as simulator:
    simulator.start_modules()
    print("up", flush=True)
    sys.stdin.readline()
"""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def processes(template: Path) -> dict[str, ProcessId]:
    """The recorded processes."""
    kept = json.loads((template.parent / "sim" / "processes.json").read_text())["processes"]
    return {name: ProcessId(**process) for name, process in kept.items()}


def test_the_files_of_the_simulator_are_private(template: Path) -> None:
    """Files have mode 0600 and folders 0700, also a log and a database that an earlier version made."""
    logs = template.parent / "sim" / "logs"
    logs.mkdir(parents=True)
    logs.chmod(0o755)
    for old in (logs / "hub.log", logs.parent / "hub.sqlite", logs.parent / "upstream.jsonl"):
        old.touch(mode=0o644)
    before = os.umask(0o022)
    try:
        with Simulator(settings(template)) as simulator:
            simulator.start_modules()
            wait_for(lambda: len(events(template)) == 2, "both modules")
            found = list(modes(template.parent / "sim"))
            uri = simulator.module_environment("first")["IOTEDGE_WORKLOADURI"]
            sockets = Path(uri.removeprefix("unix://")).parent.parent  # protects the folder of each module
            found.append((sockets, stat.S_IMODE(sockets.stat().st_mode)))
    finally:
        os.umask(before)
    # what a module writes is its own affair; these two folders existed before
    own = {f"{path}": mode for path, mode in found if path.parent.name != "modules" or path.is_dir()}
    assert {path for path, mode in own.items() if mode & 0o077} == {str(logs), str(logs.parent)}
    assert {"processes.json", "hub.sqlite", "hub.sqlite-wal", "hub.log", "first.log", "upstream.jsonl"} <= {
        Path(path).name for path in own
    }


def modes(folder: Path) -> Iterator[tuple[Path, int]]:
    """The mode of the folder and of all that is in it; a socket is protected by its folder."""
    yield folder, stat.S_IMODE(folder.stat().st_mode)
    for path in folder.rglob("*"):
        if not path.is_socket():
            yield path, stat.S_IMODE(path.lstat().st_mode)


def test_modules_start_in_startup_order(template: Path) -> None:
    """They end in the opposite order; afterwards only files remain."""
    with Simulator(settings(template)) as simulator:
        simulator.start_modules()
        wait_for(lambda: len(events(template)) == 2, "both modules")
        sockets = Path(
            simulator.module_environment("first")["IOTEDGE_WORKLOADURI"].removeprefix("unix://")
        ).parent
        running = processes(template)
        assert sorted(running) == ["first", "hub", "second"]
        simulator.stop_modules()
        assert simulator.states()["second"].exit_code == 0
    assert events(template)[:2] in (["first starts", "second starts"], ["second starts", "first starts"])
    assert events(template)[2:] == ["second ends", "first ends"]
    assert not any(process.alive for process in running.values())
    assert not sockets.exists()
    left = {path.name for path in (template.parent / "sim").iterdir()}
    assert left & {"processes.json", "endpoints.json"} == set()
    assert {"logs", "modules", "upstream.jsonl", "ca.pem", "service.env", "hub.sqlite"} <= left


def test_modules_get_edge_agents_environment(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ref 1.1 over the manifest's env over a few inherited variables; no proxy, no secret."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("https_proxy", "http://proxy")
    monkeypatch.setenv("SECRET", "x")
    given = {"first": {"METRICS_LISTEN": "127.0.0.1:0"}}
    with Simulator(settings(template, module_environment=given)) as simulator:
        simulator.start_modules()
        environment = simulator.module_environment("first")
        written = template.parent / "sim" / "modules" / "first.environment"
        wait_for(lambda: written.exists() and written.read_text().endswith("}"), "the module")
        seen = eval(written.read_text())
        identity = ask(simulator, "GET", "devices", "twinship", "modules", "first")
        endpoints = simulator.endpoints
    assert environment.items() <= seen.items()
    assert environment["IOTEDGE_MODULEGENERATIONID"] == identity["generationId"]
    assert environment["IOTEDGE_IOTHUBHOSTNAME"] == endpoints.hub_name != endpoints.gateway
    assert environment["IOTEDGE_GATEWAYHOSTNAME"] == endpoints.gateway
    assert environment["METRICS_LISTEN"] == "127.0.0.1:0"
    assert environment["DATA_FOLDER"] == str(template.parent / "sim" / "modules" / "first")
    assert seen.keys() - environment.keys() <= {
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "TMPDIR",
        "PYTHONUNBUFFERED",
        "LC_CTYPE",
    }


def test_a_module_may_be_left_out(template: Path) -> None:
    """It gets an identity and an environment, but the simulator does not start it."""
    with Simulator(settings(template, leave_out=frozenset({"first"}))) as simulator:
        simulator.start_modules()
        assert list(simulator.states()) == ["second"]
        assert simulator.module_environment("first")["IOTEDGE_MODULEID"] == "first"
        with pytest.raises(SimulatorError, match="the manifest has no module 'frist'; it has first, second"):
            simulator.module_environment("frist")


def test_the_agent_reports_as_edge_agent(template: Path) -> None:
    """`$edgeAgent` reports each module's state; a module that ends is restarted and counted."""

    def module(field: str) -> Any:
        return reported(simulator).get("modules", {}).get("first", {}).get(field)

    with Simulator(settings(template)) as simulator:
        simulator.start_modules()
        wait_for(lambda: module("runtimeStatus") == "running", "the report")
        wait_for(lambda: "first starts" in events(template), "the module")
        os.kill(processes(template)["first"].pid, signal.SIGKILL)
        wait_for(lambda: module("restartCount") == 1, "the restart")
        wait_for(lambda: events(template).count("first starts") == 2, "the module")
        first = reported(simulator)["modules"]["first"]
        assert (first["exitCode"], first["restartPolicy"], first["settings"]) == (
            137,
            "always",
            {"image": "first"},
        )
        assert reported(simulator)["lastDesiredStatus"] == {"code": 200, "description": ""}
        simulator.stop_modules()
        wait_for(lambda: module("runtimeStatus") == "stopped", "the last report")


def method(simulator: Simulator, name: str, payload: object = None) -> Any:
    """Call one of edgeAgent's direct methods."""
    path = ("twins", "twinship", "modules", "$edgeAgent", "methods")
    return ask(simulator, "POST", *path, body={"methodName": name, "payload": payload})


def test_edge_agents_methods(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ping answers; RestartModule restarts a module without counting it; GetModuleLogs returns lines.

    Also after the hub was killed, which carries the calls. What is unknown or not here is refused by name.
    The logs are searched in a process of their own.
    """
    searches: list[Any] = []
    search = LogSearch.run

    async def watched(self: LogSearch, payload: Any, *others: Any, **place: Any) -> list[Any]:
        searches.append(payload)
        return await search(self, payload, *others, **place)

    monkeypatch.setattr(LogSearch, "run", watched)
    with Simulator(settings(template, leave_out=frozenset({"second"}))) as simulator:
        assert method(simulator, "ping") == {"status": 200, "payload": None}
        simulator.start_modules()
        wait_for(lambda: len(events(template)) == 1, "the module")
        before = processes(template)["first"]
        wanted = {"schemaVersion": "1.0", "id": "first"}
        assert method(simulator, "RestartModule", wanted) == {"status": 200, "payload": None}
        assert processes(template)["first"] != before
        wait_for(lambda: len(events(template)) == 3, "the module")
        assert events(template) == ["first starts", "first ends", "first starts"]
        assert simulator.states()["first"].restart_count == 0
        simulator.kill_hub()
        simulator.wait_hub()
        (simulator.endpoints.ca_pem.parent / "logs" / "first.log").write_text("one\ntwo\n")
        items = [{"id": "FIR", "filter": {"tail": 1}}]
        logs = {"schemaVersion": "1.0", "items": items, "encoding": "none", "contentType": "text"}
        assert method(simulator, "GetModuleLogs", logs) == {
            "status": 200,
            "payload": [{"id": "first", "payload": "two\n"}],
        }
        assert searches == [logs]
        for name, payload, status, said in (
            ("RestartModule", {**wanted, "id": "second"}, 500, "second cannot be restarted"),
            ("RestartModule", {**wanted, "id": "ghost"}, 500, "ghost not found"),
            ("RestartModule", {"id": "first"}, 400, "schemaVersion"),
            ("GetModuleLogs", [], 400, "must be an object"),
            ("UploadModuleLogs", {}, 501, "UploadModuleLogs is not in this simulator"),
            ("dance", {}, 400, "Command 'dance' not found"),
        ):
            refused = method(simulator, name, payload)
            assert (refused["status"], said in refused["payload"]["message"]) == (status, True), refused


def test_modules_get_the_proxy_if_443_is_taken(template: Path) -> None:
    """`https_proxy` is the CONNECT proxy, and there is no `no_proxy`."""
    hub, gateway = free_addresses(2, (8883, 8443))
    with contextlib.ExitStack() as running:
        with contextlib.suppress(PermissionError):
            running.enter_context(socket.create_server((gateway, 443)))
        asked = settings(template, addresses=Addresses(hub, gateway))
        environment = running.enter_context(Simulator(asked)).module_environment("first")
    assert environment["https_proxy"].startswith(f"http://{gateway}:")
    assert "no_proxy" not in environment


def test_a_killed_hub_restarts_without_its_modules(template: Path) -> None:
    """Addresses, keys and sockets stay the same, and the modules keep running."""
    with Simulator(settings(template)) as simulator:
        simulator.start_modules()
        wait_for(lambda: len(events(template)) == 2, "both modules")
        before, environment = processes(template), simulator.module_environment("first")
        connection = simulator.connection_string
        simulator.kill_hub()
        simulator.wait_hub()
        after = processes(template)
        assert after["hub"] != before["hub"]
        assert after["first"] == before["first"]
        assert simulator.module_environment("first") == environment
        assert simulator.connection_string == connection
        wait_for(lambda: reported(simulator)["systemModules"]["edgeHub"]["restartCount"] == 1, "the report")


def test_a_later_deployment_is_applied(template: Path) -> None:
    """Changed modules restart, removed ones stop, unchanged ones run on, and the report is updated."""
    with Simulator(settings(template)) as simulator:
        simulator.start_modules()
        wait_for(lambda: len(events(template)) == 2, "both modules")
        before = processes(template)
        changed = {"modulesContent": content(template.parent, NEW="1")}
        ask(simulator, "POST", "devices", "twinship", "applyConfigurationContent", body=changed)
        wait_for(lambda: events(template).count("first starts") == 2, "the restart")
        assert processes(template)["second"] == before["second"]
        fewer = {"modulesContent": content(template.parent, NEW="1")}
        del fewer["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["second"]
        ask(simulator, "POST", "devices", "twinship", "applyConfigurationContent", body=fewer)
        wait_for(lambda: "second ends" in events(template), "the end")
        wait_for(lambda: reported(simulator)["lastDesiredVersion"] == 4, "the report")  # once it is applied
        assert list(reported(simulator)["modules"]) == ["first"]


def test_a_killed_agent_leaves_no_orphan(template: Path, script: Callable[[], subprocess.Popen[str]]) -> None:
    """After kill -9 hub and modules end, and the next simulator in the folder starts and cleans up."""
    process = script()
    wait_for(lambda: len(events(template)) == 2, "both modules")
    running = processes(template)
    sockets = Path(json.loads((template.parent / "sim" / "endpoints.json").read_text())["socket_folder"])
    process.kill()
    process.wait()
    wait_for(lambda: not any(each.alive for each in running.values()), "the end of all")
    assert sockets.exists()
    with Simulator(settings(template)):
        assert processes(template).keys() == {"hub"}
    assert not sockets.exists()


def test_leftover_processes_are_ended_at_the_start(template: Path) -> None:
    """A process of the previous run ends before the simulator starts others."""
    left = subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    folder = template.parent / "sim"
    folder.mkdir()
    known = ProcessId.of(left.pid)
    assert known is not None
    ProcessRecord(folder).started("first", known)
    with Simulator(settings(template)):
        assert left.wait(0) == -signal.SIGKILL


def test_ctrl_c_ends_everything_in_order(template: Path, script: Callable[[], subprocess.Popen[str]]) -> None:
    """The terminal's signal reaches only the agent's group; the agent ends modules first, the hub last."""
    process = script()
    wait_for(lambda: len(events(template)) == 2, "both modules")
    running = processes(template)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert events(template)[2:] == ["second ends", "first ends"]
    assert not any(each.alive for each in running.values())
    assert not (template.parent / "sim" / "processes.json").exists()


def test_a_second_ctrl_c_does_not_wait(template: Path, script: Callable[[], subprocess.Popen[str]]) -> None:
    """A module that ignores SIGTERM delays the first Ctrl-C; the second ends everything at once."""
    template.write_text(json.dumps({"modulesContent": content(template.parent, STUBBORN="1")}))
    process = script()
    wait_for(lambda: len(events(template)) == 2, "both modules")
    running = processes(template)
    os.killpg(process.pid, signal.SIGINT)
    wait_for(lambda: "second ends" in events(template), "the first, which waits for the stubborn one")
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=9)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "Task was destroyed" not in said
    assert not any(each.alive for each in running.values())


def test_a_folder_holds_one_simulator(template: Path, script: Callable[[], subprocess.Popen[str]]) -> None:
    """The error of the second names the pid of the first, which keeps running."""
    process = script()
    with pytest.raises(SimulatorError, match=f"pid {process.pid}"), Simulator(settings(template)):
        pass
    assert processes(template)["hub"].alive


def test_addresses_and_keys_stay_with_the_folder(template: Path) -> None:
    """They are the same after a restart of the simulator."""
    kept = []
    for _ in range(2):
        with Simulator(settings(template)) as simulator:
            kept.append((simulator.endpoints, simulator.connection_string))
    assert kept[0] == kept[1]


def test_a_long_folder_with_spaces_works(template: Path) -> None:
    """200 characters are too long for a unix socket, so sockets are in another folder."""
    folder = template.parent / ("long path " * 20)
    with Simulator(settings(template, folder=folder)) as simulator:
        simulator.start_modules()
        wait_for(lambda: (folder / "modules" / "second.environment").exists(), "the modules")


def test_a_taken_address_is_named(template: Path) -> None:
    """One line names address, port, holder and cure."""
    hub, gateway = free_addresses(2, (8883, 8443))
    asked = settings(template, addresses=Addresses(hub, gateway))
    with (
        socket.create_server((gateway, 8883)),
        pytest.raises(
            SimulatorError, match=rf"{gateway}:8883 cannot be used: .*pid {os.getpid()}.*; stop that"
        ),
        Simulator(asked),
    ):
        pass
    same = settings(template, addresses=Addresses(hub, hub))
    with pytest.raises(SimulatorError, match="need two addresses"), Simulator(same):
        pass


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"leave_out": frozenset({"frist"})}, "has no module 'frist'; it has first, second"),
        ({"template": Path("nowhere.json")}, "nowhere.json: cannot be read"),
    ],
)
def test_a_bad_start_leaves_nothing(template: Path, changes: dict[str, Any], said: str) -> None:
    """The error is one line; no process, socket or lock remains."""
    with pytest.raises(SimulatorError, match=said), Simulator(settings(template, **changes)):
        pass
    with Simulator(settings(template)):
        pass


def test_a_hub_that_cannot_start_names_the_reason(template: Path) -> None:
    """The last line of the hub's log is the error."""
    folder = template.parent / "sim"
    folder.mkdir()
    (folder / "hub.sqlite").write_text("this is no database, and it is long enough to be looked at")
    with (
        pytest.raises(SimulatorError, match=r"hub: .*hub\.sqlite: .*move the file away"),
        Simulator(settings(template)),
    ):
        pass
