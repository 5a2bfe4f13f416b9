"""POST /devices/query (ref 5.2), and empty results for jobs and feedback, which the SDK requests too."""

from __future__ import annotations

import re

from aiohttp import web

from twinship.simulator.iot_hub.identity_document import ArgumentInvalid
from twinship.simulator.iot_hub.query.language import parse_query
from twinship.simulator.iot_hub.query.rows import page
from twinship.simulator.iot_hub.twin_views import TwinViews
from twinship.simulator.service_api.requests import Route, json_object

DEFAULT_ROWS = 100
MOST_ROWS = 1000


class QueryApi:
    """Answers queries from the current twins."""

    def __init__(self, views: TwinViews) -> None:
        self._views = views

    def routes(self) -> list[Route]:
        """Method, path and handler of each route."""
        return [
            ("POST", "/devices/query", self.query),
            ("GET", "/jobs/v2/query", self.jobs),
            ("GET", "/messages/serviceBound/feedback", self.feedback),
        ]

    async def query(self, request: web.Request) -> web.Response:
        """One page; the header x-ms-continuation is present if there is another page."""
        text = (await json_object(request)).get("query")
        if not isinstance(text, str):
            raise ArgumentInvalid("the body has no 'query' text")
        query = parse_query(text)
        result = page(
            text, self._views.rows(query), request.headers.get("x-ms-continuation"), _most_rows(request)
        )
        headers = {"x-ms-item-type": "twin" if query.columns is None else "raw"}
        if result.continuation is not None:
            headers["x-ms-continuation"] = result.continuation
        return web.json_response(list(result.rows), headers=headers)

    async def jobs(self, request: web.Request) -> web.Response:
        """No jobs; the SDK accepts only an object (statement 86)."""
        return web.json_response({"type": "deviceJob", "items": [], "continuationToken": None})

    async def feedback(self, request: web.Request) -> web.Response:
        """No feedback, because the simulator sends no cloud-to-device messages (statement 86)."""
        return web.Response(status=204)


def _most_rows(request: web.Request) -> int:
    text = request.headers.get("x-ms-max-item-count", str(DEFAULT_ROWS))
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise ArgumentInvalid("x-ms-max-item-count must be a whole number above 0")
    return min(int(text), MOST_ROWS)  # a page may have fewer rows than requested
