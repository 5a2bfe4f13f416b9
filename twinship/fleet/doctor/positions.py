"""The line of every value of a JSON text.

>>> lines, twice = positions('{"a": {"b": 1,\\n "b": [2,\\n 3]}}')
>>> lines[("a", "b", 1)], twice
(3, [('a', 'b')])
"""

from __future__ import annotations

import json
import re

Path = tuple[str | int, ...]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|\n|[^\s{}\[\],:"]+', re.DOTALL)


def positions(text: str) -> tuple[dict[Path, int], list[Path]]:
    """Path of keys and indexes → line from 1, and the paths that appear twice. The text must be valid JSON.

    A value of an object has the line of its key.
    """
    lines: dict[Path, int] = {(): 1}
    twice: list[Path] = []
    path: list[str | int] = []
    opened: list[str] = []
    line, key_is_next = 1, False
    for match in _TOKEN.finditer(text):
        piece = match[0]
        if piece == "\n":
            line += 1
        elif piece in "{[":
            if opened and opened[-1] == "[":
                lines[tuple(path)] = line
            opened.append(piece)
            path.append("" if piece == "{" else 0)
            key_is_next = piece == "{"
        elif piece in "}]":
            opened.pop()
            path.pop()
            key_is_next = False
        elif piece == ",":
            key_is_next = opened[-1] == "{"
            if not key_is_next:
                path[-1] = int(path[-1]) + 1
        elif key_is_next and piece != ":":
            path[-1] = json.loads(piece)
            key_is_next = False
            if tuple(path) in lines:
                twice.append(tuple(path))
            lines[tuple(path)] = line
        elif opened and opened[-1] == "[":
            lines[tuple(path)] = line
    return lines, twice
