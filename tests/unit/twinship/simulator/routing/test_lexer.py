"""The tokens of a route, split as edgeHub's lexer does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.routing import lexer
from twinship.simulator.routing.lexer import ConditionError, Kind, tokenise, unquote


def tokens_of(text: str) -> list[tuple[str, str]]:
    """Kind and text of each token without the last."""
    return [(token.kind.name, token.text) for token in tokenise(text)[:-1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sElEcT from Into", [("SELECT", "sElEcT"), ("FROM", "from"), ("INTO", "Into")]),
        ("WHERE", [("WHERE", "WHERE")]),
        ("and Or NOT", [("AND", "and"), ("OR", "Or"), ("NOT", "NOT")]),
        ("true True", [("TRUE", "true"), ("NAME", "True")]),
        ("null undefined", [("NULL", "null"), ("UNDEFINED", "undefined")]),
        ("12 -12 0x1F", [("INTEGER", "12"), ("INTEGER", "-12"), ("HEX", "0x1F")]),
        ("1.5 -.5 1e3", [("REAL", "1.5"), ("REAL", "-.5"), ("REAL", "1e3")]),
        ("fromage", [("NAME", "fromage")]),
        ("a || b", [("NAME", "a"), ("SYMBOL", "||"), ("NAME", "b")]),
        ("a||b", [("NAME", "a||b")]),
        ("3 - 1", [("INTEGER", "3"), ("SYMBOL", "-"), ("INTEGER", "1")]),
        ("3-1", [("NAME", "3-1")]),
        ("a=b", [("NAME", "a"), ("SYMBOL", "="), ("NAME", "b")]),
        ("a<=b<>c", [("NAME", "a"), ("SYMBOL", "<="), ("NAME", "b"), ("SYMBOL", "<>"), ("NAME", "c")]),
        ("$body.a[0].b", [("SYSTEM", "$body.a[0].b")]),
        ("{ $name }", [("SYMBOL", "{"), ("SYSTEM", "$name"), ("SYMBOL", "}")]),
        ("a[0]", [("PATH", "a[0]")]),
        ("'it' \"is\"", [("STRING", "'it'"), ("STRING", '"is"')]),
        ("a /* b */ c", [("NAME", "a"), ("NAME", "c")]),
        ("/messages/*", [("SYMBOL", "/"), ("NAME", "messages"), ("SYMBOL", "/"), ("SYMBOL", "*")]),
    ],
)
def test_the_longest_match_wins(text: str, expected: list[tuple[str, str]]) -> None:
    """On a tie the earlier rule wins: operators without spaces are part of a name."""
    assert tokens_of(text) == expected


def test_columns_count_from_one() -> None:
    """The end has a column too, for the error about a missing token."""
    assert [token.column for token in tokenise("a  = 'b'")] == [1, 4, 6, 9]
    assert tokenise("x")[-1].kind is Kind.END


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        (r"'a\'b'", "a'b"),
        (r'"a\"b"', 'a"b'),
        (r"'a\\b'", "a\\b"),
        (r"'\u00e4\u20AC'", "ä€"),
        ("'\"'", '"'),
        ("''", ""),
    ],
)
def test_escapes_in_strings(literal: str, text: str) -> None:
    """Quotes, a backslash and four hex digits are valid escapes."""
    assert tokens_of(literal) == [("STRING", literal)]
    assert unquote(literal) == text


@pytest.mark.parametrize(
    ("text", "column"), [("a = 'b", 5), ('"', 1), ("a ? b", 3), ("x @", 3), (r"'\n'", 1)]
)
def test_a_bad_token_is_refused_with_its_column(text: str, column: int) -> None:
    """An unclosed string and an unknown character are named with their column."""
    with pytest.raises(ConditionError) as refused:
        tokenise(text)
    assert refused.value.column == column


@given(st.text())
def test_tokens_cover_the_text(text: str) -> None:
    """Only spaces and comments are skipped, and only ConditionError is raised."""
    try:
        tokens = tokenise(text)
    except ConditionError:
        return
    for token in tokens:
        assert text[token.column - 1 :].startswith(token.text)


def test_a_long_text_is_refused() -> None:
    """Before it is read."""
    assert len(tokens_of("a " * 4096)) == 4096
    with pytest.raises(ConditionError, match="8193 characters, at most 8192"):
        tokenise("a" * 8193)


@pytest.mark.parametrize(
    "text", ["/* " * 2700, "/* " * 2700 + "*/", "/**/" * 2048, "FROM /* WHERE /* x */ a"]
)
def test_a_comment_is_looked_for_only_where_one_ends(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is linear; without an end `/*` is two symbols."""
    read = 0
    (comment,) = (pattern for kind, pattern in lexer._RULES if kind is Kind.COMMENT)

    class Counted:
        def match(self, text: str, at: int) -> re.Match[str] | None:
            nonlocal read
            found = comment.match(text, at)
            if text.startswith("/*", at):
                read += (found.end() if found else len(text)) - at
            return found

    monkeypatch.setattr(lexer, "_RULES", [*lexer._RULES[:-1], (Kind.COMMENT, Counted())])
    tokenise(text)
    assert read <= len(text)
