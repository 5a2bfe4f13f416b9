"""The lexical rules of edgeHub's routes and conditions (ref 4.6).

A name may contain `+ - * | ! . '`, so `a || b` is three tokens and `a||b` is one name.
"""

from __future__ import annotations

import re
from typing import Final

from twinship.simulator.common.tokens import Kind, compiled

_NAME_STOPS = r'()<>@,;:\\"/?={} \t\n\r'
_ESCAPE = r"\\(?:[\"'\\]|u[0-9a-fA-F]{4})"

# In the order that decides a tie.
RULES: Final = compiled(
    (Kind.WORD, r"(?i:select|from|where|into|and|or|not)|true|false|null|undefined"),
    (Kind.STRING, rf'"(?:{_ESCAPE}|[^"\\])*"|\'(?:{_ESCAPE}|[^\'\\])*\''),
    (Kind.UNTERMINATED, rf'"(?:{_ESCAPE}|[^"\\])*|\'(?:{_ESCAPE}|[^\'\\])*'),
    (Kind.NUMBER, r"-?[0-9]+"),
    (Kind.HEX, r"0[xX][0-9a-fA-F]+"),
    (Kind.NUMBER, r"-?[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|-?[0-9]*[eE][+-]?[0-9]+"),
    (Kind.SYMBOL, r"!=|<>|<=|>=|\|\||\?\?|[(),+\-*/%=<>{}]"),
    (Kind.SYSTEM, rf"\$[^{_NAME_STOPS}]+"),
    (Kind.NAME, rf"[^{_NAME_STOPS}\[\]]+"),
    (Kind.PATH, rf"[^{_NAME_STOPS}]+"),
    (Kind.SPACE, r"[ \t\r\n]+"),
    (Kind.COMMENT, r"/\*.*?\*/"),
)


def unquote(literal: str) -> str:
    """The text of a STRING token without quotes and escapes."""
    plain = re.sub(r"\\[uU]([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), literal[1:-1])
    return re.sub(r"\\([\"'\\])", r"\1", plain)
