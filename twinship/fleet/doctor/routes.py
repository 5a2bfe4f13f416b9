"""Checks routes by edgeHub's grammar (ref 4.6), and the modules, inputs and outputs that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from twinship.fleet.doctor.catalogue import Finding
from twinship.fleet.doctor.document import HUB, Document, table
from twinship.fleet.doctor.form import SCHEMAS, minor_version
from twinship.fleet.doctor.own_modules import OwnModule
from twinship.simulator import lint

#: edgeHub's grammar ends after the sink and does not ask for the end of the text, so it ignores the rest.
_AFTER_SINK = re.compile(
    r"""^(?P<route>.*\bINTO\s+(?:\$upstream|BrokeredEndpoint\s*\(\s*(?:"[^"]*"|'[^']*')\s*\)))\s+(?P<rest>\S.*)$""",
    re.IGNORECASE | re.DOTALL,
)
_SOURCE = re.compile(r"\bFROM\s+(\S+)", re.IGNORECASE)
_ENDPOINT = re.compile(r"/messages/modules/(?P<module>[^/]+)/(?:outputs/(?P<output>[^/]+)/)?")


def check(document: Document, own: Mapping[str, OwnModule]) -> Iterator[Finding]:
    """All findings about routes. `own`: the modules of Twinship in this deployment."""
    hub = document.desired.get(HUB, {})
    version = minor_version(hub.get("schemaVersion"))
    settings = {"schemaVersion": version if version in SCHEMAS[HUB] else "1.1"}  # TW005 reports others
    yield from _store(document, hub.get("storeAndForwardConfiguration"), settings)
    parsed: dict[str, lint.Route] = {}
    refused = False
    for name, value in table(hub.get("routes")).items():
        try:
            route = lint.parse_route(name, value, settings)
        except lint.RouteError as error:
            if (cut := _AFTER_SINK.match(_text(value))) is None:
                yield document.found("TW101", str(error), HUB, "routes", name)
                refused = True
                continue
            cause = f"route {name!r}: edgeHub ignores {cut['rest'][:60]!r}"
            yield document.found("TW102", cause, HUB, "routes", name)
            route = _or_none(name, cut["route"], settings)
        if route is None:
            continue
        parsed[name] = route
        source = _source(_text(value))
        if _matches_nothing(source):
            cause = f"route {name!r}: {source!r} matches no message"
            yield document.found("TW108", cause, HUB, "routes", name)
        else:
            yield from _names(document, name, route, own)
    if document.whole and not refused:
        yield from _outputs(document, parsed, own)


def _or_none(name: str, text: str, settings: Mapping[str, object]) -> lint.Route | None:
    try:
        return lint.parse_route(name, text, settings)
    except lint.RouteError:
        return None


def _text(value: object) -> str:
    return str(table(value).get("route", "")) if isinstance(value, dict) else str(value)


def _store(document: Document, section: object, settings: Mapping[str, object]) -> Iterator[Finding]:
    if section is None:
        return
    try:
        probe = {**settings, "schemaVersion": "1.1", "storeAndForwardConfiguration": section}
        lint.parse_route("x", "FROM /* INTO $upstream", probe)
    except lint.RouteError as error:
        yield document.found("TW109", str(error), HUB, "storeAndForwardConfiguration")


def _names(
    document: Document, name: str, route: lint.Route, own: Mapping[str, OwnModule]
) -> Iterator[Finding]:
    known = {module.name.casefold() for module in document.modules()}
    source, sink = _ENDPOINT.match(route.source), route.sink.module
    named = {module for module in (source and source["module"], sink) if module}
    for module in sorted(named):
        if document.whole and module.casefold() not in known:
            cause = f"route {name!r} names module {module!r}"
            yield document.found("TW103", cause, HUB, "routes", name)
    folded = {module.casefold(): each for module, each in own.items()}
    if sink and (target := folded.get(sink.casefold())) and route.sink.input not in target.inputs:
        cause = f"route {name!r}: {sink!r} has no input {route.sink.input!r}, only {', '.join(target.inputs)}"
        yield document.found("TW104", cause, HUB, "routes", name)
    if source and source["output"] and (sender := folded.get(source["module"])):
        output = source["output"]
        if output not in map(str.lower, sender.outputs):
            cause = f"route {name!r}: there is no output {output!r}, only {', '.join(sender.outputs)}"
            yield document.found("TW105", cause, HUB, "routes", name)


def _source(text: str) -> str:
    match = _SOURCE.search(text)
    return match[1] if match else ""


def _matches_nothing(source: str) -> bool:
    """Whether a `*` is not the last part alone: edgeHub compares it as a character."""
    *parents, last = source.strip("/").split("/")
    return any("*" in part for part in parents) or ("*" in last and last != "*")


def _outputs(
    document: Document, routes: Mapping[str, lint.Route], own: Mapping[str, OwnModule]
) -> Iterator[Finding]:
    for module, each in own.items():
        sources = {output: f"/messages/modules/{module}/outputs/{output}" for output in each.outputs}
        for output in (output for output in each.outputs if output not in each.optional):
            if not any(lint.takes(route, sources[output]) for route in routes.values()):
                yield document.found("TW106", f"output {output!r} of {module!r} has no route", HUB, "routes")
        for name, route in routes.items():
            if route.sink.module is not None:
                continue
            taken = [repr(one) for one in each.frames if lint.takes(route, sources[one], always=True)]
            if taken:
                cause = f"route {name!r} sends {' and '.join(taken)} of {module!r} upstream"
                yield document.found("TW107", cause, HUB, "routes", name)
