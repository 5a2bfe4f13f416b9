"""upstream.jsonl: what a line is; over kills nothing is lost, nothing is written twice."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.unit.twinship.simulator.edge import Edge, crash_image
from twinship.simulator.edge_hub import upstream
from twinship.simulator.routing.message import RoutedMessage

ROUTE = {"route": "FROM /messages/* INTO $upstream", "priority": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with room for its image beside it."""
    (folder := tmp_path / "folder").mkdir()
    return folder


def bodies(edge: Edge) -> list[object]:
    """The bodies of the lines so far."""
    return [line["Body"] for line in edge.upstream()]


def sends(edge: Edge, *numbers: int) -> None:
    """JSON messages of module a."""
    a = edge.connect("a")
    for number in numbers:
        a.send("o", b"%d" % number, "%24.ct=application%2Fjson&%24.ce=utf-8")


def an_edge(folder: Path) -> Edge:
    """An edge whose module a sends everything upstream."""
    edge = Edge(folder)
    edge.create("a")
    edge.route(up=ROUTE)
    return edge


def killed_after_writing(folder: Path, *numbers: int) -> Path:
    """Lines appended, and the process gone before it could note that down: what is left."""

    async def turn() -> Path:
        edge = Edge(folder)
        edge.route(up=ROUTE)
        sends(edge, *numbers)
        edge.store.commit()  # its callbacks append; what they write to the store is not committed
        return crash_image(folder, folder.with_name("image"))

    return asyncio.run(turn())


def test_lines_written_before_a_kill_are_not_written_again(folder: Path) -> None:
    """The file's own length tells which messages of the queue it already has."""
    sends(an_edge(folder), 1)
    edge = Edge(killed_after_writing(folder, 2, 3))
    assert bodies(edge) == [1, 2, 3]
    assert list(edge.store.messages()) == []
    edge.route(up=ROUTE)
    sends(edge, 4)
    assert bodies(edge) == [1, 2, 3, 4]


@pytest.mark.parametrize("torn_bytes", [1, 50, 300])
def test_a_torn_line_is_written_again_whole(folder: Path, torn_bytes: int) -> None:
    """Killed while it wrote: the rest of the queue follows, each once."""
    an_edge(folder)
    image = killed_after_writing(folder, 1, 2)
    path = image / "upstream.jsonl"
    os.truncate(path, path.stat().st_size - torn_bytes)
    assert bodies(Edge(image)) == [1, 2]


def test_a_message_stored_and_not_yet_written_is_written_after_the_start(folder: Path) -> None:
    """Killed between commit and append: it was PUBACKed, so it must leave."""
    an_edge(folder)
    image = killed_after_writing(folder, 1, 2)
    os.truncate(image / "upstream.jsonl", 0)
    assert bodies(Edge(image)) == [1, 2]


def test_a_file_that_somebody_removed_begins_anew(folder: Path) -> None:
    """No message is taken for written because the old file was longer."""
    sends(an_edge(folder), 1, 2)
    (folder / "upstream.jsonl").unlink()
    edge = Edge(folder)
    edge.route(up=ROUTE)
    sends(edge, 3)
    assert bodies(edge) == [3]


def test_a_full_disk_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored messages are acknowledged; their lines follow, in order, when there is room."""
    edge = an_edge(folder)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda *_: 0)
        sends(edge, 1, 2)
        edge.clock.advance(0.9)
        assert bodies(edge) == []
    edge.clock.advance(0.2)
    assert bodies(edge) == [1, 2]


def text_of(properties: dict[str, str], system: dict[str, str]) -> str:
    """What is kept of a message that carries these."""
    return upstream.head(RoutedMessage("/messages", properties, system, b""))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"a": [1, 2.50, 1e3]}', b'{"a": [1, 2.50, 1e3]}'),  # as the sender wrote it
        (b'{"a":1,"a":2}', b'{"a":1,"a":2}'),
        (b'"\\ud800"', b'"\\ud800"'),
        (b'{"a":\n1}', b'{"a":1}'),  # one message a line
        (b'{"a":\r1}', b'{"a":1}'),
        ('"ü"'.encode(), b'"\\u00fc"'),
        (b'\xef\xbb\xbf{"a":1}', b'{"a":1}'),
        ('{"a":1}'.encode("utf-16-le"), b'{"a":1}'),
        (b'{"a":NaN}', b'"eyJhIjpOYU59"'),  # no JSON, so base64 as any other body
        (b"-Infinity", b'"LUluZmluaXR5"'),
        (b'"a\tb"', b'"ImEJYiI="'),
        (b'{"a":1}}', b'"eyJhIjoxfX0="'),
        (b"", b'""'),
        (b"[" * 100_000, None),
    ],
)
def test_a_json_body_stands_in_its_line_as_it_is_if_it_can(body: bytes, shown: bytes | None) -> None:
    """Whatever it is, the line is one line of ASCII and JSON, and nothing in a body can end it early."""
    kept = text_of({"q": '"}},'}, {"contentType": "application/JSON", "contentEncoding": "UTF-8"})
    line = upstream.line("2026-01-01T00:00:00.000Z", kept, body)
    assert line.isascii()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    document = json.loads(line, parse_constant=pytest.fail)
    assert document["Properties"] == {"q": '"}},'}
    assert list(document) == ["EnqueuedTimeUtc", "Properties", "SystemProperties", "Body"]
    if shown is not None:
        assert line.endswith(b',"Body":' + shown + b"}\n")


@pytest.mark.parametrize("system", [{}, {"messageId": "7"}, {"messageId": '"}}'}])
def test_a_line_is_what_is_kept_of_the_message_the_time_and_the_body(system: dict[str, str]) -> None:
    """With system properties and without."""
    line = upstream.line("T", text_of({"a": "ü"}, system), b"\xff")
    assert json.loads(line) == {
        "EnqueuedTimeUtc": "T",
        "Properties": {"a": "ü"},
        "SystemProperties": {**system, "enqueuedTime": "T"},
        "Body": "/w==",
    }
