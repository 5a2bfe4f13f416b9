"""Targets with state: the whole service API, and the hub's side of a connected module.

Each has a hub in a folder of its own, and a new one after FRESH_AFTER cases, so that it stays small.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import json
import logging
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, NamedTuple
from unittest.mock import Mock

from tests.fuzz.target import Case, Promised, check, parts, text_of

FRESH_AFTER = 200  # cases
MAX_TURNS = 30  # of the event loop: an answer that needs more waits for a time-out
NOW = 1_700_000_000.0


class Folder:
    """A new empty folder each time; the one before is removed, and the last one at the end of the process."""

    def __init__(self) -> None:
        self._path: Path | None = None
        atexit.register(self._remove)

    def renewed(self) -> Path:
        self._remove()
        self._path = Path(mkdtemp(prefix="fuzz-"))
        return self._path

    def _remove(self) -> None:
        if self._path is not None:
            rmtree(self._path, ignore_errors=True)


class LoggedError(logging.Handler):
    """Keeps the exception that the service API logs when it answers with 500."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.raised: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.raised = record.exc_info[1] if record.exc_info else None


def client() -> tuple[Case, Promised]:
    """Packets of a connected module: the hub acknowledges each PUBLISH with QoS 1 and stays connected."""
    from tests.unit.twinship.simulator.edge import Edge, into
    from twinship.simulator.mqtt.connection import ALLOWED, PacketReader, State
    from twinship.simulator.mqtt.fields import ProtocolError
    from twinship.simulator.mqtt.packets import Disconnect, Packet, Publish

    folder, cases = Folder(), itertools.count()
    edge: Edge | None = None
    sent = ALLOWED[State.OPEN] - {Disconnect}

    def fresh() -> Edge:
        edge = Edge(folder.renewed())
        edge.create("a", "b")
        edge.route(all=into("b"), back=into("a", source="/messages/modules/b"))
        return edge

    def read(stream: bytes) -> list[Packet]:
        packets = []
        with contextlib.suppress(ProtocolError):
            for packet in PacketReader().feed(stream):
                packets.append(packet)
        return [each for each in packets if type(each) in sent and getattr(each, "qos", 0) < 2]

    def case(data: bytes) -> None:
        nonlocal edge
        if edge is None or not next(cases) % FRESH_AFTER:
            if edge is not None:
                asyncio.run(edge.store.close())
            edge = fresh()
        module = edge.connect("a", clean=True)
        packets = read(data)
        for packet in packets:
            module.receive(packet)
        check(module.link.closed is None, f"the hub closed the connection: {module.link.closed}")
        published = [each.packet_id for each in packets if isinstance(each, Publish) and each.qos]
        check(module.acknowledged == published, "a PUBLISH without its PUBACK")
        module.drop()

    return case, ()


def http() -> tuple[Case, Promised]:
    """Method and path, headers, body, answered by the whole service API without sockets.

    A request without an Authorization header gets a valid token. The status is below 500, 501 (not
    supported) or 504 (no answer), and an error is JSON with its reason.
    """
    from aiohttp import web
    from aiohttp.http import HttpVersion11, RawRequestMessage
    from aiohttp.streams import EMPTY_PAYLOAD
    from multidict import CIMultiDict, CIMultiDictProxy
    from yarl import URL

    from tests.unit.twinship.simulator.service_api.test_app import EDGE, HUB, KEY, Methods
    from twinship.simulator import sas
    from twinship.simulator.identity import Identity
    from twinship.simulator.iot_hub.registry import NotFound, Registry
    from twinship.simulator.service_api.app import service_api
    from twinship.simulator.store import Store

    class Service(NamedTuple):
        runner: web.AppRunner
        store: Store
        registry: Registry

    token = sas.sign(KEY, HUB, int(NOW) + 86_400, "iothubowner")
    folder, cases, logged = Folder(), itertools.count(), LoggedError()
    loop = asyncio.new_event_loop()
    idle = Mock()  # of protocol, writer and task, which no handler uses
    service: Service | None = None
    logger = logging.getLogger("twinship.simulator.service_api")
    logger.addHandler(logged)
    logger.propagate = False

    async def fresh() -> Service:
        store = Store(folder.renewed() / "hub.sqlite")
        registry = Registry(store, HUB, lambda: NOW)
        runner = web.AppRunner(service_api(registry, Methods(), {"iothubowner": [KEY]}), access_log=None)
        await runner.setup()
        return Service(runner, store, registry)

    def restore(registry: Registry) -> None:
        """Create again what a case before this one deleted."""
        for identity, body in ((EDGE, {"capabilities": {"iotEdge": True}}), (Identity("edge", "camera"), {})):
            try:
                registry.get(identity)
            except NotFound:
                registry.create(identity, body)

    def request_of(data: bytes) -> web.Request | None:
        line, fields, body = parts(data, 3)
        method, _, path = text_of(line).partition(" ")
        pairs = (each.partition(":") for each in text_of(fields).splitlines())
        headers = {name: value.strip() for name, colon, value in pairs if name and colon}
        headers = {"Authorization": token, **headers}
        address = path if "?" in path else f"{path}?api-version=2021-04-12"
        try:
            url = URL(address)
        except ValueError:  # aiohttp answers this itself
            return None
        given = CIMultiDictProxy(CIMultiDict(headers))
        head = RawRequestMessage(method, address, HttpVersion11, given, (), False, None, False, False, url)
        request = web.Request(head, EMPTY_PAYLOAD, idle, idle, idle, loop)
        request._read_bytes = body
        return request

    async def answered(service: Service, request: web.Request) -> web.Response | None:
        """The answer; None if none comes without waiting."""
        restore(service.registry)
        task = asyncio.ensure_future(service.runner.app._handle(request))
        for _ in range(MAX_TURNS):
            if task.done():
                break
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, web.HTTPException):
            response = await task
            assert isinstance(response, web.Response)
            return response
        return None

    def case(data: bytes) -> None:
        nonlocal service
        if service is None or not next(cases) % FRESH_AFTER:
            if service is not None:
                loop.run_until_complete(service.runner.cleanup())
                loop.run_until_complete(service.store.close())
            service = loop.run_until_complete(fresh())
        request = request_of(data)
        if request is None or not request.path.startswith("/"):
            return
        logged.raised = None
        response = loop.run_until_complete(answered(service, request))
        if logged.raised is not None:
            raise logged.raised
        if response is None:
            return
        check(response.status < 500 or response.status in (501, 504), f"status {response.status}")
        if response.status >= 400:
            shown: dict[str, Any] = json.loads(response.body)  # type: ignore[arg-type]
            check(bool(shown.get("Message") or shown["errors"]), "an error without its reason")

    return case, ()
