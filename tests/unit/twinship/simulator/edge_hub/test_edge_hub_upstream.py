"""upstream.jsonl: the form of a line, and after a kill no line is lost or written twice."""

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
    """A folder inside tmp_path, so that its copy can lie beside it."""
    (folder := tmp_path / "folder").mkdir()
    return folder


def bodies(edge: Edge) -> list[object]:
    """The bodies of the lines so far."""
    return [line["Body"] for line in edge.upstream()]


def send(edge: Edge, *numbers: int) -> None:
    """Send JSON messages of module a."""
    a = edge.connect("a")
    for number in numbers:
        a.send("o", b"%d" % number, "%24.ct=application%2Fjson&%24.ce=utf-8")


def an_edge(folder: Path) -> Edge:
    """An edge device that routes all messages upstream, with module a."""
    edge = Edge(folder)
    edge.create("a")
    edge.route(up=ROUTE)
    return edge


def killed_after_writing(folder: Path, *numbers: int) -> Path:
    """The folder after a kill between appending lines and committing that they were appended."""

    async def turn() -> Path:
        edge = Edge(folder)
        edge.route(up=ROUTE)
        send(edge, *numbers)
        edge.store.commit()  # its callbacks append; what they write to the store is not committed
        return crash_image(folder, folder.with_name("image"))

    return asyncio.run(turn())


def test_lines_appended_before_a_kill_are_not_appended_again(folder: Path) -> None:
    """The length of the file shows which messages of the queue it contains."""
    send(an_edge(folder), 1)
    edge = Edge(killed_after_writing(folder, 2, 3))
    assert bodies(edge) == [1, 2, 3]
    assert list(edge.store.messages()) == []
    edge.route(up=ROUTE)
    send(edge, 4)
    assert bodies(edge) == [1, 2, 3, 4]


@pytest.mark.parametrize("torn_bytes", [1, 50, 300])
def test_an_incomplete_line_is_written_again(folder: Path, torn_bytes: int) -> None:
    """After a kill during the write; the rest of the queue follows, each message once."""
    an_edge(folder)
    image = killed_after_writing(folder, 1, 2)
    path = image / "upstream.jsonl"
    os.truncate(path, path.stat().st_size - torn_bytes)
    assert bodies(Edge(image)) == [1, 2]


def test_a_message_stored_and_not_yet_written_is_written_after_the_start(folder: Path) -> None:
    """After a kill between commit and append: its sender has the PUBACK."""
    an_edge(folder)
    image = killed_after_writing(folder, 1, 2)
    os.truncate(image / "upstream.jsonl", 0)
    assert bodies(Edge(image)) == [1, 2]


def test_a_removed_file_is_created_again(folder: Path) -> None:
    """No message counts as written because the old file was longer."""
    send(an_edge(folder), 1, 2)
    (folder / "upstream.jsonl").unlink()
    edge = Edge(folder)
    edge.route(up=ROUTE)
    send(edge, 3)
    assert bodies(edge) == [3]


def test_a_file_that_was_cut_inside_a_line_spoils_no_other_line(folder: Path) -> None:
    """The next line begins after a line break."""
    send(an_edge(folder), 1, 2)
    path = folder / "upstream.jsonl"
    os.truncate(path, path.stat().st_size - 20)
    edge = Edge(folder)
    edge.route(up=ROUTE)
    send(edge, 3)
    first, _cut, third = path.read_text().splitlines()
    assert [json.loads(line)["Body"] for line in (first, third)] == [1, 3]


def test_lines_wait_while_the_disk_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The messages are stored and acknowledged; their lines follow in order when there is space."""
    edge = an_edge(folder)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda *_: 0)
        send(edge, 1, 2)
        edge.clock.advance(0.9)
        assert bodies(edge) == []
    edge.clock.advance(0.2)
    assert bodies(edge) == [1, 2]


def text_of(properties: dict[str, str], system: dict[str, str]) -> str:
    """The stored head of a message with these properties."""
    return upstream.stored_head(RoutedMessage("/messages", properties, system, b""))


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
        (b'{"a":NaN}', b'"eyJhIjpOYU59"'),  # not JSON, so base64 as any other body
        (b"-Infinity", b'"LUluZmluaXR5"'),
        (b'"a\tb"', b'"ImEJYiI="'),
        (b'{"a":1}}', b'"eyJhIjoxfX0="'),
        (b"", b'""'),
        (b"[" * 100_000, None),
    ],
)
def test_a_json_body_is_written_as_sent_if_possible(body: bytes, shown: bytes | None) -> None:
    """Any body results in one line of ASCII and JSON; nothing in a body ends the line early."""
    stored = text_of({"q": '"}},'}, {"contentType": "application/JSON", "contentEncoding": "UTF-8"})
    line = upstream.line("2026-01-01T00:00:00.000Z", stored, body)
    assert line.isascii()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    document = json.loads(line, parse_constant=pytest.fail)
    assert document["Properties"] == {"q": '"}},'}
    assert list(document) == ["EnqueuedTimeUtc", "Properties", "SystemProperties", "Body"]
    if shown is not None:
        assert line.endswith(b',"Body":' + shown + b"}\n")


@pytest.mark.parametrize("system", [{}, {"messageId": "7"}, {"messageId": '"}}'}])
def test_a_line_has_the_stored_head_the_time_and_the_body(system: dict[str, str]) -> None:
    """With system properties and without."""
    line = upstream.line("T", text_of({"a": "ü"}, system), b"\xff")
    assert json.loads(line) == {
        "EnqueuedTimeUtc": "T",
        "Properties": {"a": "ü"},
        "SystemProperties": {**system, "enqueuedTime": "T"},
        "Body": "/w==",
    }
