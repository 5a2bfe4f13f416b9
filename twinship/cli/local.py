"""simulate, fault, demo: an IoT Edge device on this machine."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from twinship.cli import checks
from twinship.cli.options import (
    BUILD,
    DEMO_MODELS,
    DOT_ENV,
    EXIT_INTERRUPTED,
    SIMULATOR,
    Dataset,
    EnvFile,
    Json,
    Template,
    app,
    path_option,
)
from twinship.cli.show import draw, progress, say, say_json, warn
from twinship.project import DASHBOARD_MANIFEST, chosen_manifest


@app.command("simulate")
def simulate_command(
    template: Template = None,
    folder: Annotated[
        Path, path_option(checks.folder_to_write, "Folder for state, logs, certificates and upstream.jsonl.")
    ] = SIMULATOR,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            "--except",
            callback=checks.module_names,
            help="Do not start this module, print its environment; repeatable.",
        ),
    ] = None,
    delivery_window: Annotated[
        int, typer.Option(help="Messages sent to a module without a PUBACK.", min=1)
    ] = 1,
    consumer_group: Annotated[
        list[str] | None,
        typer.Option(
            callback=checks.consumer_groups,
            help="Consumer group of the event endpoint, besides $Default; repeatable.",
        ),
    ] = None,
    plain_amqp: Annotated[
        bool,
        typer.Option("--plain-amqp", help="AMQP without TLS too, on port 5672, for UseDevelopmentEmulator."),
    ] = False,
    twin_change_events: Annotated[
        bool, typer.Option("--twin-change-events", help="Send changes of twins to the event endpoint too.")
    ] = False,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Run IoT Hub, edgeHub and the modules locally, until Ctrl-C."""
    from twinship.demo.page import page_address
    from twinship.fleet import connection
    from twinship.simulator import Simulator, SimulatorSettings

    _refuse_foreign_files(folder)
    settings = SimulatorSettings(
        chosen_manifest(template),
        folder,
        connection.settings(os.environ, env_file),
        leave_out=frozenset(leave_out or ()),
        delivery_window=delivery_window,
        hub_options=(
            *(f"--consumer-group={name}" for name in consumer_group or ()),
            *(("--plain-amqp",) if plain_amqp else ()),
            *(("--twin-change-events",) if twin_change_events else ()),
        ),
    )
    with Simulator(settings) as simulator:
        simulator.start_modules()
        for name in leave_out or ():
            environment = simulator.module_environment(name)
            for variable, value in environment.items():
                say(f"export {variable}={shlex.quote(value)}")
            warn(f"{name} in a container: {_docker_run(simulator.write_env_file(name), environment)} IMAGE")
        if page := page_address(settings):
            warn(f"dashboard: {page}")
        warn(f"ready: --env-file {simulator.endpoints.service_env}; Ctrl-C stops it")
        signal.pause()


def _docker_run(env_file: Path, environment: Mapping[str, str]) -> str:
    """The command that starts a module's image beside the simulator; the image follows."""
    sockets = Path(environment["IOTEDGE_WORKLOADURI"].removeprefix("unix://")).parent
    mounts = (f"{sockets}:{sockets}", f"{environment['SSL_CERT_FILE']}:{environment['SSL_CERT_FILE']}:ro")
    options = [text for mount in mounts for text in ("--volume", mount)]
    return shlex.join(["docker", "run", "--network", "host", "--env-file", str(env_file), *options])


def _refuse_foreign_files(folder: Path) -> None:
    """Raise CannotUse unless the folder is new, empty or a simulator's: its files would lie among others."""
    from twinship.simulator import LOCK_FILE

    if folder.is_dir() and any(folder.iterdir()) and not (folder / LOCK_FILE).exists():
        raise checks.CannotUse(f"--folder {folder} contains other files; cure: name a new or empty folder")


@app.command("fault")
def fault_command(
    name: Annotated[
        str | None, typer.Argument(help="Name of the fault; without it, list all faults; off: end all.")
    ] = None,
    value: Annotated[str | None, typer.Argument(help="A number, or off.")] = None,
    folder: Annotated[
        Path, path_option(checks.folder_to_read, "Folder of the running simulator.")
    ] = SIMULATOR,
    as_json: Json = False,
) -> None:
    """List the faults of the simulator, or switch one on or off."""
    from twinship.simulator import ACTS, KNOBS, end_faults, fault_value, set_fault, show_faults

    if name is None:
        state = show_faults(folder)
    elif name == "off":
        state = end_faults(folder)
    elif name in KNOBS or name in ACTS:
        state = set_fault(folder, name, checks.finite(fault_value(value)))
    else:
        raise typer.BadParameter(f"there is no fault {name!r}; there are {', '.join([*KNOBS, *ACTS])}")
    if as_json:
        say_json(state)
        return
    on = state["faults"]
    rows = [(each, f"{on.get(each, 0):g}", knob.unit, knob.effect) for each, knob in KNOBS.items()]
    draw(("fault", "now", "unit", "effect"), [*rows, *((act, "", "", does) for act, does in ACTS.items())])


@app.command("demo")
def demo_command(
    frames: Annotated[int, typer.Option(help="Number of frames; 0: until Ctrl-C.", min=0)] = 300,
    fps: Annotated[float, typer.Option(callback=checks.finite, help="Frames per second.")] = 10.0,
    camera_folder: Annotated[
        Path | None, path_option(checks.folder_of_files, "Folder with your own pictures.")
    ] = None,
    camera_source: Annotated[
        str | None,
        typer.Option(envvar="CAMERA_SOURCE", help="scene:, file:PATH, v4l2:/dev/video0, rtsp://…, http://…"),
    ] = None,
    dataset: Dataset = "auto",
    template: Template = None,
    folder: Annotated[
        Path, path_option(checks.folder_to_write, "Folder for the results; emptied at start.")
    ] = BUILD / "demo",
    models: Annotated[Path, path_option(checks.folder_to_write, "Folder for the two models.")] = DEMO_MODELS,
    open_page: Annotated[
        bool, typer.Option("--open", help="Run the dashboard too, and open its page in a browser.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train two models, ship them by twin, account for every frame."""
    from rich.console import Console

    from camera_sim.settings import MAX_RATE, MIN_RATE
    from twinship.demo.folder import refuse_foreign_files
    from twinship.demo.models import ensure
    from twinship.demo.run import DemoSettings, Run
    from twinship.demo.show import Screen
    from twinship.fleet.deploy import read_manifest

    if not MIN_RATE <= fps <= MAX_RATE:
        raise typer.BadParameter(f"--fps {fps:g}: use {MIN_RATE:g} to {MAX_RATE:g} frames per second")
    source, source_folder = checks.camera_source(camera_source)
    manifest = chosen_manifest(template or (Path(DASHBOARD_MANIFEST) if open_page else None))
    refuse_foreign_files(folder)
    if models.resolve().is_relative_to(folder.resolve()):
        raise typer.BadParameter(f"--models {models} lies in --folder {folder}, which the demo empties")
    read_manifest(manifest, {})  # a training takes longer than to find that it cannot be deployed
    if open_page:
        _refuse_without_dashboard(manifest)
    screen = Screen(Console(stderr=as_json))
    data = ensure(models, dataset, camera_folder, progress())
    screen.step(f"data: {data.dataset}")
    if source and data.minimum_accuracy is not None:
        data = replace(data, minimum_accuracy=None)  # the models have never seen such pictures
    settings = DemoSettings(manifest, folder, frames, fps, source, source_folder, open_page)
    outcome = Run(settings, data, screen).run()
    if as_json:
        say_json(outcome.summary.to_json())
    screen.summary(outcome.summary, outcome.shortcomings)
    screen.step(f"figures: {folder / 'summary.json'}")
    if outcome.interrupted or outcome.shortcomings:
        raise typer.Exit(EXIT_INTERRUPTED if outcome.interrupted else 1)


def _refuse_without_dashboard(manifest: Path) -> None:
    """Raise BadParameter if there would be no page to open."""
    from twinship.demo.page import page_address
    from twinship.simulator import SimulatorSettings

    if not page_address(SimulatorSettings(manifest, manifest.parent, {})):
        raise typer.BadParameter(
            f"--open: {manifest.name} has no dashboard; cure: --template {DASHBOARD_MANIFEST}"
        )
