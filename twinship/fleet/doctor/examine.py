"""The pure core of `twinship doctor`: a project in, findings out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twinship.fleet.doctor import containers, environment, form, images, own_modules, routes, twins
from twinship.fleet.doctor.catalogue import Finding, Severity, finding
from twinship.fleet.doctor.document import Document, Unreadable, read
from twinship.fleet.doctor.project import EnvFile, HubAnswer, Project

MAX_CLOCK_S = 300.0  # IoT Hub allows five minutes for the clocks of devices


@dataclass(frozen=True)
class Report:
    """The findings, and the variables without a value where that is no fault."""

    findings: tuple[Finding, ...]
    unset: tuple[str, ...] = ()

    @property
    def errors(self) -> int:
        """The number of errors."""
        return sum(each.rule.severity is Severity.ERROR for each in self.findings)


def examine(project: Project) -> Report:
    """Check everything that the project names.

    Without an env file, or with that of a simulator, no variable counts as missing.
    """
    found = [*environment.check(project), *_hub(project.hub, project.env)]
    unset: dict[str, Finding] = {}
    complete = environment.needs_all_variables(project)
    try:
        document = read(project.file, project.manifest, project.environment)
    except Unreadable as error:
        found.append(error.finding)
    else:
        found += _document(document, project)
        unset = dict(images.unset(document, project))
        if complete:
            found += unset.values()
    order = sorted(found, key=lambda each: (each.file != project.file, each.file, each.line, each.rule.id))
    return Report(tuple(order), () if complete else tuple(sorted(unset)))


def _document(document: Document, project: Project) -> Iterator[Finding]:
    own = own_modules.own_modules(document, project)
    yield from form.check(document)
    yield from images.check(document, project)
    yield from images.unfilled(document, project, environment.unfilled(project.environment))
    yield from containers.check(document, project)
    yield from routes.check(document, own)
    yield from twins.check(document)
    yield from own_modules.check(document, project, own)


def _hub(answer: HubAnswer | None, env: EnvFile | None) -> Iterator[Finding]:
    if answer is None:
        return
    line = env.line("IOTHUB_CONNECTION_STRING") if env else 0
    place = env.name if env and line else "environment"
    if answer.ahead_s is not None and abs(answer.ahead_s) > MAX_CLOCK_S:
        side = "ahead of" if answer.ahead_s > 0 else "behind"
        cause = f"this machine is {abs(answer.ahead_s) / 60:,.0f} minutes {side} the hub"
        yield finding("TW502", place, line, cause)
    if answer.rule:
        yield finding(answer.rule, place, line, answer.error.partition("; cure:")[0])
