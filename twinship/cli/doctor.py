"""doctor: checks a deployment before it is deployed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinship.cli import checks
from twinship.cli.options import DOT_ENV, Json, Template, app, path_option
from twinship.cli.show import say, say_json, warn
from twinship.project import chosen_manifest

if TYPE_CHECKING:
    from twinship.fleet.doctor import Finding, Report


@app.command("doctor")
def doctor_command(
    template: Template = None,
    env_file: Annotated[
        Path,
        path_option(
            checks.file_to_read(checks.MAX_TEXT_BYTES, optional=True),
            "File of KEY=VALUE lines.",
            "--env",
            "--env-file",
        ),
    ] = DOT_ENV,
    model: Annotated[
        Path | None, path_option(checks.file_to_read(checks.MAX_MODEL_BYTES), "Artefact to publish.")
    ] = None,
    camera_folder: Annotated[Path | None, path_option(checks.folder_of_files, "Folder of pictures.")] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Also ask the hub: reachable, clock, rights, device.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check manifest, .env, routes, images and hub before you deploy."""
    from dataclasses import replace

    from twinship.fleet import connection, doctor

    if env_file != DOT_ENV and not env_file.exists():
        raise checks.CannotUse(f"{env_file} does not exist", param_hint="--env")
    project = doctor.read_project(
        chosen_manifest(template),
        env_file,
        os.environ,
        defaults=connection.read_env_file(DOT_ENV),  # as deploy does: --env may name only a hub
        model=model,
        pictures=camera_folder,
    )
    if online:
        device = connection.device_name(os.environ, env_file)
        project = replace(project, hub=doctor.ask_hub(connection.find(os.environ, env_file), device))
    report = doctor.examine(project)
    if as_json:
        say_json([each.to_json() for each in report.findings])
    else:
        for each in report.findings:
            _show(each)
        if not report.errors:
            say(_summary(report))
    if report.errors:
        warn(f"twinship: {_summary(report)}")
        raise typer.Exit(1)


def _show(found: Finding) -> None:
    rule = found.rule
    say(f"{found.place}: {rule.severity} {rule.id}: {rule.title}: {found.cause}")
    say(f"    cure: {rule.cure}" + (f" (see {rule.issue})" if rule.issue else ""))


def _summary(report: Report) -> str:
    from collections import Counter

    counts = Counter(each.rule.severity.value for each in report.findings)
    text = ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items())
    if report.unset:
        return f"{text or 'no findings'}; not set, so not checked: {', '.join(report.unset)}"
    return text or "no findings"
