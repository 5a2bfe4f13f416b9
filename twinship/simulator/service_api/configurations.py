"""/configurations of the service API (ref 5.2, 5.3): automatic deployments and their metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from twinship.simulator.common.times import iso_time
from twinship.simulator.common.tokens import ExpressionError
from twinship.simulator.iot_hub.configuration import Configuration, compile_target
from twinship.simulator.iot_hub.deployments import MOST_CONFIGURATIONS, Deployments
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid
from twinship.simulator.iot_hub.query.language import parse_query
from twinship.simulator.iot_hub.twin_views import TwinViews
from twinship.simulator.service_api.requests import Route, if_match, json_object, whole_number


class ConfigurationsApi:
    """Handlers for configurations. Each request computes the metrics anew."""

    def __init__(self, deployments: Deployments, views: TwinViews) -> None:
        self._deployments = deployments
        self._views = views

    def routes(self) -> list[Route]:
        """Method, path and handler of each route."""
        one = "/configurations/{configuration}"
        return [
            ("GET", "/configurations", self.list),
            ("POST", "/configurations/testQueries", self.test_queries),
            ("GET", one, self.get),
            ("PUT", one, self.put),
            ("DELETE", one, self.delete),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """At most `top` configurations, sorted by id."""
        top = whole_number(request, "top", default=MOST_CONFIGURATIONS)
        return web.json_response([self._shown(each) for each in self._deployments.all()[:top]])

    async def get(self, request: web.Request) -> web.Response:
        """One configuration."""
        return web.json_response(self._shown(self._deployments.get(_id(request))))

    async def put(self, request: web.Request) -> web.Response:
        """Create; with If-Match, update everything except the content."""
        id, body = _id(request), await json_object(request)
        if body.get("id", id) != id:
            raise ArgumentInvalid(f"the body has another configuration id than the address, {id!r}")
        if (etag := if_match(request)) is None:
            configuration = self._deployments.create(id, body)
        else:
            configuration = self._deployments.update(id, body, if_match=etag)
        return web.json_response(self._shown(configuration))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete; If-Match is optional."""
        self._deployments.delete(_id(request), if_match=if_match(request))
        return web.Response(status=204)

    async def test_queries(self, request: web.Request) -> web.Response:
        """The errors of a target condition and of metric queries; empty if all are valid."""
        body = await json_object(request)
        queries = body.get("customMetricQueries") or {}
        if not isinstance(queries, Mapping):
            raise ArgumentInvalid("customMetricQueries must be an object")
        errors = {name: error for name, text in queries.items() if (error := _error(parse_query, text))}
        condition = _error(compile_target, body.get("targetCondition") or "")
        return web.json_response(
            {"targetConditionError": condition or None, "customMetricQueryErrors": errors}
        )

    def _shown(self, configuration: Configuration) -> dict[str, Any]:
        return {
            "id": configuration.id,
            "schemaVersion": "1.0",
            "labels": dict(configuration.labels),
            "content": {"modulesContent": configuration.content},
            "targetCondition": configuration.target_condition,
            "createdTimeUtc": iso_time(configuration.created),
            "lastUpdatedTimeUtc": iso_time(configuration.updated),
            "priority": configuration.priority,
            "systemMetrics": self._counted(_system_queries(configuration)),
            "metrics": self._counted(configuration.metrics),
            "etag": configuration.etag,
        }

    def _counted(self, queries: Mapping[str, str]) -> dict[str, Any]:
        results = {name: len(self._views.rows(parse_query(text))) for name, text in queries.items() if text}
        return {"results": dict.fromkeys(queries, 0) | results, "queries": dict(queries)}


def _system_queries(configuration: Configuration) -> dict[str, str]:
    """The metrics that IoT Hub defines for an edge deployment; each counts the rows of its query."""
    agents = "select deviceId from devices.modules where moduleId = '$edgeAgent'"
    applied = f"{agents} and configurations.[[{configuration.id}]].status = 'Applied'"
    code = "properties.reported.lastDesiredStatus.code"
    return {
        "targetedCount": configuration.target_query,
        "appliedCount": applied,
        "reportedSuccessfulCount": f"{applied} and {code} = 200 "
        "and properties.desired.$version = properties.reported.lastDesiredVersion",
        "reportedFailedCount": f"{applied} and {code} != 200",
    }


def _error(compile: Callable[[str], object], text: object) -> str:
    if not isinstance(text, str):
        return "must be text"
    try:
        compile(text)
    except ExpressionError as error:
        return str(error)
    return ""


def _id(request: web.Request) -> str:
    return request.match_info["configuration"]
