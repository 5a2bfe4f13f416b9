"""keys, deploy, publish, status, rollback, benchmark: the operator's commands for any hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinship.cli import checks
from twinship.cli.options import (
    DOT_ENV,
    Condition,
    Device,
    EnvFile,
    Fleet,
    Json,
    Key,
    Module,
    Template,
    app,
    choice_of,
    device_of,
    hub_of,
    path_option,
    refuse_condition_alone,
)
from twinship.cli.show import draw, plain, say, say_json, warn
from twinship.project import chosen_manifest

if TYPE_CHECKING:
    from twinship.fleet.page import Page
    from twinship.fleet.rollout import RollOut

keys_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Signing keys.")
app.add_typer(keys_app, name="keys")


@keys_app.command("new")
def keys_new() -> None:
    """Make a signing key."""
    from twinship.fleet import keys

    say(f"key {keys.new(keys.keys_folder(os.environ)).key_id}; next: twinship keys show --env-file .env")


@keys_app.command("show")
def keys_show(
    env_file: Annotated[
        Path | None,
        path_option(checks.file_to_write, "Also write MODEL_TRUSTED_KEYS into this file.", "--env-file"),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the signing keys, without their private parts."""
    from twinship.fleet import keys

    folder = keys.keys_folder(os.environ)
    found = keys.show(folder)
    if env_file is not None:
        keys.write_trusted_keys(folder, env_file)
    if as_json:
        say_json([plain(key) for key in found])
        return
    draw(
        ("id", "public", "made", "state"),
        [(key.key_id, key.public, key.created, "retired" if key.retired else "trusted") for key in found],
    )
    if env_file is not None:
        say(f"MODEL_TRUSTED_KEYS written to {env_file}; next: twinship deploy")


@keys_app.command("retire")
def keys_retire(key_id: Annotated[str, typer.Argument(help="The id that keys show prints.")]) -> None:
    """Retire a key: devices stop trusting it at the next deploy."""
    from twinship.fleet import keys

    key = keys.retire(keys.keys_folder(os.environ), key_id)
    say(f"key {key.key_id} is retired; next: twinship keys show --env-file .env, then twinship deploy")


@app.command("deploy")
def deploy_command(
    template: Template = None,
    device: Device = None,
    create: Annotated[
        bool, typer.Option("--create", help="Create the device if the hub does not have it.")
    ] = False,
    deployment: Fleet = None,
    target_condition: Condition = "",
    priority: Annotated[int, typer.Option(min=0, help="Priority of the automatic deployment.")] = 0,
    print_content: Annotated[
        bool, typer.Option("--print", help="Print the content for az, without passwords, and stop.")
    ] = False,
    env_file: EnvFile = DOT_ENV,
    as_json: Json = False,
) -> None:
    """Set a device's modules, routes and twins from the manifest."""
    from twinship.fleet import connection, deploy, rollout

    refuse_condition_alone(deployment, target_condition)
    manifest = chosen_manifest(template)
    # --env-file may name only a hub (the simulator's service.env): the manifest's variables are in .env.
    variables = connection.read_env_file(DOT_ENV) | connection.settings(os.environ, env_file)
    if print_content:
        say_json(deploy.content_without_passwords(manifest, variables))
        return
    if deployment is not None:
        targeting = rollout.Targeting(deployment, target_condition, priority)
        _print_roll_out(deploy.deploy_base(hub_of(env_file), manifest, variables, targeting), as_json)
        return
    result = deploy.deploy(hub_of(env_file), manifest, variables, device_of(device, env_file), create=create)
    if as_json:
        say_json(result.to_json())
        return
    draw(("module", "image"), list(result.images.items()))
    say(f"deployed to {result.device} on {result.hub}; routes: {', '.join(result.routes)}")
    if result.undefined:
        say(f"not set, so not replaced: {', '.join(result.undefined)}; cure: set them in .env")
    for module in result.unassigned:
        say(f"{module} keeps running its model, but its twin names none now; next: twinship publish")


def _print_roll_out(done: RollOut, as_json: bool) -> None:
    if as_json:
        say_json(done.to_json())
        return
    say(f"deployment {done.configuration} {done.how} on {done.hub}: {done.targeting.condition}")
    if done.replaced:
        say(f"replaced: {', '.join(done.replaced)}")


@app.command("publish")
def publish_command(
    model: Annotated[
        Path,
        typer.Argument(
            parser=checks.file_to_read(checks.MAX_MODEL_BYTES),
            help="An artefact, the model.tflite of twinship train.",
        ),
    ],
    device: Device = None,
    module: Module = "inference",
    key: Key = None,
    url: Annotated[
        str | None,
        typer.Option(callback=checks.filled, help="The https address where you host the artefact."),
    ] = None,
    store: Annotated[str | None, typer.Option(help="Upload the artefact: blob or simulator.")] = None,
    container: Annotated[
        str, typer.Option(callback=checks.container_name, help="Container of the blob store.")
    ] = "models",
    valid_days: Annotated[
        float,
        typer.Option(callback=checks.finite, min=0, help="Days for which the blob's address is valid."),
    ] = 30.0,
    deployment: Fleet = None,
    target_condition: Condition = "",
    priority: Annotated[
        int, typer.Option(min=0, help="Priority of the automatic deployment; higher than the manifest's.")
    ] = 10,
    wait: Annotated[
        float,
        typer.Option(
            callback=checks.finite, min=0, help="Seconds to wait for the device's verdict; 0: do not wait."
        ),
    ] = 120.0,
    print_patch: Annotated[
        bool, typer.Option("--print", help="Print the twin patch for az or the portal, and stop.")
    ] = False,
    env_file: EnvFile = DOT_ENV,
    as_json: Json = False,
) -> None:
    """Ship a model by module twin and wait until it answers frames."""
    from twinship.fleet import connection, keys, publish, rollout, signed_artefact
    from twinship.fleet.blob_store import BlobOptions

    refuse_condition_alone(deployment, target_condition)
    variables = connection.settings(os.environ, env_file)
    kind = choice_of(signed_artefact.StoreKind, "--store", store)
    chosen = signed_artefact.choose_store(url, kind, variables, BlobOptions(container, valid_days))
    signing = keys.signing_key(keys.keys_folder(os.environ), key)
    if print_patch:
        signed = signed_artefact.sign(model, signing, chosen)
        layered = {"modulesContent": signed_artefact.layer(signed, module)}
        say_json({"properties": {"desired": signed.patch()}} if deployment is None else layered)
        return
    if deployment is not None:
        targeting = rollout.Targeting(deployment, target_condition, priority)
        _print_roll_out(
            publish.publish_layer(hub_of(env_file), model, signing, module, targeting, store=chosen), as_json
        )
        return
    result = publish.publish(
        hub_of(env_file),
        model,
        signing,
        device_of(device, env_file),
        module,
        store=chosen,
        wait_s=wait,
        until_active=False,
        progress=warn,
    )
    if as_json:
        say_json(result.to_json())
    if wait and not result.ok:
        warn(f"twinship: {result.ref} is not in use: {result.verdict.state} after {result.waited_s:.0f} s")
        raise typer.Exit(1)


@app.command("status")
def status_command(
    device: Device = None,
    watch: Annotated[bool, typer.Option("--watch", help="Print each change, until Ctrl-C.")] = False,
    dashboard: Annotated[
        bool,
        typer.Option("--dashboard", help="Print the address of the dashboard's page, with its token."),
    ] = False,
    env_file: EnvFile = DOT_ENV,
    as_json: Json = False,
) -> None:
    """Show a device's modules: model, desired model, state, errors."""
    import time

    from twinship.fleet import page, status

    hub, name = hub_of(env_file), device_of(device, env_file)
    if dashboard and watch:
        raise typer.BadParameter("--dashboard prints one address; cure: leave out --watch")
    if dashboard:
        _print_page(page.find(hub, name, env_file), as_json)
        return
    found = status.changes(
        lambda: status.status(hub, name),
        pause=lambda: time.sleep(2),
        on_unavailable=lambda error: warn(f"twinship: {error}"),
    )
    for one in found:
        if as_json:
            say_json(one.to_json(), indent=None if watch else 2)
        else:
            draw(status.COLUMNS, list(one.rows()))
        if not watch:
            return


def _print_page(found: Page, as_json: bool) -> None:
    if as_json:
        say_json(found.to_json())
    else:
        say(found.url)


@app.command("rollback")
def rollback_command(
    device: Device = None, module: Module = "inference", env_file: EnvFile = DOT_ENV, as_json: Json = False
) -> None:
    """Return to the previous model, which the device still has. The present one is not tried again."""
    from twinship.fleet import rollback

    done = rollback.rollback(hub_of(env_file), device_of(device, env_file), module)
    if as_json:
        say_json(done.to_json())
        return
    model = f"{done.model} (sha256 {done.model.sha256[:12]})"
    if done.not_seen:
        say(f"{done.device}/{done.module} was set to {model}; not seen that it answers: {done.not_seen}")
    else:
        say(f"{done.device}/{done.module} runs {model} now and answered a frame")


@app.command("benchmark")
def benchmark_command(
    device: Device = None,
    module: Module = "inference",
    queries: Annotated[int, typer.Option(min=1, help="Number of invokes, one after the other.")] = 1024,
    seconds: Annotated[
        float,
        typer.Option(
            callback=checks.finite, min=0.001, help="Stop after this time, even with fewer invokes."
        ),
    ] = 10.0,
    out: Annotated[
        Path | None, path_option(checks.file_to_write, "Write the figures to this file, as JSON.")
    ] = None,
    env_file: EnvFile = DOT_ENV,
    as_json: Json = False,
) -> None:
    """Measure the running model on the device, without transport."""
    from twinship.fleet import methods
    from twinship.fleet.service import ServiceHub

    with ServiceHub(hub_of(env_file)) as hub:
        answer = methods.invoke(
            hub,
            device_of(device, env_file),
            module,
            "benchmark",
            {"queries": queries, "seconds": seconds},
            timeout_s=seconds + methods.START_S,
        )
    found = methods.accepted(answer, module, "benchmark")
    figures = None if as_json else methods.benchmark_figures(found, module)
    if figures is None:
        say_json(found)
    else:
        for line in figures.head:
            say(line)
        draw(methods.BENCHMARK_COLUMNS, [figures.row])
    if out is not None:  # last: the figures are on the screen, even if the disk is full
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=2) + "\n")
