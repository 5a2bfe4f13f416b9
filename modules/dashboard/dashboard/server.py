"""Serves the page, and its view as server-sent events, on a thread of its own.

Every answer carries a Content-Security-Policy without inline code. Requests only read, except those below
`/control/`, which the twin must allow. Every page gets the same bytes, made at most four times a second and
only while a page is open; a slow page skips views.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from aiohttp import web

from dashboard import access
from dashboard.access import Access, Verdict
from dashboard.control import (
    CHANGES,
    HEADER,
    BadChange,
    Change,
    ChangeRequest,
    Outcome,
    payload_of,
    refusal,
)
from edgekit.clock import mono_ns
from edgekit.health_file import HealthFile

logger = logging.getLogger(__name__)

COOKIE: Final = "twinship-dashboard"
_FOREIGN: Final = "Only the page itself may read this.\n"
TICK_S: Final = 0.25
IDLE_S: Final = 1.0  # between two views without news: their ages grow
MAX_PAGES: Final = 8
WRITE_S: Final = 10.0  # for a page that does not read
STOP_S: Final = 1.0

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/render.js": ("render.js", "text/javascript"),
    "/control.js": ("control.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
#: The texts of verdicts that end a request.
_REFUSALS: Final = {
    Verdict.TOO_MANY: "Too many wrong tokens. Try again in a minute.\n",
    Verdict.FOREIGN_HOST: "Not served under this name; cure: open 127.0.0.1, or add it to DASHBOARD_HOSTS.\n",
}
#: What a visitor without a token may load: the form that asks for it.
_OPEN: Final = frozenset({"/style.css", "/icon.svg"})


@dataclass(frozen=True)
class Source:
    """What the server shows."""

    view: Callable[[], dict[str, Any]]  # called on the server's thread
    version: Callable[[], int]  # another number: the view has news
    picture: Callable[[str], bytes | None]  # the JPEG of a frame
    pages: Callable[[int], None]  # called when a page opens or closes


@dataclass(frozen=True)
class Changes:
    """What the page may change."""

    allowed: Callable[[], bool]  # now, by the twin
    make: Callable[[Change, Mapping[str, Any]], Outcome]  # blocks; called on a thread of its own


class Server:
    """One listening socket and its thread."""

    def __init__(
        self,
        listener: socket.socket,
        rules: Access,
        source: Source,
        health: HealthFile,
        changes: Changes,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listener = listener
        self._rules = rules
        self._source = source
        self._health = health
        self._changes = changes
        self._tls = tls
        self._files = {path: (_read(name), kind) for path, (name, kind) in FILES.items()}
        self._locked = _read("locked.html")
        self._pages = 0
        self._process = secrets.token_hex(8)  # a page sees by it that the module was restarted
        self._event = b""  # the newest view
        self._news = asyncio.Condition()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._changing = asyncio.Lock()
        self._thread = threading.Thread(target=self._run, name="dashboard-server", daemon=True)

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Close every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._guard], client_max_size=4_096)
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/events", self._events)
        app.router.add_get("/picture/{key:[A-Za-z0-9_-]{1,80}}", self._picture)
        app.router.add_post(f"/control/{{change:{'|'.join(CHANGES)}}}", self._control)
        for path in self._files:
            app.router.add_get(path, self._file)
        # No access log: the first visit has the token in its address.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_S)
        await runner.setup()
        await web.SockSite(runner, self._listener, ssl_context=self._tls).start()
        ticker = asyncio.create_task(self._tick())
        await self._stopping.wait()
        ticker.cancel()
        async with self._news:
            self._news.notify_all()  # open pages end their streams
        await runner.cleanup()

    async def _tick(self) -> None:
        """Make the view while a page is open; the sign of life always."""
        shown, shown_s = -1, 0.0
        while True:
            self._health.touch(mono_ns())
            await asyncio.sleep(TICK_S)
            now_s = self._loop.time()
            version = self._source.version()
            if self._pages and (version != shown or now_s - shown_s >= IDLE_S):
                shown, shown_s = version, now_s
                await self._publish()

    async def _publish(self) -> None:
        try:
            own = {"process": self._process, "control": self._changes.allowed()}
            view = json.dumps({**own, **self._source.view()}, separators=(",", ":"), allow_nan=False)
        except Exception:  # the page goes on with the next message
            logger.exception("view: not made")
            return
        async with self._news:
            self._event = f"data: {view}\n\n".encode()
            self._news.notify_all()

    # Requests

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        query = request.query.get("token", "")
        verdict = self._rules.decide(
            access.Request(
                host=request.headers.get("Host", ""),
                cookie=request.cookies.get(COOKIE, ""),
                query=query,
                bearer=request.headers.get("Authorization", "").removeprefix("Bearer "),
            ),
            self._loop.time(),
        )
        if verdict is Verdict.WELCOME:
            response = web.Response(status=verdict.value, headers={"Location": "/"})
            response.set_cookie(
                COOKIE,
                self._rules.cookie,
                httponly=True,
                samesite="Strict",
                path="/",
                secure=self._tls is not None,
            )
            return response
        if verdict is Verdict.ALLOWED or (verdict is Verdict.NO_TOKEN and request.path in _OPEN):
            answer: web.StreamResponse = await handler(request)
            return answer
        return self._refusal(verdict)

    def _refusal(self, verdict: Verdict) -> web.Response:
        if verdict is Verdict.NO_TOKEN:
            headers = {"WWW-Authenticate": "Bearer"}
            return web.Response(
                status=401, body=self._locked, content_type="text/html", charset="utf-8", headers=headers
            )
        return web.Response(status=verdict.value, text=_REFUSALS[verdict])

    async def _file(self, request: web.Request) -> web.Response:
        body, kind = self._files[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if _is_foreign(request):
            return web.Response(status=403, text=_FOREIGN)
        if self._pages >= MAX_PAGES:
            return web.Response(status=503, text=f"{MAX_PAGES} pages are open. Close one.\n")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._count_pages(1)
        try:
            await response.prepare(request)
            await self._send_views(response)
        except (ConnectionError, TimeoutError):
            pass  # the page is gone, or does not read
        finally:
            self._count_pages(-1)
        return response

    async def _picture(self, request: web.Request) -> web.Response:
        if _is_foreign(request):
            return web.Response(status=403, text=_FOREIGN)
        body = self._source.picture(request.match_info["key"])
        if body is None:
            return web.Response(status=404, text="This picture is not kept any more.\n")
        return web.Response(body=body, content_type="image/jpeg")

    async def _control(self, request: web.Request) -> web.Response:
        """Make one change; the answer is one line for the page."""
        if reason := refusal(_change_request(request), allowed=self._changes.allowed()):
            return web.Response(status=403, text=reason)
        if self._changing.locked():
            return web.Response(status=409, text="Another change is under way.")
        change = CHANGES[request.match_info["change"]]
        async with self._changing:
            try:
                payload = payload_of(change, await request.read())
            except BadChange as error:
                return web.Response(status=400, text=str(error))
            outcome = await self._loop.run_in_executor(None, self._changes.make, change, payload)
        return web.Response(status=200 if outcome.done else 502, text=outcome.text)

    def _count_pages(self, more: int) -> None:
        self._pages += more
        self._source.pages(self._pages)

    async def _send_views(self, response: web.StreamResponse) -> None:
        await response.write(b"retry: 2000\n\n")
        while True:
            async with self._news:
                if not self._stopping.is_set():
                    await self._news.wait()
                event = self._event
            if self._stopping.is_set():
                return
            async with asyncio.timeout(WRITE_S):
                await response.write(event)


def _change_request(request: web.Request) -> ChangeRequest:
    names = ("Host", "Origin", "Sec-Fetch-Site", HEADER)
    return ChangeRequest(*(request.headers.get(name, "") for name in names))


def _is_foreign(request: web.Request) -> bool:
    """Whether another site's page makes this request."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")


def listen(address: str, port: int) -> socket.socket:
    """Bind the socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=16)


def _read(name: str) -> bytes:
    return resources.files("dashboard").joinpath("page", name).read_bytes()


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.pop("Server", None)
