"""Checks `.env`: lines, permissions, the connection string, placeholders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from twinship.fleet import connection
from twinship.fleet.doctor.catalogue import Finding, finding
from twinship.fleet.doctor.project import EnvFile, Project

_SECRETS = ("SharedAccessKey=", "AccountKey=", "PASSWORD=")


def check(project: Project) -> Iterator[Finding]:
    """All findings about the file, and the connection string of the file or the environment."""
    env = project.env
    if env is not None:
        yield from _lines(env)
        if env.shared and any(secret in env.text for secret in _SECRETS):
            yield finding("TW401", env.name, 0, "it has secrets, and other users of this machine can read it")
    text = project.environment.get(connection.CONNECTION_VARIABLE, "")
    if text:
        line = env.line(connection.CONNECTION_VARIABLE) if env else 0
        place = env.name if env and line else "environment"
        try:
            connection.parse(text, None, place)
        except connection.NotConfigured as error:
            yield finding("TW402", place, line, str(error).partition("; cure:")[0])


def needs_all_variables(project: Project) -> bool:
    """Whether a variable without a value is a fault: there is an env file, and its hub is no simulator's."""
    if project.env is None:
        return False
    try:
        text = project.environment.get(connection.CONNECTION_VARIABLE, "")
        return not connection.parse(text, None, "").loopback
    except connection.NotConfigured:
        return True


def unfilled(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables whose value has a placeholder of the example → what is wrong."""
    refused = {}
    for name, value in variables.items():
        try:
            connection.refuse_placeholder(name, value)
        except connection.NotConfigured as error:
            refused[name] = str(error).partition("; cure:")[0]
    return refused


def _lines(env: EnvFile) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for number, text in enumerate(env.text.splitlines(), start=1):
        line = text.strip().removeprefix("export ")
        if not line or line.startswith("#"):
            continue
        name, equals, _ = line.partition("=")
        if not equals:  # the text may be a part of a secret, so it is not quoted
            yield finding("TW403", env.name, number, "the line has no '='")
        elif name.strip() in seen:
            cause = f"{name.strip()} is in line {seen[name.strip()]} too"
            yield finding("TW404", env.name, number, cause)
        seen[name.strip()] = number
