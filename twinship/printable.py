r"""Text of a device, a twin or a file as it may be shown on a terminal.

A text must not move the cursor, forge a line, change the reading direction or hide characters. Every
character that Unicode does not call printable, and each one that is drawn as nothing, is replaced by its
escape sequence as Python writes it.

>>> print(printable("camera\x1b[2J\nok \u202e"))
camera\x1b[2J\nok \u202e
>>> printable("käse 3 °C")
'käse 3 °C'
"""

from __future__ import annotations

import re

# Printable by their category, but drawn as nothing: joiners, fillers and variation selectors.
_DRAWN_AS_NOTHING = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def printable(text: str) -> str:
    """The text on one line, with every character that is not visible replaced by its escape sequence."""
    if text.isprintable() and not _DRAWN_AS_NOTHING.search(text):
        return text
    return "".join(
        each if each.isprintable() and not _DRAWN_AS_NOTHING.match(each) else _escaped(each) for each in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
