"""The tokens of a route, split as edgeHub's lexer does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.common import tokens as language
from twinship.simulator.common.tokens import ExpressionError, Kind, Token
from twinship.simulator.routing.lexer import RULES, unquote


def tokenise(text: str) -> list[Token]:
    """The tokens of a route."""
    return language.tokenise(text, RULES)


def tokens_of(text: str) -> list[tuple[str, str]]:
    """Kind and text of each token without the last."""
    return [(token.kind.name, token.text) for token in tokenise(text)[:-1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sElEcT from Into", [("WORD", "sElEcT"), ("WORD", "from"), ("WORD", "Into")]),
        ("WHERE", [("WORD", "WHERE")]),
        ("and Or NOT", [("WORD", "and"), ("WORD", "Or"), ("WORD", "NOT")]),
        ("true True", [("WORD", "true"), ("NAME", "True")]),
        ("null undefined", [("WORD", "null"), ("WORD", "undefined")]),
        ("12 -12 0x1F", [("NUMBER", "12"), ("NUMBER", "-12"), ("HEX", "0x1F")]),
        ("1.5 -.5 1e3", [("NUMBER", "1.5"), ("NUMBER", "-.5"), ("NUMBER", "1e3")]),
        ("fromage", [("NAME", "fromage")]),
        ("a || b", [("NAME", "a"), ("SYMBOL", "||"), ("NAME", "b")]),
        ("a||b", [("NAME", "a||b")]),
        ("3 - 1", [("NUMBER", "3"), ("SYMBOL", "-"), ("NUMBER", "1")]),
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
    with pytest.raises(ExpressionError) as refused:
        tokenise(text)
    assert refused.value.column == column


@given(st.text())
def test_tokens_cover_the_text(text: str) -> None:
    """Only spaces and comments are skipped, and only ExpressionError is raised."""
    try:
        tokens = tokenise(text)
    except ExpressionError:
        return
    for token in tokens:
        assert text[token.column - 1 :].startswith(token.text)


def test_a_long_text_is_refused() -> None:
    """Before it is read."""
    assert len(tokens_of("a " * 4096)) == 4096
    with pytest.raises(ExpressionError, match="8193 characters, at most 8192"):
        tokenise("a" * 8193)


@pytest.mark.parametrize(
    "text", ["/* " * 2700, "/* " * 2700 + "*/", "/**/" * 2048, "FROM /* WHERE /* x */ a"]
)
def test_a_comment_is_looked_for_only_where_one_ends(text: str) -> None:
    """The time is linear; without an end `/*` is two symbols."""
    read = 0
    (comment,) = (pattern for kind, pattern in RULES if kind is Kind.COMMENT)

    class Counted:
        def match(self, text: str, at: int) -> re.Match[str] | None:
            nonlocal read
            found = comment.match(text, at)
            if text.startswith("/*", at):
                read += (found.end() if found else len(text)) - at
            return found

    rules = [*(rule for rule in RULES if rule[0] is not Kind.COMMENT), (Kind.COMMENT, Counted())]
    language.tokenise(text, rules)  # type: ignore[arg-type]
    assert read <= len(text)
